"""The book in a browser: themes, narrow screens, keyboard, search."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from built_book import Book
from playwright.sync_api import Browser, Page, expect, sync_playwright

SAMPLE = (
    "index.html",
    "00-start-here.html",
    "contributing-chapters.html",
    "claims.html",
    "api.html",
    "genindex.html",
    "prf-prf.html",
)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """A page that fails the test when it logs an error or asks another site."""
    context = browser.new_context(base_url=server, viewport={"width": 1280, "height": 900})
    found = context.new_page()
    complaints: list[str] = []
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    found.on("requestfailed", lambda request: complaints.append(request.url))
    found.on(
        "request",
        lambda r: None if r.url.startswith((server, "data:")) else complaints.append(r.url),
    )
    yield found
    context.close()
    assert not complaints


def test_pages_fit_a_phone(page: Page, book: Book) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for name in [*SAMPLE, *book.chapters()]:
        page.goto(f"/{name}")
        page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        wide = page.evaluate(
            """[...document.querySelectorAll("article *")].filter((box) => {
                 if (box.getBoundingClientRect().right <= 391) return false;
                 if (box.closest(".katex-mathml")) return false;
                 for (let up = box.parentElement; up; up = up.parentElement)
                   if (["auto", "scroll", "hidden"].includes(getComputedStyle(up).overflowX)
                       && up.tagName !== "BODY" && up.tagName !== "HTML"
                       && up.getBoundingClientRect().right <= 391) return false;
                 return true;
               }).map((box) => box.outerHTML.slice(0, 120))"""
        )
        assert not wide, f"{name}: {wide[:3]}"
        small = page.evaluate(
            """[...document.querySelectorAll("main :is(summary, button, input, audio)")]
                 .filter((box) => box.getClientRects().length)
                 .filter((box) => Math.min(box.offsetWidth, box.offsetHeight) < 24)
                 .map((box) => box.outerHTML.slice(0, 80))"""
        )
        assert not small, f"{name}: {small[:3]}"  # no room for a finger


def test_the_theme_follows_the_system_and_the_switch(browser: Browser, server: str) -> None:
    context = browser.new_context(base_url=server, color_scheme="dark")
    page = context.new_page()
    page.goto("/index.html")

    def ground() -> int:
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in color.strip("rgb()").split(","))

    assert ground() < 150
    switch = page.locator(".theme-switch-button").first
    for _ in range(3):
        switch.click()
        if page.evaluate("document.documentElement.dataset.mode") == "light":
            break
    assert ground() > 600
    page.reload()
    assert page.evaluate("document.documentElement.dataset.mode") == "light"
    assert ground() > 600
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_figures_keep_their_contrast(browser: Browser, server: str, scheme: str) -> None:
    context = browser.new_context(base_url=server, color_scheme=scheme)
    page = context.new_page()
    page.goto("/contributing-chapters.html")
    weak = page.evaluate(
        """() => {
          const parse = (c) => c.match(/[\\d.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= .03928 ? v / 12.92
            : ((v + .055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
          const ground = (box) => {
            for (; box; box = box.parentElement) {
              const color = parse(getComputedStyle(box).backgroundColor);
              if (color.length < 4 || color[3] === 1) return color;
            }
            return [255, 255, 255];
          };
          const found = [];
          for (const box of document.querySelectorAll(
              "article :is(p, li, h1, h2, a, summary, figcaption span, td, code, svg.mpl text)")) {
            if (!box.textContent.trim() || !box.getClientRects().length) continue;
            if (box.closest(".headerlink")) continue;
            const style = getComputedStyle(box);
            const ink = parse(box.tagName === "text" ? style.fill : style.color);
            const [a, b] = [light(ink), light(ground(box))].sort((x, y) => y - x);
            if ((a + .05) / (b + .05) < 4.5) found.push(box.outerHTML.slice(0, 100));
          }
          return found;
        }"""
    )
    context.close()
    assert not weak


def test_the_slider_moves_with_the_keyboard(page: Page) -> None:
    page.goto("/contributing-chapters.html")
    slider = page.locator("rnn-slider input[type=range]")
    expect(slider).to_have_count(1)
    note = page.locator("rnn-slider .note")
    curve = page.locator("rnn-slider .curve").first
    before = note.inner_text(), curve.get_attribute("d"), slider.get_attribute("aria-valuetext")
    slider.focus()
    page.keyboard.press("ArrowRight")
    after = note.inner_text(), curve.get_attribute("d"), slider.get_attribute("aria-valuetext")
    assert all(a != b for a, b in zip(before, after, strict=True))
    # The value is said as the slider's own and by the sentence below: not a third time.
    expect(page.locator("rnn-slider output")).to_have_attribute("aria-live", "off")
    expect(slider).to_have_accessible_name("off-diagonal a")
    assert float(str(slider.get_attribute("aria-valuetext"))) >= 0  # the name is not said again
    page.keyboard.press("Home")
    assert slider.input_value() == "0"


def test_without_javascript_the_page_still_tells(browser: Browser, server: str) -> None:
    context = browser.new_context(base_url=server, java_script_enabled=False)
    page = context.new_page()
    page.goto("/contributing-chapters.html")
    expect(page.locator("rnn-slider svg.mpl")).to_be_visible()
    expect(page.locator(".math-block .katex").first).to_be_visible()
    question = page.locator("details.question").first
    question.locator("summary").click()
    expect(question.locator(".fold-body")).to_be_visible()
    context.close()


def test_without_javascript_a_phone_still_has_the_chapters(browser: Browser, server: str) -> None:
    context = browser.new_context(
        base_url=server, java_script_enabled=False, viewport={"width": 390, "height": 844}
    )
    page = context.new_page()
    page.goto("/contributing-chapters.html")
    expect(page.locator(".sidebar-toggle").first).to_be_hidden()
    page.locator("a.reference.internal", has_text="Claims ledger").first.click()
    expect(page.locator("article h1")).to_contain_text("Claims ledger")
    context.close()


def test_answers_fold_out_with_the_keyboard(page: Page) -> None:
    page.goto("/contributing-chapters.html")
    question = page.locator("details.question").first
    expect(question.locator(".fold-body")).to_be_hidden()
    question.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(question.locator(".fold-body")).to_be_visible()


def test_the_search_finds_a_word_and_leads_to_it(page: Page) -> None:
    page.goto("/search.html?q=spectral+radius")
    results = page.locator("#search-results li a")
    expect(results.first).to_be_visible()
    assert any("contributing-chapters" in str(a.get_attribute("href")) for a in results.all())
    page.wait_for_load_state("networkidle")  # the search fetches its results' summaries
    expect(page.get_by_role("status")).to_contain_text("Search finished")
    quotes = page.locator("#search-results .context").all_inner_texts()
    assert quotes and not any("\\rho" in quote for quote in quotes)
    page.goto("/index.html")
    page.keyboard.press("Control+K")
    expect(page.locator("#pst-search-dialog input")).to_be_focused()


def test_the_menu_opens_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/index.html")
    page.locator("button.primary-toggle").first.click()
    entry = page.locator("a.reference.internal", has_text="Claims ledger").first
    expect(entry).to_be_visible()
    entry.click()
    expect(page.locator("article h1")).to_contain_text("Claims ledger")


def test_the_page_can_be_downloaded(page: Page) -> None:
    page.goto("/contributing-chapters.html")
    page.locator(".dropdown-download-buttons > button").click()
    link = page.locator(".dropdown-download-buttons a", has_text=".ipynb")
    expect(link).to_be_visible()
    reply = page.request.get(page.evaluate("(a) => a.href", link.element_handle()))
    assert reply.ok
    assert reply.json()["nbformat"] == 4


def test_what_scrolls_sideways_can_be_reached(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/contributing-chapters.html")
    page.wait_for_load_state("load")
    code = page.locator("div.highlight pre").filter(has_text="def number").first
    assert code.evaluate("(box) => box.scrollWidth > box.clientWidth")
    assert code.get_attribute("tabindex") == "0"
    expect(code).to_have_role("group")
    expect(code).to_have_accessible_name("Listing, scrolls sideways")
    ground = code.evaluate(
        "(box) => { box.style.color = 'var(--panel)';"
        " const own = getComputedStyle(box); return [own.color, own.backgroundColor,"
        " own.getPropertyValue('--here')]; }"
    )
    assert ground[0] == ground[1]  # what fades is the listing's own ground, not the page's
    assert ground[2] == code.evaluate("(box) => getComputedStyle(box).getPropertyValue('--panel')")
    assert "gradient" in code.evaluate("(box) => getComputedStyle(box).backgroundImage")
    page.set_viewport_size({"width": 1600, "height": 844})
    expect(code).not_to_have_attribute("tabindex", "0")
    expect(code).not_to_have_attribute("role", "group")


def test_a_wide_table_scrolls_in_its_box_and_stays_a_table(page: Page) -> None:
    page.set_viewport_size({"width": 320, "height": 844})
    page.goto("/contributing-chapters.html")
    page.evaluate("document.querySelector('td').textContent = 'wide'.repeat(80)")
    page.evaluate("dispatchEvent(new Event('resize'))")
    table = page.locator("main table.table").first
    assert table.evaluate("(box) => getComputedStyle(box).display") == "table"
    box = table.locator("..")
    assert box.get_attribute("tabindex") == "0"
    expect(box).to_have_accessible_name("Table, scrolls sideways")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_the_place_of_the_keyboard_can_be_seen(page: Page) -> None:
    page.goto("/contributing-chapters.html")
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        name, style = page.evaluate(
            """(() => { const { tagName, className } = document.activeElement;
                 const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
                 return [`${tagName} ${className}`, `${outlineStyle} ${outlineWidth}`]; })()"""
        )
        seen.add(name.split()[0])
        assert style == "solid 3px" or name.startswith("BODY"), name
        assert "headerlink" not in name
    assert seen >= {"A", "BUTTON", "SUMMARY", "INPUT"}


def test_names_are_said_without_signs_and_permanent_links(page: Page) -> None:
    page.goto("/contributing-chapters.html")
    for role in ("heading", "link"):
        named = page.get_by_role(role, name="Link to this")  # type: ignore[arg-type]
        expect(named).to_have_count(0)
    expect(page.locator("article h1")).to_have_accessible_name("How a chapter is written")
    expect(page.locator("button.search-button-field")).to_have_accessible_name("Search")


def test_a_menu_of_a_phone_goes_out_of_the_way(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/contributing-chapters.html")
    page.wait_for_load_state("load")
    opener, menu = page.locator(".secondary-toggle"), page.locator("#pst-secondary-sidebar-modal")
    opener.focus()
    page.keyboard.press("Enter")
    expect(menu).to_be_visible()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(opener).to_be_focused()
    opener.click()
    menu.locator("a[href^='#']").last.click()
    expect(menu).to_be_hidden()
    assert page.evaluate("location.hash")
    page.wait_for_function("scrollY > 500")


def test_a_copied_formula_is_its_tex(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/contributing-chapters.html")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.math-block'))")
    page.keyboard.press("Control+C")
    copied = page.evaluate("navigator.clipboard.readText()")
    tex = page.locator(".math-block annotation").first.text_content()
    assert tex and copied.split("$$")[1] == tex.strip()
    assert not set(copied) & {"\u200b", "#"}
    page.evaluate(
        """getSelection().selectAllChildren([...document.querySelectorAll("article p")].find(
             (box) => box.querySelector(".katex")))"""
    )
    page.keyboard.press("Control+C")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.count("$") >= 2
    assert copied.count("\n") == 0


def test_copied_statements_have_no_prompts(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/api/gates.html")
    page.locator("button.copybtn").first.click(force=True)
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.includes('('))")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert ">>>" in page.locator("div.highlight pre").first.inner_text()
    assert ">>>" not in copied
    compile(copied, "copied", "exec")


def test_a_link_into_a_folded_box_opens_it(page: Page, book: Book) -> None:
    page.goto("/contributing-chapters.html")
    page.evaluate(
        """() => { const box = document.querySelector("details.question");
                   box.querySelector(".fold-body").id = "inside"; location.hash = "#inside"; }"""
    )
    expect(page.locator("details.question").first).to_have_attribute("open", "")


def test_a_claim_is_whole_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 320, "height": 800})
    page.goto("/claims.html")
    beyond = page.evaluate(
        """[...document.querySelectorAll(".claims-ledger td")].filter(
             (cell) => cell.textContent && cell.getBoundingClientRect().right > innerWidth
           ).length"""
    )
    assert not beyond


def test_labels_of_figures_can_be_read_on_a_phone(
    browser: Browser, server: str, book: Book
) -> None:
    context = browser.new_context(base_url=server, viewport={"width": 375, "height": 800})
    page = context.new_page()
    for name in book.chapters():
        page.goto(f"/{name}")
        sizes = page.evaluate(
            """[...document.querySelectorAll("article svg.mpl")]
                 .filter((figure) => figure.getClientRects().length)
                 .map((figure) => figure.clientWidth / figure.viewBox.baseVal.width)"""
        )
        assert sizes, name
        assert min(sizes) > 0.99, name  # a label of 9.6 points has at least as many pixels
        smallest = page.evaluate(
            """Math.min(...[...document.querySelectorAll("article svg.mpl text")]
                 .filter((text) => text.getClientRects().length)
                 .map((text) => parseFloat(getComputedStyle(text).fontSize)))"""
        )
        assert smallest >= 9, name
    context.close()


def test_paper_is_light_and_shows_everything(browser: Browser, server: str) -> None:
    context = browser.new_context(base_url=server, color_scheme="dark")
    page = context.new_page()
    page.goto("/contributing-chapters.html")
    root, boxes = page.locator("html"), page.locator("main details")
    assert root.get_attribute("data-theme") == "dark"
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert root.get_attribute("data-theme") == "light"
    assert all(box.get_attribute("open") is not None for box in boxes.all())
    expect(page.locator("article h1")).to_be_visible()
    code = page.locator("main div.highlight pre")
    assert code.evaluate_all("(all) => all.every((box) => box.scrollWidth <= box.clientWidth + 1)")
    fading = "(box) => getComputedStyle(box).animationName"
    code_box = page.locator("details.hide > :not(summary)").first
    assert code_box.evaluate(fading) == "none"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert root.get_attribute("data-theme") == "dark"
    assert not any(box.get_attribute("open") is not None for box in boxes.all())
    context.close()


def test_paper_shows_folded_answers_without_javascript(browser: Browser, server: str) -> None:
    context = browser.new_context(base_url=server, java_script_enabled=False)
    page = context.new_page()
    page.goto("/contributing-chapters.html")
    page.emulate_media(media="print")
    expect(page.locator("details.question .fold-body").first).to_be_visible()
    context.close()


def test_figures_take_the_colours_that_a_reader_forces(browser: Browser, server: str) -> None:
    context = browser.new_context(
        base_url=server, color_scheme="dark", forced_colors="active", reduced_motion="reduce"
    )
    context.add_init_script("localStorage.setItem('mode', 'light')")  # chosen here before
    page = context.new_page()
    page.goto("/contributing-chapters.html")
    inks = page.evaluate(
        """[...document.querySelectorAll("svg.mpl, rnn-slider .plot")].map((figure) => {
             const style = getComputedStyle(figure);
             return figure.classList.contains("mpl") ? style.color : style.fill; })"""
    )
    assert len(inks) >= 2
    assert set(inks) == {"rgb(255, 255, 255)"}
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert style == "solid"  # the theme's shadow around a button is not drawn then
    page.locator("details.hide summary").first.click()
    fading = "(box) => getComputedStyle(box).animationName"
    assert page.locator("details[open] > :not(summary)").first.evaluate(fading) == "none"
    context.close()
