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

// What scrolls sideways can be reached with the Tab key; what fits is no stop on the way.
function markScrollers() {
  for (const box of document.querySelectorAll(
    "main :is(pre, table.table, .katex-display, .mpl-figure, .claims-ledger)"))
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
}
addEventListener("resize", markScrollers);
addEventListener("load", markScrollers);
document.addEventListener("toggle", markScrollers, true);
