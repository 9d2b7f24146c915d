"""Finish the written pages: light, self-contained, accessible.

The theme's pages carry eleven stylesheets, scripts that block the first paint, 1.5 MB of icons and
a few flaws in the markup. After Sphinx has written a page, this step leaves one stylesheet,
deferred scripts and fonts that hold only the glyphs in use, and mends the markup. Then it checks
every page: a script, style, font or image of another site, an image without a description, an id
that occurs twice, is a warning.
"""

from __future__ import annotations

import hashlib
import html
import itertools
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rcssmin
import tinycss2
from docutils import nodes
from fontTools import subset
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

log = logging.getLogger(__name__)

MARK = "<!-- stylesheets: "
SHEET = re.compile(r'\s*<link\b[^>]*\brel="stylesheet"[^>]*>')
SCRIPT = re.compile(r"[ \t]*<script\b([^>]*)>(.*?)</script>\n?", re.S)
URL = re.compile(r"""url\(\s*["']?([^"')]+)["']?\s*\)""")
FONT_FALLBACK = re.compile(r',\s*url\([^)]*\.(?:ttf|woff)\)\s*format\("(?:truetype|woff)"\)')
# Scripts that do nothing here: own icons for the navigation bar, live code cells.
UNUSED = ("fontawesome.js", "thebe")
# The index of all words is for the page that shows results; the others only ask for that page.
SEARCHING = ("searchtools.js", "language_data.js", "searchindex.js")
PRELOADED = ("source-serif-4-latin-wght-normal", "source-sans-3-latin-wght-normal")
PRELOADED_MATH = ("KaTeX_Main-Regular", "KaTeX_Math-Italic")
# The theme resolves "auto" only when its script runs, long after the first paint.
EARLY_THEME = """<script>
    { const root = document.documentElement.dataset;
      root.mode = localStorage.getItem("mode") || "auto";
      root.theme = root.mode !== "auto" ? root.mode
        : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"; }
  </script>
"""


def bundle(out: Path, sheets: list[str], characters: set[int], names: Names) -> str:
    """Write one stylesheet from several and return its address."""
    parts = []
    for sheet in sheets:
        path = out / sheet
        text = path.read_text("utf-8")
        text = re.sub(r"@import [^;]+;", "", text)

        def rebase(match: re.Match[str], base: Path = path.parent) -> str:
            address = match[1]
            if address.startswith(("data:", "#", "http:", "https:", "//")):
                return match[0]
            target = (base / address.split("?")[0].split("#")[0]).resolve()
            return f'url("{os.path.relpath(target, (out / "_static").resolve())}")'

        parts.append(URL.sub(rebase, text))
    css = FONT_FALLBACK.sub("", rcssmin.cssmin("\n".join(parts)))
    css = FONT_FALLBACK.sub("", re.sub(r'url\("([^" ]+)"\)', r"url(\1)", css))
    css = css.replace("font-display:block", "font-display:swap")
    css = re.sub(r"/\*# sourceMappingURL.*?\*/", "", css)
    css = unused_cut(tinycss2.parse_stylesheet(css), names)
    css = re.sub("[\ue000-\uf8ff]", lambda icon: f"\\{ord(icon[0]):x}", css)  # as they were written
    css = fonts_subset(out, css, characters, icon_points(css))
    for old in (out / "_static").glob("book-*.css"):
        old.unlink()
    name = f"_static/book-{hashlib.sha256(css.encode()).hexdigest()[:10]}.css"
    (out / name).write_text(css, "utf-8")
    return name


class Names:
    """The classes and ids that the pages bear or that a script may give them."""

    def __init__(self, pages: str, scripts: str) -> None:
        inline = "".join(re.findall(r"(?s)<script>(.*?)</script>", pages))
        borne = re.findall(r'\b(?:class|id)="([^"]*)"', pages)
        self.known = {name for names in borne for name in names.split()}
        self.known.update(re.findall(r"[\w-]+", scripts + inline))
        # What a script puts together, as in `bs-${kind}-auto`, is known by its beginning.
        self.beginnings = tuple(re.findall(r"\b([A-Za-z][\w-]*-)(?:\$\{|[\"'`]\s*\+)", scripts))

    def __contains__(self, name: str) -> bool:
        return name in self.known or name.startswith(self.beginnings)


