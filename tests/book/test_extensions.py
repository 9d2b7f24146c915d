"""The build's own steps do what the pages rely on."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import built_book  # noqa: F401 - puts the extensions on the path
import course_api
import course_cache
import course_finish
import course_math
import course_notebooks
import pytest
import tinycss2
from py_mini_racer import JSEvalException

PAGE = """---
jupytext:
  text_representation:
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A page

```{code-cell} python
---
tags: [hide-input]
---
%matplotlib inline
from rnncourse.top import thing
```
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small library: top imports middle, middle imports base; other stands alone."""
    package = tmp_path / "rnncourse"
    (package / "exercises").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "top.py": '"""Top. More."""\nfrom rnncourse import middle\nthing = 1\n',
        "middle.py": "from . import base\n",
        "base.py": "value = 1\n",
        "other.py": "value = 1\n",
        "exercises/__init__.py": "value = 1\n",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    (tmp_path / "requirements.lock").write_text("numpy==2\n")
    (tmp_path / "book/data/results").mkdir(parents=True)
    (tmp_path / "book/data/results/horizon.json").write_text("{}")
    return tmp_path


def changed(root: Path, file: str, page: str = PAGE) -> bool:
    course_cache.forget()
    before = course_cache.key(page, root)
    path = root / file
    path.write_text(path.read_text() + "\n# changed\n")
    course_cache.forget()
    return course_cache.key(page, root) != before


@pytest.mark.parametrize(
    "file", ["rnncourse/top.py", "rnncourse/base.py", "rnncourse/__init__.py", "requirements.lock"]
)
def test_a_page_runs_again_when_what_it_imports_changes(root: Path, file: str) -> None:
    assert changed(root, file)


@pytest.mark.parametrize(
    "file",
    ["rnncourse/other.py", "rnncourse/exercises/__init__.py", "book/data/results/horizon.json"],
)
def test_a_page_rests_when_something_else_changes(root: Path, file: str) -> None:
    assert not changed(root, file)


def test_a_stored_result_counts_for_the_page_that_names_it(root: Path) -> None:
    assert changed(
        root, "book/data/results/horizon.json", PAGE.replace("thing", 'thing  # "horizon"')
    )


def test_the_key_changes_no_line_of_the_page() -> None:
    keyed = course_cache.with_key(PAGE)
    assert keyed != PAGE
    assert len(keyed.splitlines()) == len(PAGE.splitlines())
    assert course_cache.with_key("# No cells\n") == "# No cells\n"


@pytest.mark.parametrize(
    ("tex", "result"),
    [
        ("a = b", "a = b"),
        ("a &= b \\\\ c &= d", "\\begin{aligned}a &= b \\\\ c &= d\\end{aligned}"),
        ("\\begin{cases}a \\\\ b\\end{cases}", "\\begin{cases}a \\\\ b\\end{cases}"),
        ("a\n\nb", "\\begin{gathered}a\\\\b\\end{gathered}"),
    ],
)
def test_a_formula_gets_the_environment_it_needs(tex: str, result: str) -> None:
    assert course_math.wrapped(tex) == result


def test_formulas_are_rendered_and_wrong_ones_are_refused() -> None:
    render = course_math.Renderer()
    markup = render(r"\norm{W} \le \diag(h)\transpose", display=False)
    assert "<math" in markup
    assert "katex" in markup
    with pytest.raises(JSEvalException, match="Undefined control sequence"):
        render(r"\nosuchmacro", display=False)


GOOD = (
    '<html><head></head><body><img src="a.png" alt="A rising line."/><p id="a">x</p></body></html>'
)


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ('<script src="https://cdn.example.org/a.js"></script>', "asks another site"),
        ('<link rel="stylesheet" href="//fonts.example.org/a.css"/>', "asks another site"),
        ('<img src="http://example.org/a.png" alt="A rising line."/>', "asks another site"),
        ('<img src="b.png"/>', "without a description"),
        ('<img src="b.png" alt=""/>', "without a description"),
        ('<img src="b.png" alt="_images/b.png"/>', "without a description"),
        ('<svg viewBox="0 0 1 1" role="img"></svg>', "without a description"),
        ('<p id="a">y</p>', "occurs 2 times"),
    ],
)
def test_a_flawed_page_is_named(broken: str, problem: str) -> None:
    assert course_finish.problems(GOOD) == []
    found = course_finish.problems(GOOD.replace("</body>", broken + "</body>"))
    assert len(found) == 1
    assert problem in found[0]


def test_links_to_other_sites_are_fine() -> None:
    assert not course_finish.problems(GOOD + '<a href="https://doi.org/10.1">x</a>')


def test_scripts_wait_and_come_once() -> None:
    text = course_finish.scripts(
        '<script src="a.js"></script><script src="a.js"></script>'
        '<script>DOCUMENTATION_OPTIONS.pagename = "x";</script>'
        '<script src="scripts/fontawesome.js"></script><script async src="b.js"></script>'
    )
    assert text.count('src="a.js"') == 1
    assert '<script defer src="a.js">' in text
    assert '<script type="module">DOCUMENTATION' in text
    assert "fontawesome" not in text
    assert '<script async src="b.js">' in text


def test_the_reference_lists_modules_by_itself(root: Path) -> None:
    assert course_api.modules(root) == ["base", "exercises", "middle", "other", "top"]
    assert "| {ref}`top <api-top>` | Top. More |" in course_api.table(root)


@pytest.fixture
def page(tmp_path: Path) -> course_notebooks.Page:
    """What a notebook knows of a book with one equation, one figure and one work."""
    (tmp_path / "references.bib").write_text(
        "@article{elman1990, author={Elman, Jeffrey}, title={Finding}, year={1990}, doi={10.1/x}}"
    )
    (tmp_path / "page.glue.json").write_text(
        '{"peak": {"data": {"text/plain": "\'7.8 times\'"}, "metadata": {}}}'
    )
    labels = {"fig-a": ("page", "fig-a", "Caption"), "ch-other": ("other", "x", "Other chapter")}
    env = SimpleNamespace(
        domaindata={
            "math": {"objects": {"eq-a": ("page", 3)}},
            "std": {"labels": labels, "anonlabels": {}},
        },
        toc_fignumbers={"page": {"figure": {"fig-a": (2,)}}},
        mystnb_config=SimpleNamespace(output_folder=tmp_path),
    )
    config = SimpleNamespace(bibtex_bibfiles=["references.bib"])
    app = SimpleNamespace(env=env, config=config, srcdir=tmp_path)
    return course_notebooks.Page(app, "page")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("(label)=\n## Title", "## Title"),
        ("by {glue:text}`peak`", "by 7.8 times"),
        ("see {numref}`fig-a` and {eq}`eq-a`", "see Figure 2 and (3)"),
        ("see {ref}`ch-other`, {ref}`this <ch-other>`", "see *Other chapter*, this"),
        ("{cite:t}`elman1990`; {cite:p}`elman1990`", "Elman (1990); (Elman 1990)"),
        ("{py:func}`rnncourse.rnn.rnn_step`", "`rnncourse.rnn.rnn_step`"),
        ("$$\na &= b\n$$ (eq-a)", "$$\n\\begin{aligned}a &= b\\end{aligned} \\tag{3}\n$$"),
        (
            ":::{prf:theorem} Powers\n:label: thm-a\n\nThey shrink.\n:::\n\nBy {prf:ref}`thm-a`.",
            "> **Theorem (Powers).** They shrink.\n\nBy the theorem “Powers”.",
        ),
        (":::{admonition} Said\n:class: said\n\nNo.\n:::", "> **Said**\n>\n> No."),
        (
            ":::{admonition} Why?\n:class: question dropdown\n\nSo.\n:::",
            "<details><summary>Why?</summary>\n\nSo.\n\n</details>",
        ),
    ],
)
def test_a_notebook_says_it_in_plain_markdown(
    page: course_notebooks.Page, source: str, result: str
) -> None:
    assert course_notebooks.plain(source, page, Path()).strip() == result


def test_a_notebook_shows_the_included_code(page: course_notebooks.Page, tmp_path: Path) -> None:
    (tmp_path / "lib.py").write_text(
        "import os\n\n\ndef f(x):\n    return x\n\n\ndef g():\n    pass\n"
    )
    source = "```{literalinclude} lib.py\n:pyobject: f\n```\n"
    assert course_notebooks.plain(source, page, tmp_path) == (
        "```python\ndef f(x):\n    return x\n```\n"
    )


@pytest.mark.parametrize(
    ("tex", "plain"),
    [
        (r"W_{hh}\transpose x", r"W_{hh}^{\mathsf{T}} x"),
        (r"\norm{S^{-1} \abs{a}}_2", r"\left\lVert S^{-1} \left\lvert a\right\rvert\right\rVert_2"),
        (r"\abs xy", r"\left\lvert x\right\rvert y"),
        (r"\abs\alpha", r"\left\lvert \alpha\right\rvert"),
        (r"\norm{\{a\}}", r"\left\lVert \{a\}\right\rVert"),
        (r"\diagonal \R^n", r"\diagonal \mathbb{R}^n"),
    ],
)
def test_a_formula_can_be_pasted_without_the_courses_macros(tex: str, plain: str) -> None:
    assert course_math.expanded(tex) == plain
    if "diagonal" not in tex:
        assert f">{tex}<" not in course_math.Renderer()(tex, True)


def test_the_stylesheet_keeps_what_can_match() -> None:
    names = course_finish.Names(
        '<p class="here there" id="place"></p><script>add("inline")</script>',
        'box.classList.add("made"); box.className = `bs-${kind}-auto`;',
    )
    kept = (
        ".here{a:1}",
        "#place .there:not(.gone){a:2}",
        ".made>.inline{a:3}",
        ".bs-tooltip-auto{a:4}",
        "p[class*=gone]{a:5}",
        "@font-face{a:6}",
        '@media print{.here:before{content:"}"}}',
    )
    cut = (".gone{b:1}", ".here .gone,.gone>p{b:2}", "#gone{b:3}", "@media print{.gone{b:4}}")
    rules = tinycss2.parse_stylesheet("".join(itertools.chain(*zip(kept, cut, strict=False))))
    found = course_finish.unused_cut(rules, names)
    assert found == "".join(kept[: len(cut)])
    rules = tinycss2.parse_stylesheet("".join(kept) + ".gone,.here{c:1}")
    assert course_finish.unused_cut(rules, names) == "".join(kept) + ".here{c:1}"
