// Small manners of the page: relative times, countdowns, row clicks, copy buttons, panels.

function age(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

function clock(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const rest = `${String(Math.floor((s % 3600) / 60)).padStart(s >= 3600 ? 2 : 1, "0")}:${String(s % 60).padStart(2, "0")}`;
  return s >= 3600 ? `${Math.floor(s / 3600)}:${rest}` : rest;
}

function tick() {
  const now = Date.now();
  for (const node of document.querySelectorAll("time[data-ago]")) {
    const at = new Date(node.dateTime);
    node.textContent = `${age((now - at) / 1000)}${node.dataset.ago}`;
    if (!node.dataset.local) {
      node.dataset.local = "yes";
      node.title += ` (${at.toLocaleString()} here)`;
    }
  }
  for (const node of document.querySelectorAll("[data-until]")) {
    node.textContent = clock((new Date(node.dataset.until) - now) / 1000);
  }
}
document.addEventListener("htmx:afterSettle", tick);
setInterval(tick, 1000);
tick();

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    navigator.clipboard?.writeText(copy.parentElement.querySelector("pre").textContent).then(() => {
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 2000);
    });
    return;
  }
  for (const open of document.querySelectorAll("details[data-panel][open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
  const row = event.target.closest("tr[data-href]");
  if (row && !event.target.closest("a, button, input, summary, label") && !getSelection().toString()) {
    location.href = row.dataset.href;
  }
});

document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (form?.hasAttribute("data-resubmit") && event.target.hasAttribute("data-reload")) form.requestSubmit(form.querySelector("[data-refresh]"));
});

// One click, one command: a second press while the first is on its way would be a stale click.
document.addEventListener("submit", (event) => {
  if (event.target.hasAttribute("data-once")) {
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
  }
});
addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));
