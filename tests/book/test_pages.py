"""The built book is whole: links, figures, numbers, markup, downloads."""

from __future__ import annotations

import copy
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import yaml
from bs4 import BeautifulSoup, Tag
from built_book import ROOT, Book

# Pages that Sphinx makes for itself: their headings and titles are the theme's.
GENERATED = ("genindex.html", "search.html", "prf-prf.html", "py-modindex.html", "_modules/")


def written(book: Book) -> dict[str, BeautifulSoup]:
    return {name: page for name, page in book.pages.items() if not name.startswith(GENERATED)}


def anchors(page: BeautifulSoup) -> set[str]:
    return {str(tag["id"]) for tag in page.find_all(id=True)}


def attribute(tag: Tag, name: str) -> str:
    return str(tag.get(name) or "")


def test_every_internal_link_leads_somewhere(book: Book) -> None:
    known = {name: anchors(page) for name, page in book.pages.items()}
    broken = []
    for name, page in book.pages.items():
        for tag in page.find_all("a", href=True):
            link = urlsplit(attribute(tag, "href"))
            if link.scheme or link.netloc:
                continue
            path = (
                (book.folder / name).parent / unquote(link.path)
                if link.path
                else book.folder / name
            )
            target = Path(path).resolve()
            if not target.is_file():
                broken.append(f"{name}: {attribute(tag, 'href')}")
                continue
            inside = target.relative_to(book.folder.resolve()).as_posix()
            anchor = unquote(link.fragment)
            if anchor and inside in known and anchor not in known[inside] and anchor != "top":
                broken.append(f"{name}: {attribute(tag, 'href')}")
    assert not broken


def test_every_link_to_another_site_is_https_and_whole(book: Book) -> None:
    odd = [
        f"{name}: {attribute(tag, 'href')}"
        for name, page in written(book).items()
        for tag in page.find_all("a", href=True)
        if (link := urlsplit(attribute(tag, "href"))).netloc
        and (link.scheme not in ("https", "http") or "." not in link.netloc)
        and not link.netloc.startswith("localhost")
    ]
    assert not odd


def test_no_page_asks_another_site(book: Book) -> None:
    asked = [
        f"{name}: {attribute(tag, key)}"
        for name, page in book.pages.items()
        for tag in page.find_all(["script", "link", "img", "iframe", "audio", "video", "source"])
        for key in ("src", "href", "srcset")
        if re.match(r"(https?:)?//", attribute(tag, key))
        and "canonical" not in (tag.get("rel") or [])
    ]
    css = [
        path.name
        for path in book.folder.rglob("book-*.css")
        if "url(http" in path.read_text("utf-8")
    ]
    assert not asked
    assert not css


def test_every_file_that_a_page_needs_is_there(book: Book) -> None:
    missing = [
        f"{name}: {attribute(tag, key)}"
        for name, page in book.pages.items()
        for tag in page.find_all(["script", "link", "img", "audio", "source"])
        for key in ("src", "href")
        if attribute(tag, key)
        and not attribute(tag, key).startswith(("data:", "#"))
        and not ((book.folder / name).parent / urlsplit(attribute(tag, key)).path)
        .resolve()
        .is_file()
    ]
    assert not missing


def test_every_font_and_picture_of_the_stylesheet_is_there(book: Book) -> None:
    (sheet,) = (book.folder / "_static").glob("book-*.css")
    text = sheet.read_text("utf-8")
    addresses = re.findall(r"url\(\s*[\"']?([^\"')]+)", text)
    files = [a for a in addresses if not a.startswith(("data:", "#", "%23"))]
    assert files
    assert not [a for a in files if not (sheet.parent / a.split("?")[0].split("#")[0]).is_file()]


def test_a_page_has_one_stylesheet_and_no_blocking_script(book: Book) -> None:
    for name, page in book.pages.items():
        assert len(page.find_all("link", rel="stylesheet")) == 1, name
        blocking = [
            tag["src"]
            for tag in page.find_all("script", src=True)
            if not (tag.has_attr("defer") or tag.has_attr("async"))
        ]
        assert not blocking, name


def test_the_stylesheet_is_small(book: Book) -> None:
    (sheet,) = (book.folder / "_static").glob("book-*.css")
    assert sheet.stat().st_size < 200_000  # nothing can be read before it is there


def test_only_the_search_page_loads_the_index_of_words(book: Book) -> None:
    loading = [
        name
        for name, page in book.pages.items()
        if page.find("script", src=re.compile("searchindex|searchtools|language_data"))
    ]
    assert loading == ["search.html"]


