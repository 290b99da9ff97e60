// What is bound to what, as a picture, and the same as a list.

import { get, path } from "../lib/api.js";
import { h, s } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { table } from "../lib/table.js";
import { badge, empty, link, section, to } from "../lib/view.js";

export const title = () => "Topology";
export const still = true;
export const state = { vhost: undefined, find: "" };

const SHOWN_MAX = 300;
const [COLUMN, ROW, BOX_WIDTH, BOX_HEIGHT] = [300, 40, 200, 26];

export async function load({ state, signal }) {
  const vhosts = (await get(path("vhosts"), signal)).map(({ name }) => name);
  const vhost = state.vhost ?? (vhosts.includes("/") ? "/" : vhosts[0]);
  const bindings = vhost === undefined ? [] : await get(path("bindings", vhost), signal);
  return { vhosts, vhost, bindings: bindings.filter(({ source }) => source !== "") };
}

export function view(context, { vhosts, vhost, bindings }) {
  const wanted = context.state.find.toLowerCase();
  const fits = ({ source, destination, routing_key }) => [source, destination, routing_key].some((name) => name.toLowerCase().includes(wanted));
  const found = bindings.filter(fits);
  const shown = found.slice(0, SHOWN_MAX);
  return [
    h("div", { class: "bar" },
      h("label", {}, "Virtual host ", h("select", { onchange: (event) => context.change({ vhost: event.target.value }) }, vhosts.map((name) => h("option", { value: name, selected: name === vhost }, name)))),
      h("label", { class: "filter" }, h("span", { class: "quiet" }, "Find a name or key"), h("input", { type: "search", placeholder: "Find a name or key", value: context.state.find, oninput: (event) => context.change({ find: event.target.value }) })),
      h("span", { class: "muted", role: "status" }, found.length > SHOWN_MAX ? `The first ${SHOWN_MAX} of ${count(found.length)} bindings` : `${count(found.length)} bindings`)),
    section("Picture", shown.length ? picture(shown) : empty("Nothing is bound, except every queue to the default exchange by its own name.")),
    shown.length ? section("The same as a list", list(shown)) : null,
  ];
}

const key = (kind, name) => `${kind} ${name}`;

/** Exchanges that nothing leads to on the left, queues on the right, exchanges between them by how far they are. */
function layout(bindings) {
  const nodes = new Map();
  const add = (kind, name, vhost) => nodes.set(key(kind, name), nodes.get(key(kind, name)) ?? { kind, name, vhost, depth: 0 });
  for (const { source, destination, destination_type, vhost } of bindings) {
    add("exchange", source, vhost);
    add(destination_type, destination, vhost);
  }
  for (let round = 0; round < 8; round += 1) {
    for (const { source, destination, destination_type } of bindings) {
      const target = nodes.get(key(destination_type, destination));
      target.depth = Math.max(target.depth, Math.min(8, nodes.get(key("exchange", source)).depth + 1));
    }
  }
  const last = Math.max(...[...nodes.values()].map(({ depth }) => depth));
  const used = new Map();
  for (const node of nodes.values()) {
    const column = node.kind === "queue" ? last : Math.min(node.depth, last - 1);
    const row = used.get(column) ?? 0;
    used.set(column, row + 1);
    // Every second column stands half a row lower, so that a long line does not run through a box.
    Object.assign(node, { x: 10 + column * COLUMN, y: 10 + (row + (column % 2) / 2) * ROW });
  }
  return { nodes, width: 20 + last * COLUMN + BOX_WIDTH, height: 10 + (Math.max(...used.values()) + 0.5) * ROW };
}

function picture(bindings) {
  const { nodes, width, height } = layout(bindings);
  const lines = bindings.map((binding) => edge(nodes.get(key("exchange", binding.source)), nodes.get(key(binding.destination_type, binding.destination)), binding));
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "Exchanges and the queues bound to them; the list below says the same", class: "topology" }, lines, [...nodes.values()].map(box));
  return h("div", { class: "picture-scroll", tabindex: "0", role: "region", "aria-label": "Picture of the bindings" }, svg);
}

function edge(from, target, binding) {
  const [x1, y1, x2, y2] = [from.x + BOX_WIDTH, from.y + BOX_HEIGHT / 2, target.x, target.y + BOX_HEIGHT / 2];
  const middle = (x1 + x2) / 2;
  return s("g", { class: "edge" },
    s("path", { d: `M${x1},${y1} C${middle},${y1} ${middle},${y2} ${x2},${y2}` }, s("title", {}, `${binding.source} → ${binding.destination}: ${binding.routing_key || "(no key)"}`)),
    s("text", { x: x2 - 8, y: y2 - 4, "text-anchor": "end" }, cut(binding.routing_key, 18)));
}

function box({ kind, name, vhost, x, y }) {
  const open = () => { location.hash = to(kind, vhost, name); };
  return s("g", { class: `box box-${kind}`, onclick: open },
    s("rect", { x, y, width: BOX_WIDTH, height: BOX_HEIGHT, rx: kind === "exchange" ? 13 : 4 }),
    s("text", { x: x + 10, y: y + 17 }, cut(name, 28)), s("title", {}, `${kind} ${name}`));
}

const cut = (name, length) => (name.length > length ? `${name.slice(0, length - 1)}…` : name);

function list(bindings) {
  return table({
    caption: "Bindings", rows: bindings,
    columns: [
      { title: "From", cell: (row) => link(row.source, "exchange", row.vhost, row.source) },
      { title: "Key", cell: (row) => h("code", {}, row.routing_key) },
      { title: "To", cell: (row) => [link(row.destination, row.destination_type, row.vhost, row.destination), " ", badge(row.destination_type)] },
    ],
  });
}
