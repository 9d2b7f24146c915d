"""Collect the claims of all executed pages into the ledger.

`rnncourse.claims` leaves each claim in the outputs of the notebook; myst-nb keeps those outputs,
from the cache too, in one ``<page>.glue.json`` per page. The directive ``claims-ledger`` turns them
into a table, and ``claims-count`` is a role for their number. A claim that names a source which the
bibliography does not have, and an id that two pages use, are warnings.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from docutils import nodes
from pybtex.database import Entry, parse_file
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

log = logging.getLogger(__name__)

METADATA = "rnncourse_claim"
KINDS = {"measured": "experiment", "proof": "proof, checked", "source": "source"}
POWER = re.compile("10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "−0123456789")
_SOURCE = re.compile(r'<span class="claim-source">([^<]+)</span>')


class LedgerNode(nodes.General, nodes.Element):
    """The place of the table, filled when all pages are read."""


class CountNode(nodes.Inline, nodes.TextElement):
    """The place of the number of claims."""


class LedgerDirective(SphinxDirective):
    """``{claims-ledger}``: the table of all claims."""

    def run(self) -> list[nodes.Node]:
        return [LedgerNode()]


class CountRole(SphinxRole):
    """``{claims-count}`all```: how many claims there are, all or of one kind."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        node = CountNode()
        node["kind"] = self.text
        return [node], []


def collected(env: BuildEnvironment) -> list[tuple[str, dict[str, Any]]]:
    """Return page and record of each claim, in the order of the book."""
    folder = Path(env.mystnb_config.output_folder)
    claims = []
    for page in in_order(env):
        path = folder / f"{page}.glue.json"
        if path.is_file():
            for output in json.loads(path.read_text("utf-8")).values():
                if record := output["metadata"].get(METADATA):
                    claims.append((page, record))
    return claims


def in_order(env: BuildEnvironment) -> list[str]:
    """Return the pages as the book's table of contents orders them."""
    order: list[str] = []

    def walk(page: str) -> None:
        if page not in order:
            order.append(page)
            for child in env.toctree_includes.get(page, []):
                walk(child)

    walk(env.config.root_doc)
    return order


def bibliography(app: Sphinx) -> dict[str, Entry]:
    """Return the entries of the bibliography by key."""
    entries: dict[str, Entry] = {}
    for name in app.config.bibtex_bibfiles:
        entries |= dict(parse_file(str(Path(app.srcdir) / name)).entries)
    return entries


def reference(entry: Entry) -> tuple[str, str]:
    """Return a short name of a work and its address ("" if none)."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [" ".join(p.prelast_names + p.last_names).strip("{}") for p in people]
    who = " and ".join(names) if len(names) <= 2 else f"{names[0]} et al."
    doi, url = entry.fields.get("doi"), entry.fields.get("url", "")
    address = f"https://doi.org/{doi}" if doi else url
    if not address and entry.fields.get("eprint"):
        address = f"https://arxiv.org/abs/{entry.fields['eprint']}"
    return f"{who or entry.fields.get('title', '')} ({entry.fields.get('year', 'n.d.')})", address


def _link(key: str, works: dict[str, Entry]) -> str:
    if key not in works:
        return html.escape(key)
    name, address = reference(works[key])
    if not address:
        return html.escape(name)
    return f'<a class="reference external" href="{html.escape(address)}">{html.escape(name)}</a>'


def check(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Warn about clashes and missing sources; rewrite the pages that show the ledger."""
    claims = collected(env)
    works = bibliography(app)
    for name, count in Counter(record["id"] for _, record in claims).items():
        if count > 1:
            pages = [page for page, record in claims if record["id"] == name]
            log.warning("claim %s is stated on %s", name, " and ".join(pages), type="claims")
    for page, record in claims:
        if record["source"] and record["source"] not in works:
            log.warning(
                "claim %s: no %r in the bibliography",
                record["id"],
                record["source"],
                location=page,
                type="claims",
            )
    state = json.dumps(claims, sort_keys=True)
    if state == getattr(env, "course_claims", None):
        return []
    env.course_claims = state
    return sorted(getattr(env, "course_ledger_pages", set()) & env.found_docs)


