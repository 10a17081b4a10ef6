// The keyboard: Ctrl-K palette, ? help, g + room, j/k/Enter on rows, Esc. No key changes anything by itself.
const palette = document.getElementById("palette");
const help = document.getElementById("keys");
const field = document.getElementById("palette-q");
const toggle = document.querySelector("[data-keys-switch]");
const OFF = "pilothouse-keys-off";
let leader = -Infinity; // when "g" was pressed; the page's own clock begins at 0

const hits = () => [...palette.querySelectorAll("[role=option]")];

function mark(place) {
  const all = hits();
  for (const hit of all) hit.setAttribute("aria-selected", "false");
  const chosen = all[(place + all.length) % (all.length || 1)];
  chosen?.setAttribute("aria-selected", "true");
  chosen?.scrollIntoView({ block: "nearest" });
  if (chosen) field.setAttribute("aria-activedescendant", chosen.id);
  else field.removeAttribute("aria-activedescendant");
}

function open(dialog) {
  if (!dialog || dialog.open) return;
  for (const other of document.querySelectorAll("dialog[open]")) other.close();
  dialog.showModal();
  if (dialog === palette) {
    field.value = "";
    window.htmx?.trigger(field, "look");
  }
}

if (palette) {
  palette.addEventListener("htmx:afterSwap", () => mark(0));
  field.addEventListener("keydown", (event) => {
    const at = hits().findIndex((hit) => hit.getAttribute("aria-selected") === "true");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      mark(at + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      event.preventDefault(); // else the form would close the dialog
      if (at >= 0) location.href = hits()[at].href;
    }
  });
}
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // the ground around it
}
document.addEventListener("click", (event) => {
  const name = event.target.closest("[data-open]")?.dataset.open;
  if (name) open(document.getElementById(name));
});

if (toggle) {
  toggle.checked = !localStorage.getItem(OFF);
  toggle.addEventListener("change", () => (toggle.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "yes")));
}

function moveRow(by) {
  const rows = [...document.querySelectorAll("tr[data-href]")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains("is-here"));
  const next = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
  rows[at]?.classList.remove("is-here");
  next.classList.add("is-here");
  next.scrollIntoView({ block: "nearest" });
}

function single(event) {
  if (performance.now() - leader < 1500) {
    leader = -Infinity;
    const room = document.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
    if (room) location.href = room.href;
    return;
  }
  if (event.key === "g") leader = performance.now();
  else if (event.key === "j") moveRow(1);
  else if (event.key === "k") moveRow(-1);
  else if (event.key === "?") open(help);
  else if (event.key === "/") {
    event.preventDefault();
    open(palette);
  } else if (event.key === "Enter" && event.target === document.body) {
    const row = document.querySelector("tr.is-here[data-href]");
    if (row) location.href = row.dataset.href;
  }
}

function closePanels() {
  for (const panel of document.querySelectorAll("details[data-panel][open]")) {
    panel.open = false;
    panel.querySelector("summary").focus();
  }
}

document.addEventListener("keydown", (event) => {
  if (!palette) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    open(palette);
  } else if (event.key === "Escape") closePanels();
  else if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  else if (document.querySelector("dialog[open]") || event.target.closest("input, textarea, select")) return;
  else if (!localStorage.getItem(OFF)) single(event);
});
