// What the broker says about itself.

import { get, path, query } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { time } from "../lib/format.js";
import { badge, empty } from "../lib/view.js";

export const title = () => "Logs";
export const state = { level: "info", find: "" };

const LEVELS = ["error", "warn", "info", "debug", "trace"];
const TONES = { error: "bad", warn: "warn", info: "good" };

export const load = ({ state, signal }) => get(query(path("logs"), { level: state.level, count: 500 }), signal);

export function view(context, answer) {
  const lines = (Array.isArray(answer) ? answer : answer.lines ?? []).filter((line) => !context.state.find || JSON.stringify(line).toLowerCase().includes(context.state.find.toLowerCase()));
  return [
    h("div", { class: "bar" },
      h("label", {}, "At least ", h("select", { onchange: (event) => context.change({ level: event.target.value }) }, LEVELS.map((level) => h("option", { value: level, selected: level === context.state.level }, level)))),
      h("label", { class: "filter" }, h("span", { class: "quiet" }, "Find"), h("input", { type: "search", placeholder: "Find", value: context.state.find, oninput: (event) => context.change({ find: event.target.value }) }))),
    lines.length ? h("ol", { class: "log", reversed: true }, [...lines].reverse().map(one)) : empty("Nothing was said at this level."),
  ];
}

function one(line) {
  const level = String(line.level ?? "").toLowerCase();
  const when = typeof line.time === "number" ? time(line.time) : line.time ?? line.timestamp;
  return h("li", { key: String(line.number ?? line.id ?? `${when} ${line.message}`) },
    h("time", { class: "muted" }, when), " ", badge(level, TONES[level]), " ", h("span", { class: "muted" }, line.area ?? line.target ?? ""), " ",
    h("span", { class: "said" }, line.message, fields(line.fields)));
}

function fields(fields) {
  if (!fields) return null;
  if (typeof fields === "string") return ` ${fields}`;
  return Object.entries(fields).map(([name, value]) => [" ", h("span", { class: "muted" }, `${name}=`), typeof value === "string" ? value : JSON.stringify(value)]);
}