def test_every_picture_is_described(book: Book) -> None:
    for name, page in book.pages.items():
        for tag in page.find_all("img"):
            alt = attribute(tag, "alt").strip()
            assert alt, f"{name}: {tag}"
            assert not re.search(r"\.(png|svg|jpe?g)$", alt), f"{name}: {tag}"
        for tag in page.find_all("svg", role="img"):
            assert len(attribute(tag, "aria-label")) >= 20, f"{name}: {str(tag)[:200]}"


def test_every_figure_is_numbered_and_says_what_to_see(book: Book) -> None:
    for name, page in written(book).items():
        for figure in page.find_all("figure"):
            caption = figure.find("figcaption")
            assert caption is not None, name
            words = caption.get_text(" ").split()
            assert len(words) >= 10, f"{name}: {' '.join(words)}"
            assert words[0] == "Fig.", f"{name}: {' '.join(words)}"


def test_the_list_of_figures_shows_formulas_as_such(book: Book) -> None:
    page = copy.copy(book.pages["figures.html"].article)
    assert page is not None
    formulas = [formula.extract() for formula in page.select(".katex")]
    assert len(formulas) > 3
    assert "\\" not in page.get_text()
    assert not re.search(r"\b(fig|eq|ch|tab|sec)-[a-z]", page.get_text())
    assert len(page.select("li a")) > len(page.select("li"))  # the captions' own links


def test_headings_never_skip_a_level(book: Book) -> None:
    for name, page in written(book).items():
        levels = [int(tag.name[1]) for tag in page.select("article :is(h1,h2,h3,h4,h5,h6)")]
        assert levels.count(1) == 1, f"{name}: {levels}"
        assert levels[0] == 1, name
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels)), f"{name}: {levels}"


def test_ids_are_unique(book: Book) -> None:
    for name, page in book.pages.items():
        ids = [tag["id"] for tag in page.find_all(id=True)]
        assert len(ids) == len(set(ids)), f"{name}: {sorted({i for i in ids if ids.count(i) > 1})}"


def test_every_page_names_its_language_and_title(book: Book) -> None:
    titles = []
    for name, page in written(book).items():
        html, title = page.find("html"), page.find("title")
        assert isinstance(html, Tag)
        assert html.get("lang") == "en", name
        assert title is not None
        titles.append(title.get_text())
    assert len(titles) == len(set(titles))
    assert not [title for title in titles if len(set(title.split(" — "))) < title.count(" — ") + 1]


def test_every_control_has_a_name(book: Book) -> None:
    for name, page in book.pages.items():
        for tag in page.find_all(["button", "summary"]):
            named = tag.get_text(strip=True) or tag.get("aria-label") or tag.get("title")
            assert named, f"{name}: {tag}"
        for tag in page.select("a.headerlink"):  # for the pointer only: the heading is the name
            assert tag.get("aria-hidden") == "true", f"{name}: {tag}"
            assert tag.get("tabindex") == "-1", f"{name}: {tag}"
        labelled = {attribute(label, "for") for label in page.find_all("label")}
        for tag in page.find_all("input"):
            if tag.get("type") not in ("hidden", "submit", "radio"):
                assert tag.get("aria-label") or tag.get("id") in labelled, f"{name}: {tag}"


def test_no_control_holds_another(book: Book) -> None:
    for name, page in book.pages.items():
        nested = page.select("summary :is(a[href], button, input), a[href] a[href], button a[href]")
        assert not nested, f"{name}: {nested[0]}"


def test_no_cell_ended_in_an_error_or_a_warning(book: Book) -> None:
    for name, page in written(book).items():
        article = page.find("article")
        assert isinstance(article, Tag), name
        for output in article.select(".cell_output"):
            text = output.get_text()
            assert "Traceback (most recent call last)" not in text, name
            assert "Warning:" not in text, name
        assert not article.select(".stderr, .traceback"), name


def test_no_reference_was_left_open(book: Book) -> None:
    for name, page in written(book).items():
        for tag in page.select("article .math-inline, article .math-block"):
            assert tag.find("math") is not None, f"{name}: {tag.get_text()[:80]}"
            tag.decompose()
        for tag in page.select("article :is(pre, code, script, svg)"):
            tag.decompose()
        text = page.select_one("article").get_text(" ")  # type: ignore[union-attr]
        for pattern in (r"\{(?:ref|numref|eq|cite\S*|glue\S*|prf:ref|term)\}", r"\$\$", r"\?\?"):
            assert not re.search(pattern, text), f"{name}: {re.search(pattern, text)}"


