"""Show a submission in a browser in bounded time.

The time to highlight code or to render Markdown may grow with the square of its length: half a
minute for 20,000 characters, hours for a megabyte, while the feedback of all others waits. What
takes too long is shown as it is.
"""

from __future__ import annotations

import functools
import html
import signal
import threading
from collections.abc import Callable
from typing import Any

PATIENCE_S = 1.0
LEAST_S = 0.1
LONGEST_LINE = 2000
LONGEST = 100_000

# Shared, so that many slow cells do not add up to the time of one by one.
_slow = 0


class _TooSlowError(BaseException):
    """Passes through code that catches ``Exception``."""


def _stop(*_: object) -> None:
    raise _TooSlowError


def _bounded(render: Callable[[], str], source: str) -> str | None:
    """Return what `render` gives, or None where that takes too long."""
    global _slow
    _highlighter()
    if len(source) > LONGEST:
        return None
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        return render() if max(map(len, source.split("\n"))) <= LONGEST_LINE else None
    previous = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, max(LEAST_S, PATIENCE_S / (1 + _slow)))
    try:
        return render()
    except _TooSlowError:
        _slow += 1
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@functools.cache
def _highlighter() -> Any:
    from nbconvert.filters import Highlight2HTML

    highlighter = Highlight2HTML(pygments_lexer="ipython3")
    highlighter("pass")  # the first time imports much
    return highlighter


def highlight_code(source: str, language: str | None = None, metadata: Any = None) -> str:
    """Return a code cell as HTML, in colours unless that takes too long."""
    found = _bounded(lambda: str(_highlighter()(source, language, metadata)), source)
    if found is not None:
        return found
    return f'<div class="highlight hl-ipython3"><pre>{html.escape(source)}</pre></div>'


def markdown2html(source: str) -> str:
    """Return a Markdown cell as HTML, or as plain text if that takes too long."""
    from nbconvert.filters import markdown2html_mistune

    found = _bounded(lambda: str(markdown2html_mistune(source)), source)
    return f"<pre>{html.escape(source)}</pre>" if found is None else found
