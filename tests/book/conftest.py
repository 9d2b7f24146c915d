"""The built book, and a browser to look at it."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from bs4 import BeautifulSoup
from built_book import HTML, ROOT, Book


@functools.cache
def build() -> str:
    """Build the book if anything has changed; return what the build said when it failed."""
    done = subprocess.run(
        [sys.executable, "book/build.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else (done.stdout + done.stderr)[-4000:]


@pytest.fixture(scope="session")
def book() -> Book:
    """Return the built book."""
    if failure := build():
        pytest.fail(f"the book does not build:\n{failure}", pytrace=False)
    files = sorted(p for p in HTML.rglob("*.html") if "_static" not in p.parts)
    return Book(
        HTML,
        {
            path.relative_to(HTML).as_posix(): BeautifulSoup(path.read_text("utf-8"), "html.parser")
            for path in files
        },
    )


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def server(book: Book) -> Iterator[str]:
    """Serve the book on localhost; yield its address."""
    handler = functools.partial(_Quiet, directory=str(book.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}"
        listener.shutdown()


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of the browser."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        pytest.fail("the browser tests need Chromium: apt-get install chromium", pytrace=False)
    return found
