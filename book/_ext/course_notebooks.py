"""Offer each executed page as a notebook that reads well and runs in JupyterLab.

JupyterLab knows neither the directives nor the roles of the book. So a page's Markdown cells are
rewritten: boxes become quotations, answers stay folded, included library code stands there as code,
and references, numbers and citations become the words that the page prints.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from course_claims import bibliography, reference
from course_math import MACROS, wrapped
from docutils import nodes
from jupyter_cache import get_cache
from pybtex.database import Entry
from sphinx.application import Sphinx

FENCE = re.compile(
    r"^(?P<fence>:{3,}|`{3,})\{(?P<name>[\w:-]+)\}[ \t]*(?P<title>[^\n]*)\n"
    r"(?P<body>.*?)^(?P=fence)[ \t]*$\n?",
    re.M | re.S,
)
ROLE = re.compile(r"\{(?P<role>[\w:-]+)\}`(?P<text>[^`]+)`")
FORMULA = re.compile(
    r"^\$\$\s*\n?(?P<tex>.*?)\n?\$\$(?:[ \t]*\((?P<label>[\w-]+)\))?[ \t]*$", re.M | re.S
)
ABOUT = """\
*This notebook is a chapter of **{book}**, made from the book's page. It runs in any Jupyter whose
Python has the course's library: `make lab` in the course's folder starts one, and
`pip install -e .` there adds the library to another.*
"""


class Page:
    """What the roles of one page need to know from the rest of the book."""

    def __init__(self, app: Sphinx, name: str) -> None:
        self.env, self.name = app.env, name
        self.works: dict[str, Entry] = bibliography(app)
        self.cited: list[str] = []
        self.boxes: dict[str, str] = {}
        path = Path(app.env.mystnb_config.output_folder) / f"{name}.glue.json"
        self.glued = json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def glue(self, key: str) -> str:
        """Return a computed number."""
        output = self.glued.get(key)
        return str(ast.literal_eval(output["data"]["text/plain"])) if output else f"`{key}`"

    def equation(self, label: str) -> str:
        """Return an equation's number."""
        _, number = self.env.domaindata["math"]["objects"].get(label, ("", "?"))
        return str(number)

    def figure(self, label: str) -> str:
        """Return "Figure 3" or the like."""
        page, anchor, _ = self.env.domaindata["std"]["labels"].get(label, ("", "", ""))
        if not page:
            page, anchor = self.env.domaindata["std"]["anonlabels"].get(label, ("", ""))
        numbers = self.env.toc_fignumbers.get(page, {}).get("figure", {}).get(anchor)
        return "Figure " + ".".join(map(str, numbers)) if numbers else "the figure"

    def title(self, label: str) -> str:
        """Return the title of the section with a label."""
        *_, title = self.env.domaindata["std"]["labels"].get(label, ("", "", label))
        return f"*{title}*"

    def citation(self, keys: str, *, in_text: bool) -> str:
        """Return works as (Elman 1990) or as Elman (1990)."""
        found = []
        for key in keys.split(","):
            key = key.strip()
            if key in self.works:
                self.cited.append(key)
                name, _ = reference(self.works[key])
                found.append(name if in_text else name.replace(" (", " ").rstrip(")"))
        text = "; ".join(found)
        return text if in_text else f"({text})"

    def references(self) -> str:
        """Return the list of the works cited so far."""
        lines = []
        for key in sorted(set(self.cited)):
            name, address = reference(self.works[key])
            title = self.works[key].fields.get("title", "").replace("{", "").replace("}", "")
            lines.append(f"- {name}: *{title}*." + (f" <{address}>" if address else ""))
        return "\n".join(lines) + "\n"


def role(page: Page) -> Callable[[re.Match[str]], str]:
    """Return the function that replaces one role by words."""

    def replace(match: re.Match[str]) -> str:
        name, text = match["role"], match["text"]
        titled = re.fullmatch(r"(.*?)\s*<([^>]+)>", text)
        label, words = (titled[2], titled[1]) if titled else (text, "")
        if name == "glue:text":
            key = re.sub(r":\.?\d*[a-z%]$", "", text)
            return page.glue(key) if "::" not in key else f"`{key}`"
        if name == "eq":
            return f"({page.equation(label)})"
        if name == "numref":
            return words.replace("%s", "") or page.figure(label)
        if name == "prf:ref":
            return words or page.boxes.get(label, f"*{label}*")
        if name in ("ref", "doc"):
            return words or page.title(label)
        if name.startswith("cite"):
            return page.citation(text, in_text=name.startswith("cite:t"))
        if name == "math":
            return f"${text}$"
        if name in ("sub", "sup"):
            return f"<{name}>{text}</{name}>"
        return f"`{(words or label).lstrip('~')}`"

    return replace


def included(path: Path, options: dict[str, str]) -> str:
    """Return the part of a source file that a ``literalinclude`` shows."""
    source = path.read_text("utf-8")
    wanted = options.get("pyobject")
    if wanted is None:
        return source
    scope: Any = ast.parse(source)
    for part in wanted.split("."):
        scope = next(n for n in scope.body if getattr(n, "name", None) == part)
    first = min([scope.lineno, *(d.lineno for d in scope.decorator_list)])
    return textwrap.dedent("\n".join(source.splitlines()[first - 1 : scope.end_lineno])) + "\n"


def quoted(text: str) -> str:
    """Return a text as a Markdown quotation."""
    return "".join(f"> {line}".rstrip() + "\n" for line in text.strip().splitlines())


