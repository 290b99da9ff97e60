// Exchanges.

import { get, path, put, query } from "../lib/api.js";
import { ask, parseArguments } from "../lib/dialog.js";
import { rate, rateOf } from "../lib/format.js";
import { listQuery, pagedTable } from "../lib/table.js";
import { badge, button, link } from "../lib/view.js";
import { vhostField } from "./choose.js";

export const TYPES = ["direct", "fanout", "topic", "headers", "x-delayed-message", "x-consistent-hash", "x-modulus-hash", "x-random", "x-local-random", "x-recent-history", "x-message-deduplication"];

export const title = () => "Exchanges";

export const load = ({ state, signal }) => get(query(path("exchanges"), listQuery(state)), signal);

export function view(context, answer) {
  return pagedTable(context, answer, {
    caption: "Exchanges", what: "exchanges", rowKey: (row) => `${row.vhost} ${row.name}`, nothing: "No exchange has such a name.",
    tools: button("Declare an exchange…", () => declare(context)),
    columns: [
      { title: "Name", sort: "name", cell: (row) => link(row.name || "(AMQP default)", "exchange", row.vhost, row.name) },
      { title: "Virtual host", sort: "vhost", cell: (row) => row.vhost },
      { title: "Type", sort: "type", cell: (row) => row.type },
      { title: "Features", cell: features },
      { title: "Policy", sort: "policy", wide: true, cell: (row) => row.policy ?? "" },
      { title: "In", sort: "message_stats.publish_in_details.rate", number: true, cell: (row) => rate(rateOf(row.message_stats, "publish_in")) },
      { title: "Out", sort: "message_stats.publish_out_details.rate", number: true, cell: (row) => rate(rateOf(row.message_stats, "publish_out")) },
    ],
  });
}

export const features = (row) => [
  row.durable && badge("durable", "plain", "Survives a restart"),
  row.auto_delete && badge("auto-delete", "plain", "Goes with its last binding or consumer"),
  row.internal && badge("internal", "plain", "Clients may not publish to it"),
  Object.keys(row.arguments ?? {}).map((name) => badge(name, "plain", JSON.stringify(row.arguments[name]))),
];

async function declare(context) {
  const vhost = await vhostField();
  const done = await ask({
    title: "Declare an exchange", action: "Declare",
    fields: [
      vhost, { name: "name", label: "Name", required: true }, { name: "type", label: "Type", kind: "select", options: TYPES },
      { name: "durable", label: "Durable", kind: "checkbox", value: true }, { name: "auto_delete", label: "Delete with its last binding", kind: "checkbox" },
      { name: "internal", label: "Internal: for bindings from other exchanges only", kind: "checkbox" },
      { name: "arguments", label: "Arguments", kind: "textarea", hint: "One a line: alternate-exchange = name, x-delayed-type = direct" },
    ],
    submit: ({ vhost, name, arguments: lines, ...rest }) => put(path("exchanges", vhost, name), { ...rest, arguments: parseArguments(lines) }),
  });
  if (done) context.refresh();
}
