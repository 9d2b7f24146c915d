// Open the folded box that a link points into, and all of them on paper.
function reveal() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let box = target && target.closest("details"); box; box = box.parentElement.closest("details"))
    box.open = true;
}
addEventListener("hashchange", reveal);
reveal();
addEventListener("beforeprint", () => {
  for (const box of document.querySelectorAll("main details")) box.open = true;
});