def unused_cut(rules: list[tinycss2.ast.Node], names: Names) -> str:
    """Return the rules that can match something on a page, as text.

    Three fifths of the theme's stylesheet are for parts that this book does not have, and a
    reader's phone shows nothing before it has all of it.
    """
    kept = []
    for rule in rules:
        if rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports"):
            inner = unused_cut(tinycss2.parse_rule_list(rule.content), names)
            if inner:
                condition = tinycss2.serialize(rule.prelude)
                kept.append(f"@{rule.at_keyword}{condition}{{{inner}}}")
        elif rule.type == "qualified-rule":
            selectors: list[list[tinycss2.ast.Node]] = [[]]
            for part in rule.prelude:
                if part == ",":
                    selectors.append([])
                else:
                    selectors[-1].append(part)
            used = [s for s in selectors if all(name in names for name in required(s))]
            if used:
                heads = ",".join(tinycss2.serialize(selector) for selector in used)
                kept.append(f"{heads}{{{tinycss2.serialize(rule.content)}}}")
        else:
            kept.append(rule.serialize())
    return "".join(kept)


def required(selector: list[tinycss2.ast.Node]) -> Iterator[str]:
    """Yield the classes and ids without which a selector matches nothing."""
    for sign, part in itertools.pairwise([None, *selector]):
        if part.type == "hash" or (sign == "." and part.type == "ident"):
            yield part.value


def icon_points(css: str) -> set[int]:
    """Return the code points that the icon font must have: those that remain in the stylesheet."""
    found = re.findall(r'(?:content|--fa|--pst-icon-[a-z-]+):\s*"\\([0-9a-f]{4})', css)
    return {int(code, 16) for code in found}


def fonts_subset(out: Path, css: str, characters: set[int], points: set[int]) -> str:
    """Write each font of the stylesheet with the glyphs in use; return the new stylesheet."""
    folder = out / "_static" / "glyphs"
    folder.mkdir(exist_ok=True)
    written = set()
    for address in sorted(set(re.findall(r"url\(([^)]+\.woff2)\)", css))):
        source = out / "_static" / address
        wanted = points if source.name.startswith("fa-") else characters
        data = source.read_bytes()
        state = hashlib.sha256(data + repr(sorted(wanted)).encode()).hexdigest()[:8]
        target = folder / f"{source.stem}.{state}.woff2"
        if not target.exists():
            options = subset.Options(flavor="woff2", layout_features=["*"], notdef_outline=True)
            font = subset.load_font(str(source), options)
            subsetter = subset.Subsetter(options)
            subsetter.populate(unicodes=wanted)
            subsetter.subset(font)
            subset.save_font(font, str(target), options)
        written.add(target.name)
        css = css.replace(f"url({address})", f"url(glyphs/{target.name})")
    for old in folder.iterdir():
        if old.name not in written:
            old.unlink()
    return css


def scripts(text: str) -> str:
    """Defer all scripts, in order; drop the unused and the repeated."""
    seen: set[str] = set()
    unused = UNUSED if 'id="search-results"' in text else UNUSED + SEARCHING

    def rewrite(match: re.Match[str]) -> str:
        attributes, body = match[1], match[2].strip()
        source = re.search(r'\bsrc="([^"]*)"', attributes)
        name = source[1] if source else body
        if "application/json" in attributes:
            return match[0]
        if name in seen or (source and any(word in name for word in unused)):
            return ""
        seen.add(name)
        if "documentElement.dataset.mode" in body:
            return EARLY_THEME
        if source and not re.search(r"\b(defer|async|type=\"module\")", attributes):
            return match[0].replace("<script", "<script defer", 1)
        if body.startswith("DOCUMENTATION_OPTIONS."):
            # A module waits as a deferred script does, so the object exists by then.
            return match[0].replace("<script", '<script type="module"', 1)
        return match[0]

    text = SCRIPT.sub(rewrite, text)
    return re.sub(r'<link rel="preload" as="script"[^>]*>\n?', "", text)