def test_each_chapter_has_what_a_chapter_needs(book: Book) -> None:
    chapters = book.chapters()
    assert chapters
    for name, page in chapters.items():
        assert page.select(".admonition.objectives"), f"{name} has no objectives"
        assert page.select(".admonition.said"), f"{name} corrects nothing that is often said"
        assert len(page.select("details.question")) >= 5, f"{name} asks fewer than 5 questions"
        assert len(page.select("figure")) >= 3, f"{name} has fewer than 3 figures"
        assert page.select(".claim"), f"{name} claims nothing"
        assert page.select("div.citation, dl.citation"), f"{name} lists no references"
        headings = [h.get_text().rstrip("#").strip() for h in page.select("article h2")]
        assert "Summary" in headings, f"{name} has no summary"
        assert headings[-1] == "References", f"{name} ends with {headings[-1]}"


def test_the_ledger_lists_every_claim_once_and_leads_to_it(book: Book) -> None:
    stated = [
        f"{name}#{claim['id']}"
        for name, page in book.pages.items()
        for claim in page.select("p.claim[id]")
    ]
    listed = [
        attribute(tag, "href")
        for tag in book.pages["claims.html"].select(".claims-ledger td a.internal")
    ]
    assert sorted(stated) == sorted(listed)
    assert len(stated) == len(set(stated)) > 0


def test_every_cited_work_can_be_found() -> None:
    from pybtex.database import parse_file

    for key, entry in parse_file(str(ROOT / "book/references.bib")).entries.items():
        assert {"doi", "url", "eprint", "isbn"} & set(entry.fields), (
            f"{key} has no doi, url or eprint"
        )
        assert entry.fields.get("year"), f"{key} has no year"


def notebooks(book: Book) -> list[Path]:
    return sorted((book.folder / "_sources").rglob("*.ipynb"))


def test_every_executed_page_is_offered_as_a_notebook(book: Book) -> None:
    cache = ROOT / "_build" / "jupyter_execute"
    executed = {path.relative_to(cache).as_posix() for path in cache.rglob("*.ipynb")}
    offered = {path.relative_to(book.folder / "_sources").as_posix() for path in notebooks(book)}
    assert offered
    for name, page in book.chapters().items():
        notebook = name.replace(".html", ".ipynb")
        assert notebook in offered & executed
        links = [attribute(tag, "href") for tag in page.select(".dropdown-download-buttons a")]
        assert f"_sources/{notebook}" in links
        assert page.select_one(f'a[href="_sources/{notebook}"][download]'), name


def test_the_notebooks_stand_alone(book: Book) -> None:
    for path in notebooks(book):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert any(cell.get("outputs") for cell in notebook.cells), f"{path.name} shows no result"
        for cell in notebook.cells:
            if cell.cell_type == "code":
                assert not re.search(
                    r"\bopen\(|Path\(\s*[\"']|[\"']\.\./|[\"']data/", cell.source
                ), f"{path.name} reads a file beside the page:\n{cell.source}"
            else:
                words = re.sub(r"(?s)```.*?```", "", cell.source)
                own = re.search(r"\{[\w:]+\}`|^:::|^\([\w-]+\)=$|\{literalinclude\}", words, re.M)
                assert not own, f"{path.name} holds the book's own markup:\n{cell.source}"


def test_a_notebook_runs_elsewhere(book: Book, tmp_path: Path) -> None:
    notebook = nbformat.read(book.folder / "_sources" / "contributing-chapters.ipynb", as_version=4)
    nbformat.write(notebook, tmp_path / "page.ipynb")
    command = ["nbconvert", "--to", "notebook", "--execute", "--output", "done.ipynb", "page.ipynb"]
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = nbformat.read(tmp_path / "done.ipynb", as_version=4).cells
    assert any("claim-value" in json.dumps(cell.get("outputs", [])) for cell in cells)


def test_every_chapter_is_in_the_table_of_contents() -> None:
    toc = yaml.safe_load((ROOT / "book/_toc.yml").read_text("utf-8"))
    listed = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    on_disk = {path.stem for path in (ROOT / "book").glob("[0-9][0-9]-*.md")}
    assert on_disk <= set(listed)
    numbered = [name for name in listed if name[:2].isdigit()]
    assert numbered == sorted(numbered)


def test_a_second_build_has_nothing_to_do(book: Book) -> None:
    done = subprocess.run(
        [sys.executable, "book/build.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "up to date" in done.stdout
