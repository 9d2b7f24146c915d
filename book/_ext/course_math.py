"""Render TeX while the book is built, with KaTeX in an embedded JavaScript engine.

The pages then need no script and no other site for their formulas, the formulas are there at first
paint, and a TeX error is a build warning with file and line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

log = logging.getLogger(__name__)

KATEX = Path(__file__).parent / "katex" / "katex.min.js"
MACROS = {
    r"\R": r"\mathbb{R}",
    r"\E": r"\mathbb{E}",
    r"\diag": r"\operatorname{diag}",
    r"\trace": r"\operatorname{tr}",
    r"\softmax": r"\operatorname{softmax}",
    r"\sigmoid": r"\operatorname{\sigma}",
    r"\argmax": r"\operatorname*{arg\,max}",
    r"\argmin": r"\operatorname*{arg\,min}",
    r"\norm": r"\left\lVert #1\right\rVert",
    r"\abs": r"\left\lvert #1\right\rvert",
    r"\transpose": r"^{\mathsf{T}}",
}
_PROLOGUE = """
var self = globalThis, window = globalThis, document = {compatMode: "CSS1Compat"};
var console = {log() {}, warn() {}, error() {}};
"""
_RENDER = """
function render(tex, display) {
  return katex.renderToString(tex, {
    displayMode: display, output: "htmlAndMathml", throwOnError: true, strict: false});
}
"""


_ARGUMENT = re.compile(r"\s*(\\[A-Za-z]+|\\.|[^{])")


def expanded(tex: str) -> str:
    """Return TeX without the course's own macros, so that it can be pasted anywhere."""
    for name, body in MACROS.items():
        while found := re.search(re.escape(name) + r"(?![A-Za-z])", tex):
            text, end = body, found.end()
            if "#1" in body:
                start = end
                if single := _ARGUMENT.match(tex, start):
                    argument, end = single[1], single.end()
                else:
                    depth = 0
                    for part in re.finditer(r"\\.|[{}]", tex[start:]):
                        depth += {"{": 1, "}": -1}.get(part[0], 0)
                        end = start + part.end()
                        if depth == 0:
                            break
                    argument = tex[start:end].strip()[1:-1]
                text = body.replace("#1", argument)
            # A command's name would swallow a letter that follows.
            gap = " " if re.search(r"\\[A-Za-z]+$", text) and tex[end : end + 1].isalpha() else ""
            tex = tex[: found.start()] + text + gap + tex[end:]
    return tex


class Renderer:
    """KaTeX, started once per build; equal formulas are rendered once."""

    def __init__(self) -> None:
        self._engine = MiniRacer()
        self._engine.eval(_PROLOGUE + KATEX.read_text("utf-8") + _RENDER + ";0")
        self._done: dict[tuple[str, bool], str] = {}

    def __call__(self, tex: str, display: bool) -> str:
        """Return a formula's markup; raise `JSEvalException` when the TeX is wrong."""
        key = (tex, display)
        if key not in self._done:
            self._done[key] = self._engine.call("render", expanded(tex), display)
        return self._done[key]


def _render(translator: HTML5Translator, node: nodes.Element, tex: str, display: bool) -> str:
    app = translator.builder.app
    if not hasattr(app, "course_katex"):
        app.course_katex = Renderer()
    try:
        return app.course_katex(tex, display)
    except JSEvalException as error:
        reason = next((s for s in str(error).splitlines() if "KaTeX" in s), str(error))
        log.warning("%s in %r", reason.strip(), tex, location=node, type="katex")
        return f"<code>{translator.encode(tex)}</code>"


def visit_math(self: HTML5Translator, node: nodes.Element) -> None:
    """Write an inline formula."""
    self.body.append(self.starttag(node, "span", "", CLASS="math-inline"))
    self.body.append(_render(self, node, node.astext(), display=False) + "</span>")
    raise nodes.SkipNode


def wrapped(tex: str) -> str:
    """Return a display formula with the environment that its line breaks and alignments need."""
    blocks = [block for block in tex.split("\n\n") if block.strip()]
    aligned = [
        f"\\begin{{aligned}}{block}\\end{{aligned}}"
        if ("\\\\" in block or "&" in block) and not block.lstrip().startswith("\\begin{")
        else block
        for block in blocks
    ]
    if len(aligned) == 1:
        return aligned[0]
    return "\\begin{gathered}" + "\\\\".join(aligned) + "\\end{gathered}"


def visit_displaymath(self: HTML5Translator, node: nodes.Element) -> None:
    """Write a display formula with its number and permanent link."""
    self.body.append(self.starttag(node, "div", CLASS="math-block"))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    tex = node.astext()
    raw = node.get("nowrap") or node.get("no-wrap")
    self.body.append(_render(self, node, tex if raw else wrapped(tex), display=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer under the name ``katex``."""
    app.add_html_math_renderer("katex", (visit_math, None), (visit_displaymath, None))
    app.add_css_file("katex/katex.min.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
