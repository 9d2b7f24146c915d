// Open the folded box that a link points into.
function reveal() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let box = target && target.closest("details"); box; box = box.parentElement.closest("details"))
    box.open = true;
}
addEventListener("hashchange", reveal);
reveal();

// Paper is light and cannot be clicked: print in the light theme with every box open.
let closed = [], theme = "";
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("main details:not([open])")];
  for (const box of closed) box.open = true;
  theme = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
});
addEventListener("afterprint", () => {
  for (const box of closed) box.open = false;
  document.documentElement.dataset.theme = theme;
});

// What scrolls sideways can be reached with the Tab key and has a name; what fits is no stop on the way.
const SCROLLERS = new Map([
  ["pre", "Listing"],
  [".katex-display", "Formula"],
  [".mpl-figure", "Figure"],
  [".pst-scrollable-table-container, .claims-ledger", "Table"],
]);
function markScrollers(part) {
  const boxes = [...part.querySelectorAll(`main :is(${[...SCROLLERS.keys()]})`)];
  const wide = boxes.map((box) => box.scrollWidth > box.clientWidth + 1);
  // Written after all has been read, so that the page is laid out once.
  boxes.forEach((box, i) => {
    if (wide[i] === box.hasAttribute("role")) return;
    const kind = [...SCROLLERS.keys()].find((selector) => box.matches(selector));
    const marks = { tabindex: "0", role: "group", "aria-label": `${SCROLLERS.get(kind)}, scrolls sideways` };
    for (const [name, value] of Object.entries(marks))
      if (wide[i]) box.setAttribute(name, value);
      else box.removeAttribute(name);
  });
}
addEventListener("resize", () => markScrollers(document));
addEventListener("load", () => markScrollers(document));
document.addEventListener("toggle", (event) => markScrollers(event.target), true);

// On a narrow screen the menus lie over the page. One that has led to a section goes out of the way;
// one that is left with Escape hands the keyboard back to its button, which the theme has blurred.
for (const side of ["primary", "secondary"]) {
  const menu = document.getElementById(`pst-${side}-sidebar-modal`);
  menu?.addEventListener("click", (event) => {
    if (event.target.closest('a[href^="#"]')) menu.close();
  });
  menu?.addEventListener("keydown", (event) => {
    if (event.key === "Escape") setTimeout(() => document.querySelector(`.${side}-toggle`).focus());
  });
}

// The page holds each formula twice, for the eye and for screen readers; what is copied is its TeX.
function withTex(part) {
  for (const link of part.querySelectorAll(".headerlink")) link.remove();
  for (const formula of part.querySelectorAll(".katex")) {
    const signs = formula.closest(".katex-display") ? "$$" : "$";
    const tex = formula.querySelector("annotation")?.textContent;
    if (tex !== undefined) formula.replaceWith(signs + tex.trim() + signs);
  }
  return part;
}
document.addEventListener("copy", (event) => {
  const selection = getSelection();
  if (selection.isCollapsed) return;
  const range = selection.getRangeAt(0).cloneRange();
  const formula = (node) => (node.closest ? node : node.parentElement)?.closest(".katex-display, .katex");
  const [first, last] = [formula(range.startContainer), formula(range.endContainer)];
  if (first) range.setStartBefore(first);
  if (last) range.setEndAfter(last);
  const copy = document.createElement("div");
  copy.append(range.cloneContents());
  if (!copy.querySelector(".katex")) return;
  withTex(copy);
  document.body.append(copy);  // only what is laid out has line breaks
  event.clipboardData.setData("text/plain", copy.innerText);
  event.clipboardData.setData("text/html", copy.innerHTML);
  copy.remove();
  event.preventDefault();
});

// The search page: say the result without taking the focus, and quote a formula as the eye sees it.
addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  document.querySelector(".search-summary")?.setAttribute("role", "status");
  const plain = Search.htmlToText;
  Search.htmlToText = (text, anchor) => plain(text.replace(/<math\b.*?<\/math>/gs, ""), anchor);
});
