// Lines over time, with a legend that says the newest values: the picture is never the only way to know.

import { h, s } from "./dom.js";
import { short } from "./format.js";

const SAMPLES_MAX = 120;
const [WIDTH, HEIGHT, MARGIN] = [600, 150, 4];
const histories = new Map();

/** Remembers the newest values under a name; while the tab is open and no longer. */
export function remember(name, values) {
  const history = histories.get(name) ?? [];
  history.push({ at: Date.now(), values });
  if (history.length > SAMPLES_MAX) history.shift();
  histories.set(name, history);
  return history;
}

/** Forgets what other pages remembered when there is too much of it. */
export function forgetOthers(prefix) {
  if (histories.size < 40) return;
  for (const name of histories.keys()) if (!name.startsWith(prefix)) histories.delete(name);
}

/** A chart of `lines` (`label`, `key`) over a history. */
export function chart({ title, history, lines, format = short }) {
  const newest = history.at(-1)?.values ?? {};
  const shown = lines.filter(({ key }) => history.some(({ values }) => typeof values[key] === "number"));
  const max = niceMax(Math.max(1, ...history.flatMap(({ values }) => shown.map(({ key }) => values[key] ?? 0))));
  const summary = `${title}: ${shown.map(({ label, key }) => `${label} ${format(newest[key])}`).join(", ")}`;
  return h("figure", { class: "chart" },
    h("figcaption", {}, title),
    h("div", { class: "chart-body" },
      h("div", { class: "axis", "aria-hidden": "true" }, [1, 0.5, 0].map((share) => h("span", {}, format(max * share)))),
      s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": summary, preserveAspectRatio: "none", class: "chart-picture" },
        [0, 0.5, 1].map(gridLine), shown.map((line, at) => polyline(history, line.key, max, at)))),
    h("ul", { class: "legend" }, shown.map(({ label, key }, at) => h("li", { class: `series-${at}` }, h("span", { class: "swatch", "aria-hidden": "true" }), `${label} `, h("b", {}, format(newest[key]))))));
}

const gridLine = (share) => s("line", { class: "grid", x1: 0, x2: WIDTH, y1: place(share), y2: place(share) });

const place = (share) => MARGIN + (1 - share) * (HEIGHT - 2 * MARGIN);

function polyline(history, key, max, at) {
  if (history.length < 2) return null;
  const [first, last] = [history[0].at, history.at(-1).at];
  const point = ({ at: when, values }) => {
    const x = ((when - first) / Math.max(1, last - first)) * WIDTH;
    return `${x.toFixed(1)},${place((values[key] ?? 0) / max).toFixed(1)}`;
  };
  return s("polyline", { class: `line series-${at}`, points: history.map(point).join(" ") });
}

function niceMax(max) {
  const power = 10 ** Math.floor(Math.log10(max));
  return [1, 2, 5, 10].map((step) => step * power).find((nice) => nice >= max);
}
