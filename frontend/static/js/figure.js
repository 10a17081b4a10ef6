// Draws every [data-figure]. Colours come as "var(--name)" and are resolved here, so one figure fits both themes.
// Plotly is 5 MB: it is fetched when the first figure comes near the view.
let loading = null;

// While it starts, Plotly puts a style element of its map library into the page, without a nonce. The policy would
// refuse it and the console would say so on every chart page: for that moment new style elements get the page's nonce.
function lendNonce() {
  const { nonce } = document.getElementById("plotly.js-style-global");
  const create = document.createElement;
  document.createElement = function (name, options) {
    const node = create.call(document, name, options);
    if (name === "style") node.nonce = nonce;
    return node;
  };
  return () => delete document.createElement;
}

function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const takeBack = lendNonce();
    script.src = document.body.dataset.plotly;
    script.onload = () => {
      takeBack();
      resolve(window.Plotly);
    };
    script.onerror = () => reject(new Error("The chart library could not be loaded."));
    document.head.append(script);
  });
  return loading;
}

function themed(value, style) {
  if (typeof value === "string") {
    return value.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
  }
  if (Array.isArray(value)) return value.map((item) => themed(item, style));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
  }
  return value;
}

// As many times below an axis as have room: "14:05:10" is wider than "14:05", and a phone has 200 px for all of them.
const TIME_PX = 46;
const SECONDS_PX = 72;
const moment = (text) => Date.parse(`${String(text).replace(" ", "T")}Z`);

function timesThatFit({ margin, xaxis }, plot, most) {
  const width = plot.clientWidth - margin.l - margin.r;
  const [since, until] = xaxis.range.map(moment);
  const fit = (px) => Math.max(2, Math.min(most, Math.floor(width / px)));
  return (until - since) / fit(TIME_PX) < 60_000 ? fit(SECONDS_PX) : fit(TIME_PX);
}

function nearestPx({ margin, xaxis, meta }, plot) {
  const [since, until] = xaxis.range.map(moment);
  const stepPx = ((plot.clientWidth - margin.l - margin.r) * meta.step * 1000) / (until - since);
  return Math.max(2, Math.ceil(0.6 * stepPx));
}

function fitTimes(plot, library, layout) {
  if (layout.xaxis.type !== "date" || !layout.xaxis.range) return;
  if (layout.meta?.step) layout.hoverdistance = nearestPx(layout, plot); // of another moment nothing is shown
  const most = layout.xaxis.nticks;
  layout.xaxis.nticks = timesThatFit(layout, plot, most);
  plot.refit = () => {
    const wanted = timesThatFit(plot.layout, plot, most);
    if (plot.layout.xaxis.nticks !== wanted) library.relayout(plot, { "xaxis.nticks": wanted });
  };
}

async function draw(node) {
  const source = node.querySelector("script[type='application/json']");
  const plot = node.querySelector("[data-plot]");
  if (!plot) return; // a refreshed fragment has taken the plot along
  const style = getComputedStyle(document.documentElement);
  const figure = themed(JSON.parse(source.textContent), style);
  figure.layout.font = { ...figure.layout.font, family: getComputedStyle(document.body).fontFamily };
  const library = await plotly();
  if (!plot.isConnected) return;
  fitTimes(plot, library, figure.layout);
  await library.react(plot, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  if (!plot.isHeard) plot.on("plotly_relayout", () => plot.refit?.()); // zoomed, or the window has another width
  plot.isHeard = true;
  shareCursor(plot, library);
}

// One cursor for charts that stand under one time axis: where one is pointed at, the others show the same moment.
function shareCursor(plot, library) {
  if (plot.sharesCursor || !plot.closest("[data-shared-cursor]")) return;
  plot.sharesCursor = true;
  const others = () => [...(plot.closest("[data-shared-cursor]")?.querySelectorAll(".js-plotly-plot") ?? [])].filter((node) => node !== plot);
  plot.on("plotly_hover", (event) => {
    if (!event.event) return; // made by us
    const at = event.points[0].xaxis.d2c(event.points[0].x);
    for (const node of others()) library.Fx.hover(node, { xval: at }, "xy");
  });
  plot.on("plotly_unhover", (event) => {
    if (event.event) for (const node of others()) library.Fx.unhover(node);
  });
}

const near = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      draw(entry.target).catch((error) => {
        const plot = entry.target.querySelector("[data-plot]");
        if (plot) plot.textContent = error.message;
      });
    }
  },
  { rootMargin: "300px" },
);

function findAll(root) {
  for (const node of root.querySelectorAll("[data-figure]:has([data-plot])")) near.observe(node);
}

// A refreshed fragment keeps the plot that is on the screen and gives it the new figure: no flash, zoom stays.
document.addEventListener("htmx:beforeSwap", (event) => {
  const target = event.detail.target;
  const kept = new Map([...target.querySelectorAll("[data-figure]")].map((node) => [node.dataset.figure, node.querySelector("[data-plot]")]));
  if (kept.size) target.keptPlots = kept;
});
document.addEventListener("htmx:afterSwap", (event) => {
  const kept = event.detail.target.keptPlots ?? new Map();
  for (const node of event.detail.target.querySelectorAll("[data-figure]")) {
    const old = node.querySelector("[data-plot]") && kept.get(node.dataset.figure);
    if (old?.classList.contains("js-plotly-plot")) node.querySelector("[data-plot]").replaceWith(old);
    if (old) draw(node).catch(() => near.observe(node));
  }
  findAll(event.detail.target);
});
document.addEventListener("themechange", () => {
  for (const node of document.querySelectorAll("[data-figure]")) {
    if (node.querySelector(".js-plotly-plot")) draw(node);
  }
});
findAll(document);