def directive(page: Page, folder: Path) -> Callable[[re.Match[str]], str]:
    """Return the function that replaces one directive by plain Markdown."""

    def replace(match: re.Match[str]) -> str:
        name, title, body = match["name"], match["title"].strip(), match["body"]
        options: dict[str, str] = {}
        lines = body.splitlines(keepends=True)
        while lines and (option := re.match(r":([\w-]+):\s*(.*)", lines[0])):
            options[option[1]] = option[2].strip()
            lines.pop(0)
        body = FENCE.sub(replace, "".join(lines)).strip()
        if name == "literalinclude":
            return f"```python\n{included((folder / title).resolve(), options)}```\n"
        if name == "bibliography":
            return page.references()
        if name == "math":
            return f"$$\n{body}\n$$\n"
        if name == "prf:proof":
            return quoted(f"*Proof.* {body} ∎")
        if name.startswith("prf:"):
            kind = name.removeprefix("prf:").capitalize()
            return quoted(f"**{kind}{f' ({title})' if title else ''}.** {body}")
        if "dropdown" in options.get("class", "").split() or name == "dropdown":
            return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>\n"
        if name == "admonition":
            return quoted(f"**{title}**\n\n{body}")
        if name in ("note", "tip", "warning", "important", "seealso"):
            return quoted(f"**{name.capitalize()}.** {body}")
        return body + "\n"

    return replace


def formula(page: Page) -> Callable[[re.Match[str]], str]:
    """Return the function that gives a display formula its alignment and its number."""

    def replace(match: re.Match[str]) -> str:
        tex = wrapped(match["tex"].strip())
        tag = f" \\tag{{{page.equation(match['label'])}}}" if match["label"] else ""
        return f"$$\n{tex}{tag}\n$$"

    return replace


def plain(text: str, page: Page, folder: Path) -> str:
    """Return a Markdown cell as JupyterLab can show it."""
    for match in FENCE.finditer(text):
        label = re.search(r"^:label:\s*(\S+)", match["body"], re.M)
        if label and match["name"].startswith("prf:"):
            title = f" “{match['title'].strip()}”" if match["title"].strip() else ""
            page.boxes[label[1]] = f"the {match['name'].removeprefix('prf:')}{title}"
    text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.M)
    text = re.sub(r"^(% .*|\+\+\+.*)\n", "", text, flags=re.M)
    text = ROLE.sub(role(page), FORMULA.sub(formula(page), text))
    return FENCE.sub(directive(page, folder), text).strip() + "\n"


def macros(text: str) -> str:
    """Return the definitions of the book's TeX macros that a text uses."""
    used = {name: tex for name, tex in MACROS.items() if re.search(rf"\\{name[1:]}\b", text)}
    lines = [
        f"\\newcommand{{{name}}}{'[1]' if '#1' in tex else ''}{{{tex}}}"
        for name, tex in used.items()
    ]
    return f"$\n{chr(10).join(lines)}\n$\n" if lines else ""


def with_outputs(app: Sphinx, source: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a notebook with the outputs that myst-nb has left in the cache."""
    cache = get_cache(app.env.mystnb_config.execution_cache_path)
    try:
        return cache.merge_match_into_notebook(source)[1]
    except KeyError:
        return source


def notebook(app: Sphinx, name: str, executed: Path) -> nbformat.NotebookNode:
    """Return the notebook of a page."""
    source: Any = with_outputs(app, nbformat.read(executed, as_version=4))
    page, folder = Page(app, name), Path(app.env.doc2path(name)).parent
    cells: list[nbformat.NotebookNode] = []
    for cell in source.cells:
        if cell.cell_type == "markdown":
            # A page's Markdown may be split into cells; an empty one says nothing.
            if text := plain(cell.source, page, folder).strip():
                cells.append(nbformat.v4.new_markdown_cell(text))
            continue
        tags = cell.metadata.get("tags", [])
        metadata: dict[str, Any] = {"tags": tags} if tags else {}
        if {"hide-input", "hide-cell", "remove-input", "remove-cell"} & set(tags):
            metadata["jupyter"] = {"source_hidden": True}
        outputs = [
            output
            for output in cell.outputs
            if not any(kind.startswith("application/papermill") for kind in output.get("data", {}))
        ]
        for output in outputs:
            output.get("metadata", {}).pop("rnncourse_claim", None)
        cells.append(
            nbformat.v4.new_code_cell(
                cell.source,
                outputs=outputs,
                metadata=metadata,
                execution_count=cell.execution_count,
            )
        )
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if figure.get("caption"):
            number = page.figure(figure["name"]) if figure.get("name") else "Figure"
            caption = ROLE.sub(role(page), figure["caption"].strip())
            cells.append(nbformat.v4.new_markdown_cell(f"**{number}.** {caption}"))
    texts = "".join(cell.source for cell in cells if cell.cell_type == "markdown")
    about = ABOUT.format(book=app.config.html_title) + macros(texts)
    cells.insert(1 if len(cells) > 1 else 0, nbformat.v4.new_markdown_cell(about))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def offer(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Write the notebook beside the page's source and name it to the theme's download menu."""
    executed = Path(app.env.mystnb_config.output_folder) / f"{pagename}.ipynb"
    if doctree is None or app.builder.format != "html" or not executed.is_file():
        return
    target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook(app, pagename, executed), target)
    context["ipynb_source"] = f"{pagename}.ipynb"


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("html-page-context", offer)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
