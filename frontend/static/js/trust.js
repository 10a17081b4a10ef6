// Keys of the audit and review pages: "/" to the search, "y" copies the address, a letter opens the panel that names it.

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (search) { event.preventDefault(); search.focus(); }
  } else if (event.key === "y") {
    navigator.clipboard?.writeText(location.href);
  } else if (/^[a-z]$/.test(event.key)) {
    const panel = document.querySelector(`details[data-opens="${event.key}"]`);
    if (panel) {
      event.preventDefault();
      panel.open = true;
      panel.querySelector("textarea, button")?.focus();
    }
  }
});