def note_pages(app: Sphinx, doctree: nodes.document) -> None:
    """Remember which pages show the ledger."""
    if not hasattr(app.env, "course_ledger_pages"):
        app.env.course_ledger_pages = set()
    app.env.course_ledger_pages.discard(app.env.docname)
    if any(doctree.findall(lambda n: isinstance(n, LedgerNode | CountNode))):
        app.env.course_ledger_pages.add(app.env.docname)


def powers(text: str) -> str:
    """Return a value as HTML, with powers of ten as real superscripts."""
    return POWER.sub(lambda m: f"10<sup>{m[1].translate(DIGITS)}</sup>", html.escape(text))


def raise_powers(node: nodes.inline) -> None:
    """Write the powers of ten of a glued value as real superscripts."""
    parts = POWER.split(node.astext())
    if len(parts) > 1:
        node.clear()
        for text, power in zip(parts[::2], [*parts[1::2], ""], strict=True):
            node += nodes.Text(text + ("10" if power else ""))
            if power:
                node += nodes.superscript("", power.translate(DIGITS))


def table(app: Sphinx, claims: list[tuple[str, dict[str, Any]]], page: str) -> str:
    """Return the ledger as HTML, one body of rows per page of the book."""
    works = bibliography(app)
    parts = [
        '<div class="claims-ledger"><table class="table"><thead><tr>'
        '<th scope="col">Claim</th><th scope="col">Evidence</th><th scope="col">Value</th>'
        '<th scope="col">Must be</th><th scope="col">Seeds</th></tr></thead>'
    ]
    current = None
    for where, claim in claims:
        if where != current:
            parts.append("</tbody>" if current else "")
            title = html.escape(app.env.titles[where].astext())
            address = app.builder.get_relative_uri(page, where)
            parts.append(
                f'<tbody><tr class="claims-page"><th colspan="5" scope="rowgroup">'
                f'<a class="reference internal" href="{address}">{title}</a></th></tr>'
            )
            current = where
        anchor = f"{app.builder.get_relative_uri(page, where)}#claim-{claim['id']}"
        evidence = KINDS[claim["kind"]]
        if claim["source"]:
            source = _link(claim["source"], works)
            evidence = source if claim["kind"] == "source" else f"{evidence}; {source}"
        cells = [*map(powers, (claim["text"], claim["range"])), str(claim["seeds"] or "")]
        link = f'<a class="reference internal" href="{anchor}"><code>{claim["id"]}</code></a>'
        parts.append(
            f"<tr><td>{html.escape(claim['statement'])} {link}</td><td>{evidence}</td>"
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    parts.append("</tbody></table></div>" if current else "</table></div>")
    return "".join(parts)


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace the placeholders, and write a work's name where a badge has its key."""
    claims: list[tuple[str, dict[str, Any]]] | None = None
    for node in list(doctree.findall(lambda n: isinstance(n, LedgerNode | CountNode))):
        claims = collected(app.env) if claims is None else claims
        if isinstance(node, LedgerNode):
            node.replace_self(nodes.raw("", table(app, claims, docname), format="html"))
        else:
            kind = node["kind"]
            count = sum(kind in ("all", record["kind"]) for _, record in claims)
            node.replace_self(nodes.Text(str(count)))
    for glued in doctree.findall(
        lambda n: "pasted-text" in getattr(n, "attributes", {}).get("classes", ())
    ):
        raise_powers(glued)
    badges = [raw for raw in doctree.findall(nodes.raw) if 'class="claim-source"' in raw.astext()]
    works = bibliography(app) if badges else {}
    for raw in badges:
        linked = _SOURCE.sub(
            lambda match: f"<span>{_link(html.unescape(match[1]), works)}</span>", raw.astext()
        )
        raw.children = [nodes.Text(linked)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register directive, role and events."""
    app.add_node(LedgerNode)
    app.add_node(CountNode)
    app.add_directive("claims-ledger", LedgerDirective)
    app.add_role("claims-count", CountRole())
    app.connect("doctree-read", note_pages)
    app.connect("env-updated", check)
    app.connect("doctree-resolved", fill)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
