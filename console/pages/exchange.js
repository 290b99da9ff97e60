// One exchange: what is bound, and a form to publish.

import { del, get, path, post } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { chart, remember } from "../lib/chart.js";
import { ask, confirm, parseArguments } from "../lib/dialog.js";
import { rate, rateOf, text } from "../lib/format.js";
import { table } from "../lib/table.js";
import { badge, button, facts, link, map, section } from "../lib/view.js";
import { features } from "./exchanges.js";
import { publishForm } from "./publish.js";

export const within = "exchanges";
export const title = (vhost, name) => `Exchange ${name || "(AMQP default)"}`;

// The API calls the default exchange by another name, for a path cannot have an empty part.
const named = (name) => name || "amq.default";

export async function load({ signal }, vhost, name) {
  const own = path("exchanges", vhost, named(name));
  const [exchange, out, into] = await Promise.all([get(own, signal), get(`${own}/bindings/source`, signal), get(`${own}/bindings/destination`, signal)]);
  return { exchange, out, into };
}

export function view(context, { exchange, out, into }, vhost, name) {
  const rates = { publish_in: rateOf(exchange.message_stats, "publish_in"), publish_out: rateOf(exchange.message_stats, "publish_out") };
  const isDefault = name === "";
  const isOurs = isDefault || name.startsWith("amq.");
  return [
    h("div", { class: "bar" },
      !isDefault && button("Bind to it…", () => bind(context, exchange)),
      !isOurs && button("Delete…", () => remove(exchange), { class: "danger" })),
    h("div", { class: "columns" },
      section("Exchange", facts([
        ["Virtual host", vhost], ["Type", exchange.type], ["Features", features(exchange)],
        ["Policy", text(exchange.policy)], ["Arguments", map(exchange.arguments)],
        exchange.deduplicated !== undefined && ["Duplicates dropped", text(exchange.deduplicated)],
      ])),
      section("Rates", chart({ title: "Messages a second", history: remember(`exchange.${vhost}.${name}`, rates), format: rate, lines: [{ key: "publish_in", label: "In" }, { key: "publish_out", label: "Out" }] }))),
    section("Bindings from this exchange", isDefault ? h("p", { class: "muted" }, "Every queue is bound to it by its own name.") : bindings(context, out, "destination", "Nothing is bound to it: what is published here goes nowhere.")),
    into.length ? section("Bindings to this exchange", bindings(context, into, "source", "")) : null,
    section("Publish a message", publishForm({ vhost, exchange: named(name), key: "publish" })),
  ];
}

/** A table of bindings with their other end. */
export function bindings(context, rows, end, nothing) {
  const other = (row) => (end === "source" ? link(row.source || "(AMQP default)", "exchange", row.vhost, row.source) : link(row.destination, row.destination_type, row.vhost, row.destination));
  return table({
    caption: "Bindings", rows, nothing, rowKey: (row) => `${row.source} ${row.destination_type} ${row.destination} ${row.properties_key}`,
    columns: [
      { title: end === "source" ? "From" : "To", cell: (row) => [other(row), end === "destination" ? [" ", badge(row.destination_type)] : null] },
      { title: "Routing key", cell: (row) => h("code", {}, row.routing_key) },
      { title: "Arguments", cell: (row) => (Object.keys(row.arguments ?? {}).length ? map(row.arguments) : "") },
      { title: "", cell: (row) => row.source !== "" && button("Unbind…", () => unbind(context, row)) },
    ],
  });
}

const bindingPath = ({ vhost, source, destination_type, destination }, ...more) => path("bindings", vhost, "e", source, destination_type === "queue" ? "q" : "e", destination, ...more);

async function unbind(context, row) {
  const done = await confirm({
    title: "Unbind?", action: "Unbind",
    about: `Messages with key “${row.routing_key}” no longer go from ${row.source} to ${row.destination} by this binding.`,
    submit: () => del(bindingPath(row, row.properties_key)),
  });
  if (done) context.refresh();
}

async function bind(context, exchange) {
  const done = await ask({
    title: `Bind to ${exchange.name}`, action: "Bind",
    fields: [
      { name: "destination_type", label: "What", kind: "select", options: ["queue", "exchange"] },
      { name: "destination", label: "Its name", required: true }, { name: "routing_key", label: "Routing key" },
      { name: "arguments", label: "Arguments", kind: "textarea", hint: "One a line: x-match = all" },
    ],
    submit: ({ routing_key = "", arguments: lines, ...ends }) => post(bindingPath({ ...ends, vhost: exchange.vhost, source: exchange.name }), { routing_key, arguments: parseArguments(lines) }),
  });
  if (done) context.refresh();
}

async function remove(exchange) {
  const done = await confirm({
    title: `Delete exchange ${exchange.name}?`, action: "Delete", name: exchange.name,
    about: "Its bindings go with it. Publishers to it are refused from then on.",
    submit: () => del(path("exchanges", exchange.vhost, exchange.name)),
  });
  if (done) location.hash = "#/exchanges";
}
