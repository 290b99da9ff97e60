// Queues.

import { get, path, put, query } from "../lib/api.js";
import { ask, parseArguments } from "../lib/dialog.js";
import { bytes, count, rate, rateOf } from "../lib/format.js";
import { listQuery, pagedTable } from "../lib/table.js";
import { badge, button, link } from "../lib/view.js";
import { vhostField } from "./choose.js";

const TYPES = [["classic", "classic"], ["quorum", "quorum: counts deliveries, gives up after a limit"], ["stream", "stream: keeps what was read"], ["delayed", "delayed: holds messages until they are due"]];
const ARGUMENTS = "One a line, for example: x-message-ttl = 60000, x-max-length = 10000, x-overflow = reject-publish, x-dead-letter-exchange = name, x-max-priority = 5, x-single-active-consumer = true, x-delivery-limit = 5";

export const title = () => "Queues";

export const load = ({ state, signal }) => get(query(path("queues"), listQuery(state)), signal);

export function view(context, answer) {
  return pagedTable(context, answer, {
    caption: "Queues", what: "queues", rowKey: (row) => `${row.vhost} ${row.name}`, nothing: "No queue has such a name. A client declares one, or you do.",
    tools: button("Declare a queue…", () => declare(context)),
    columns: [
      { title: "Name", sort: "name", cell: (row) => link(row.name, "queue", row.vhost, row.name) },
      { title: "Virtual host", sort: "vhost", wide: true, cell: (row) => row.vhost },
      { title: "Type", sort: "type", cell: (row) => row.type },
      { title: "Features", wide: true, cell: features },
      { title: "State", sort: "state", cell: (row) => state(row) },
      { title: "Ready", sort: "messages_ready", number: true, cell: (row) => count(row.messages_ready) },
      { title: "Unacked", sort: "messages_unacknowledged", number: true, cell: (row) => count(row.messages_unacknowledged) },
      { title: "Size", sort: "message_bytes", number: true, wide: true, cell: (row) => bytes(row.message_bytes) },
      { title: "Consumers", sort: "consumers", number: true, cell: (row) => count(row.consumers) },
      { title: "In", sort: "message_stats.publish_details.rate", number: true, cell: (row) => rate(rateOf(row.message_stats, "publish")) },
      { title: "Out", sort: "message_stats.deliver_get_details.rate", number: true, cell: (row) => rate(rateOf(row.message_stats, "deliver_get")) },
    ],
  });
}

/** What a queue is, in short words. */
export const features = (row) => [
  row.durable && badge("durable", "plain", "Survives a restart"),
  row.auto_delete && badge("auto-delete", "plain", "Goes with its last consumer"),
  row.exclusive && badge("exclusive", "plain", "One connection's own"),
  Object.keys(row.arguments ?? {}).filter((name) => name !== "x-queue-type").map((name) => badge(name.replace(/^x-/, ""), "plain", JSON.stringify(row.arguments[name]))),
  row.policy && badge(`policy ${row.policy}`, "plain"),
];

/** Running, idle, paused, offline. */
export const state = (row) => badge(row.state ?? "running", row.state === "running" || !row.state ? "good" : row.state === "paused" ? "warn" : row.state === "idle" ? "plain" : "bad", row.reason);

async function declare(context) {
  const vhost = await vhostField();
  const done = await ask({
    title: "Declare a queue", action: "Declare",
    fields: [
      vhost, { name: "name", label: "Name", required: true }, { name: "type", label: "Type", kind: "select", options: TYPES },
      { name: "durable", label: "Durable: survives a restart", kind: "checkbox", value: true }, { name: "auto_delete", label: "Delete with its last consumer", kind: "checkbox" },
      { name: "arguments", label: "Arguments", kind: "textarea", hint: ARGUMENTS },
    ],
    submit: ({ vhost, name, type, durable, auto_delete, arguments: lines }) =>
      put(path("queues", vhost, name), { durable, auto_delete, arguments: { ...(type === "classic" ? {} : { "x-queue-type": type }), ...parseArguments(lines) } }),
  });
  if (done) context.refresh();
}
