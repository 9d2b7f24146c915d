"""Two lists for the back matter: all figures, and all works that the chapters cite."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from course_claims import bibliography, in_order, reference
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective


class ListNode(nodes.General, nodes.Element):
    """The place of a list, filled when all pages are read."""


class FiguresDirective(SphinxDirective):
    """``{figure-list}``: all numbered figures."""

    def run(self) -> list[nodes.Node]:
        node = ListNode()
        node["kind"] = "figures"
        return [node]


class WorksDirective(SphinxDirective):
    """``{work-list}``: all cited works, each with the pages that cite it."""

    def run(self) -> list[nodes.Node]:
        node = ListNode()
        node["kind"] = "works"
        return [node]


def _link(app: Sphinx, page: str, target: str, anchor: str = "", text: str = "") -> str:
    address = app.builder.get_relative_uri(page, target) + (f"#{anchor}" if anchor else "")
    words = html.escape(text or app.env.titles[target].astext())
    return f'<a class="reference internal" href="{address}">{words}</a>'


def markup(text: str) -> nodes.raw:
    """Return HTML as it is."""
    return nodes.raw("", text, format="html")


def first_sentence(caption: nodes.Element) -> nodes.inline:
    """Return a caption up to its first full stop."""
    found: list[nodes.Node] = []
    for child in caption.children:
        if not isinstance(child, nodes.Text):
            found.append(child)
            continue
        text, stop, _ = child.partition(". ")
        found.append(nodes.Text(text))
        if stop:
            break
    if found and isinstance(found[-1], nodes.Text):
        found[-1] = nodes.Text(found[-1].rstrip("."))
    return nodes.inline("", "", *found, nodes.Text("."))


def figures(app: Sphinx, page: str) -> list[nodes.Node]:
    """Return the list of figures, grouped by page."""
    parts: list[nodes.Node] = []
    for name in in_order(app.env):
        found = app.env.toc_fignumbers.get(name, {}).get("figure", {})
        if not found:
            continue
        document = app.env.get_doctree(name)
        captions = {
            anchor: caption
            for figure in document.findall(nodes.figure)
            for caption in figure.findall(nodes.caption)
            for anchor in figure["ids"]
        }
        document.clear()
        document.extend(captions.values())
        for link in document.findall(addnodes.pending_xref):
            link["refdoc"] = page  # from which it leads
        app.env.resolve_references(document, page, app.builder)
        parts.append(markup(f"<p><strong>{_link(app, page, name)}</strong></p><ul>"))
        for anchor, number in sorted(found.items(), key=lambda entry: entry[1]):
            words = f"Figure {'.'.join(map(str, number))}"
            parts.append(markup(f"<li>{_link(app, page, name, anchor, words)}: "))
            if anchor in captions:
                parts.append(first_sentence(captions[anchor]))
            parts.append(markup("</li>"))
        parts.append(markup("</ul>"))
    return parts


def works(app: Sphinx, page: str) -> list[nodes.Node]:
    """Return the list of works with their addresses and the pages that cite them."""
    citing: dict[str, list[str]] = {}
    for entry in app.env.get_domain("cite").citation_refs:
        for key in (target.key for target in entry.targets):
            citing.setdefault(key, []).append(entry.docname)
    order = in_order(app.env)
    items = []
    for key, entry in sorted(
        bibliography(app).items(), key=lambda item: reference(item[1])[0].lower()
    ):
        pages = sorted(set(citing.get(key, ())) & set(order), key=order.index)
        if not pages:
            continue
        name, address = reference(entry)
        title = html.escape(entry.fields.get("title", "").replace("{", "").replace("}", ""))
        if address:
            title = f'<a class="reference external" href="{html.escape(address)}">{title}</a>'
        where = html.escape(entry.fields.get("journal") or entry.fields.get("booktitle") or "")
        links = ", ".join(_link(app, page, name_) for name_ in pages)
        venue = f" <em>{where}</em>." if where else ""
        items.append(f"<li>{html.escape(name)}. {title}.{venue} Cited in {links}.</li>")
    return [markup(f'<ul class="works">{"".join(items)}</ul>')]


MAKERS: dict[str, Callable[[Sphinx, str], list[nodes.Node]]] = {"figures": figures, "works": works}


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace the placeholders of a page."""
    for node in list(doctree.findall(ListNode)):
        node.replace_self(MAKERS[node["kind"]](app, docname))


def note(app: Sphinx, doctree: nodes.document) -> None:
    """Remember which pages hold a list."""
    if not hasattr(app.env, "course_list_pages"):
        app.env.course_list_pages = set()
    if any(doctree.findall(ListNode)):
        app.env.course_list_pages.add(app.env.docname)


def rewrite(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Write the lists anew in every build: any page may have changed them."""
    return sorted(getattr(env, "course_list_pages", set()) & env.found_docs)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_node(ListNode)
    app.add_directive("figure-list", FiguresDirective)
    app.add_directive("work-list", WorksDirective)
    app.connect("doctree-read", note)
    app.connect("env-updated", rewrite)
    app.connect("doctree-resolved", fill)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
