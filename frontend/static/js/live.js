// Keeps fragments fresh. A frame {channel, id, revision} means "refetch what shows this channel"; it carries no state.
// While the socket is lost every live fragment is refetched each 5 s and a banner says so.
const POLL_MS = 5000;
const indicator = document.querySelector("[data-live-indicator]");
const banner = document.querySelector("[data-live-banner]");
const revisions = new Map();
let socket = null;
let subscribed = "";
let attempts = 0;
let newest = Date.now();

const fragments = () => [...document.querySelectorAll("[data-fragment]")];
const channels = () => [...new Set(fragments().flatMap((node) => (node.dataset.live ?? "").split(" ").filter(Boolean)))];

function refetch(node) {
  if (document.visibilityState === "visible") window.htmx?.trigger(node, "refetch");
}

function say(state) {
  if (!indicator) return;
  indicator.dataset.state = state;
  const seconds = Math.round((Date.now() - newest) / 1000);
  const words = { live: "Live", polling: "Every 5 s", connecting: "Connecting" };
  const age = document.createElement("span");
  age.className = "data-age";
  age.textContent = `, data ${seconds} s old`;
  indicator.replaceChildren(words[state], age);
  if (banner) banner.hidden = state !== "polling";
}

function state() {
  if (socket?.readyState === WebSocket.OPEN) return "live";
  return attempts > 1 ? "polling" : "connecting";
}

// Only what is new: every subscription is answered with the newest frames, and a fragment that is never the same twice
// (a form's token) would ask, swap and subscribe in a circle.
function subscribe() {
  const wanted = channels();
  if (socket?.readyState !== WebSocket.OPEN || subscribed === wanted.join(" ")) return;
  subscribed = wanted.join(" ");
  socket.send(JSON.stringify({ subscribe: wanted }));
}

function connect() {
  if (!channels().length) return;
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.onopen = () => {
    if (attempts) fragments().forEach(refetch);
    attempts = 0;
    subscribed = "";
    subscribe();
  };
  socket.onmessage = (event) => {
    const frame = JSON.parse(event.data);
    if (!frame.channel) return;
    if (!frame.is_resync) {
      if ((revisions.get(frame.channel + frame.id) ?? -1) > frame.revision) return; // an older frame that came late
      revisions.set(frame.channel + frame.id, frame.revision);
    }
    for (const node of fragments()) {
      if ((node.dataset.live ?? "").split(" ").includes(frame.channel)) refetch(node);
    }
  };
  socket.onclose = (event) => {
    if (event.code === 4401) return location.reload();
    attempts += 1;
    setTimeout(connect, Math.min(15000, 500 * 2 ** Math.min(attempts, 5)) * (0.75 + Math.random() / 2));
  };
}

let turn = 0;
setInterval(() => {
  turn += 1;
  const lost = state() === "polling";
  for (const node of fragments()) {
    const every = lost ? POLL_MS / 1000 : Number(node.dataset.every ?? 0);
    if (every && turn % every === 0) refetch(node);
  }
  say(state());
}, 1000);

// Where the focus is, in words that hold after a refresh: most links and summaries have no id. Else the focus would fall
// to the page's beginning under the fingers of whoever walks by keyboard, and Enter would do nothing.
const stops = (node) => [...node.querySelectorAll("a[href], button, summary, [tabindex]")];
const nameOf = (stop) => `${stop.tagName} ${stop.id || stop.getAttribute("href") || stop.textContent.trim()}`;

function focusOf(node) {
  const all = stops(node);
  const at = all.indexOf(document.activeElement);
  if (at < 0) return null;
  const said = nameOf(all[at]);
  return { said, place: all.slice(0, at).filter((stop) => nameOf(stop) === said).length, at, count: all.length };
}

function focusAgain(node, { said, place, at, count }) {
  const all = stops(node);
  const same = all.filter((stop) => nameOf(stop) === said);
  const stop = same[place] ?? same[0] ?? (all.length === count ? all[at] : null); // a label that counts is another one now
  stop?.focus({ preventScroll: true });
}

// What the person has opened, focused or typed survives a refresh; an unchanged fragment is not touched.
document.addEventListener("htmx:beforeSwap", (event) => {
  const node = event.detail.target;
  if (!node.hasAttribute("data-fragment") || event.detail.xhr.status >= 400) return;
  newest = Date.now();
  const fresh = event.detail.serverResponse;
  const busy = node.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
  const asking = node.querySelector("details[data-panel][open]");
  if (node.lastBody === fresh || busy || asking) {
    event.detail.shouldSwap = false;
    return;
  }
  node.lastBody = fresh;
  node.wasOpen = [...node.querySelectorAll("details[id][open]")].map((item) => item.id);
  node.wasFocused = focusOf(node);
  node.wasHere = node.querySelector("tr.is-here")?.dataset.href; // the row that j and k have reached
});
document.addEventListener("htmx:afterSwap", (event) => {
  const node = event.detail.target;
  for (const id of node.wasOpen ?? []) document.getElementById(id)?.setAttribute("open", "");
  if (node.wasFocused) focusAgain(node, node.wasFocused);
  if (node.wasHere) node.querySelector(`tr[data-href="${CSS.escape(node.wasHere)}"]`)?.classList.add("is-here");
  subscribe();
});
for (const name of ["htmx:sendError", "htmx:responseError"]) {
  document.addEventListener(name, (event) => event.detail.target?.classList?.add("is-stale"));
}
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") fragments().forEach(refetch);
});
connect();
say(state());