def markup(text: str) -> str:
    """Mend what the theme's templates and other extensions leave inaccessible or invalid."""
    first, *rest = text.split('<meta name="viewport"')
    if rest:
        viewport = '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        text = first + viewport + "".join(part.split(">", 1)[1] for part in rest)
    for old, new in (
        # a second copy of the headings, for paper only
        (r'(?s)<div id="jb-print-docs-body".*?(?=<div id="searchbox">)', ""),
        (r'(?s)<div id="ethical-ad-placement".*?</div>', ""),
        (r'<div id="pst-primary-sidebar"', r'\g<0> role="complementary" aria-label="Chapters"'),
        (r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1"),
        (r'(<button class="sidebar-toggle[^>]*) title="([^"]*)"', r'\1 title="\2" aria-label="\2"'),
        (r'<summary aria-label="[^"]*"', "<summary"),
        (r'<summary>(?=<span class="toctree-toggle")', '<summary aria-label="Pages below">'),
        (r'<div role="list" class="citation-list">', '<div class="citation-list">'),
        (r' role="doc-biblioentry"', ""),
        (r"<title>(.+?) &#8212; \1</title>", r"<title>\1</title>"),
        # Else each heading ends with "Link to this heading", and is a stop of the Tab key.
        (
            r'(<a class="headerlink" href="[^"]*" title="[^"]*")>',
            r'\1 aria-hidden="true" tabindex="-1">',
        ),
        (r'<(i|span)( class="(?:[^"]* )?fa[srb]?[ -])', r'<\1 aria-hidden="true"\2'),
        (r'(<a href="[^"]*_sources/[^"]*")', r"\1 download"),
        (r' id="(proof|exercise|solution)-content"', ""),
        (r'(<div class="proof admonition") id="proof"', r"\1"),
        (r'(<p class="admonition-title") id="[^"]*"', r"\1"),
        (r"<img (?!loading)", '<img loading="lazy" decoding="async" '),
    ):
        text = re.sub(old, new, text)
    return text.replace(
        '<span class="search-button__kbd-shortcut">',
        '<span class="search-button__kbd-shortcut" aria-hidden="true">',
    )


def rewritten(text: str, root: str, sheets: list[str], sheet: str) -> str:
    """Return a page as it is published; `root` leads from it to the top folder."""
    placed = False

    def link(match: re.Match[str]) -> str:
        nonlocal placed
        if placed:
            return ""
        placed = True
        return f'\n    <link rel="stylesheet" href="{root}{sheet}" />'

    text = SHEET.sub(link, markup(scripts(text)))
    return text.replace("<head>", f"<head>{MARK}{' '.join(sheets)} -->", 1)


def preloads(out: Path, text: str, root: str) -> str:
    """Return the links that fetch a page's fonts together with its stylesheet."""
    names = PRELOADED + (PRELOADED_MATH if 'class="katex"' in text else ())
    found = [path.name for name in names for path in (out / "_static/glyphs").glob(f"{name}.*")]
    return "".join(
        f'<link rel="preload" as="font" type="font/woff2" crossorigin '
        f'href="{root}_static/glyphs/{name}" />\n    '
        for name in found
    )


def stylesheets(text: str, root: str) -> list[str]:
    """Return the addresses of a page's stylesheets from the top folder."""
    if text.find(MARK) >= 0:
        return text.split(MARK, 1)[1].split(" -->", 1)[0].split()
    found = (re.search(r'href="([^"]*)"', link) for link in SHEET.findall(text))
    names = [match[1].split("?")[0].removeprefix(root) for match in found if match]
    return list(dict.fromkeys(name for name in names if "thebe" not in name))


def problems(text: str) -> list[str]:
    """Return what is wrong with a published page."""
    found = []
    body = re.sub(r'(?s)<script type="application/json">.*?</script>', "", text)
    for tag in re.findall(r"<(?:script|link|img|iframe|source|audio|video)\b[^>]*>", body):
        address = re.search(r'\b(?:src|href)="((?:https?:)?//[^"]*)"', tag)
        if address and 'rel="canonical"' not in tag:
            found.append(f"asks another site: {address[1]}")
    for tag in re.findall(r"<img\b[^>]*>", body):
        alt = re.search(r'\balt="([^"]*)"', tag)
        if alt is None or not alt[1].strip() or re.search(r"\.(png|svg|jpe?g|gif)$", alt[1]):
            found.append(f"image without a description: {tag[:120]}")
    for tag in re.findall(r'<svg\b[^>]*role="img"[^>]*>', body):
        if not re.search(r'aria-label(?:ledby)?="[^"]{8,}"', tag):
            found.append(f"figure without a description: {tag[:120]}")
    ids = Counter(re.findall(r'<[^>]*?\sid="([^"]+)"', body))
    found += [f"the id {name!r} occurs {count} times" for name, count in ids.items() if count > 1]
    return found


def finish(app: Sphinx, error: Exception | None) -> None:
    """Finish all pages that Sphinx has just written, then check all pages."""
    if error or app.builder.name != "html":
        return
    out = Path(app.outdir)
    pages = {
        path: path.read_text("utf-8")
        for path in sorted(out.rglob("*.html"))
        if "_static" not in path.parts and "<head>" in path.read_text("utf-8")
    }
    made = {"genindex", "search", "prf-prf", "py-modindex"}  # by Sphinx itself
    for path in list(pages):
        name = path.relative_to(out).with_suffix("").as_posix()
        if name not in app.env.found_docs | made and not name.startswith("_modules/"):
            path.unlink()  # its source is gone
            del pages[path]
    roots = {path: "../" * (len(path.relative_to(out).parts) - 1) for path in pages}
    if any(MARK not in text for text in pages.values()):
        sheets = list(
            dict.fromkeys(name for p, text in pages.items() for name in stylesheets(text, roots[p]))
        )
        everything = "".join(pages.values())
        characters = set(range(0x20, 0x7F)) | {ord(c) for c in set(html.unescape(everything))}
        code = "".join(
            path.read_text("utf-8", "ignore")
            for path in (out / "_static").rglob("*.js")
            if "fontawesome" not in path.name
        )
        sheet = bundle(out, sheets, characters, Names(everything, code))
        for path, text in pages.items():
            if MARK not in text:
                text = rewritten(text, roots[path], sheets, sheet)
            text = re.sub(r'<link rel="preload" as="font"[^>]*>\s*', "", text)
            text = re.sub(r"_static/book-[0-9a-f]{10}\.css", sheet, text)
            text = text.replace(
                '<link rel="stylesheet"',
                preloads(out, text, roots[path]) + '<link rel="stylesheet"',
                1,
            )
            pages[path] = text
            path.write_text(text, "utf-8")
    for path, text in pages.items():
        for problem in problems(text):
            log.warning("%s: %s", path.relative_to(out), problem, type="page")
    for junk in (
        *out.rglob("*.map"),
        *(out / "_static").rglob("*.ttf"),
        out / "_static/scripts/fontawesome.js",
    ):
        junk.unlink(missing_ok=True)
    shutil.rmtree(out / "_static/locales", ignore_errors=True)


class Fold(nodes.Element):
    """A box that opens on a click: <details>, which needs no script."""


class FoldTitle(nodes.TextElement):
    """What a folded box shows while it is closed."""


def visit_fold(self: HTML5Translator, node: Fold) -> None:
    """Open the box."""
    self.body.append(self.starttag(node, "details", CLASS="fold"))


def visit_fold_title(self: HTML5Translator, node: FoldTitle) -> None:
    """Open the visible part."""
    self.body.append(self.starttag(node, "summary", ""))


def depart_fold_title(self: HTML5Translator, node: FoldTitle) -> None:
    """Close the visible part and open the hidden one."""
    self.body.append('</summary><div class="fold-body">')


def depart_fold(self: HTML5Translator, node: Fold) -> None:
    """Close the box."""
    self.body.append("</div></details>\n")


def fold_questions(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Make admonitions of the class ``dropdown`` folded boxes."""
    if app.builder.format != "html":
        return
    for box in list(doctree.findall(nodes.admonition)):
        if "dropdown" in box["classes"] and isinstance(box[0], nodes.title):
            title, *body = box.children
            classes = [name for name in box["classes"] if name != "dropdown"]
            heading = FoldTitle("", "", *title.children)
            for link in list(heading.findall(nodes.reference)):
                link.replace_self(link.children)  # what opens the box cannot hold a link as well
            box.replace_self(Fold("", heading, *body, classes=classes, ids=box["ids"]))


def version() -> int:
    """Return a number that changes with these build steps."""
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return int(hashlib.sha256(code).hexdigest()[:8], 16)


def drop_source_pages(app: Sphinx) -> None:
    """Let viewcode write its pages anew when their side bar or these steps have changed.

    viewcode looks at the module's date only.
    """
    toc = Path(app.srcdir) / str(app.config.external_toc_path)
    state = f"{version()} {hashlib.sha256(toc.read_bytes()).hexdigest()}"
    mark = Path(app.doctreedir) / "source-pages"
    if not mark.is_file() or mark.read_text() != state:
        shutil.rmtree(Path(app.outdir) / "_modules", ignore_errors=True)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(state)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.add_node(Fold, html=(visit_fold, depart_fold))
    app.add_node(FoldTitle, html=(visit_fold_title, depart_fold_title))
    app.connect("doctree-resolved", fold_questions)
    app.connect("builder-inited", drop_source_pages)
    app.connect("build-finished", finish, priority=900)
    # A finished page cannot be finished again, so new steps mean new pages.
    return {
        "version": "1",
        "env_version": version(),
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
