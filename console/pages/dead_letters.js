// Dead letters: which queues send their failures somewhere, and what lies there.

import { get, getIf, path, post, query } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { ask } from "../lib/dialog.js";
import { count } from "../lib/format.js";
import { table } from "../lib/table.js";
import { badge, button, empty, link, section } from "../lib/view.js";

export const title = () => "Dead letters";

const LOOKED_AT = 100;

export async function load({ signal }) {
  const [queues, bindings] = await Promise.all([get(path("queues"), signal), get(path("bindings"), signal)]);
  const sources = queues.map(target).filter(Boolean);
  const graves = queues.filter((queue) => sources.some((source) => leadsTo(source, queue, bindings)));
  const looked = await Promise.all(graves.slice(0, 20).map(async (queue) => ({ queue, messages: await sample(queue, signal) })));
  return { sources, looked };
}

/** Where a queue sends what it gives up. */
function target(queue) {
  const settings = { ...queue.effective_policy_definition, ...Object.fromEntries(Object.entries(queue.arguments ?? {}).map(([name, value]) => [name.replace(/^x-/, ""), value])) };
  const exchange = settings["dead-letter-exchange"];
  return exchange === undefined ? null : { queue, exchange, key: settings["dead-letter-routing-key"] };
}

function leadsTo({ queue, exchange, key }, grave, bindings) {
  if (queue.vhost !== grave.vhost) return false;
  if (exchange === "") return grave.name === (key ?? "");
  return bindings.some((binding) => binding.vhost === grave.vhost && binding.source === exchange && binding.destination === grave.name);
}

async function sample(queue, signal) {
  const answer = await getIf(query(`${path("queues", queue.vhost, queue.name)}/messages`, { offset: 0, count: LOOKED_AT, payload_bytes: 0 }), [], signal);
  return Array.isArray(answer) ? answer : answer.messages ?? [];
}

export function view(context, { sources, looked }) {
  return [
    section("Where dead letters are", looked.length ? graveTable(context, looked) : empty("No queue holds dead letters. Queues send theirs to an exchange when they are declared with x-dead-letter-exchange, or by a policy.")),
    section("Queues that dead-letter", table({
      caption: "Queues that dead-letter", rows: sources, nothing: "None.", rowKey: ({ queue }) => `${queue.vhost} ${queue.name}`,
      columns: [
        { title: "Queue", cell: ({ queue }) => link(queue.name, "queue", queue.vhost, queue.name) },
        { title: "To exchange", cell: ({ queue, exchange }) => link(exchange || "(AMQP default)", "exchange", queue.vhost, exchange) },
        { title: "With key", cell: ({ key }) => (key === undefined ? "the message's own" : h("code", {}, key)) },
      ],
    })),
  ];
}

function graveTable(context, looked) {
  return table({
    caption: "Queues that hold dead letters", rows: looked, rowKey: ({ queue }) => `${queue.vhost} ${queue.name}`,
    columns: [
      { title: "Queue", cell: ({ queue }) => link(queue.name, "queue", queue.vhost, queue.name) },
      { title: "Messages", number: true, cell: ({ queue }) => count(queue.messages) },
      { title: `Why (of the first ${LOOKED_AT})`, cell: ({ messages }) => tally(messages, "reason").map(([reason, n]) => [badge(`${reason} ${n}`, "warn"), " "]) },
      { title: "From", cell: ({ messages }) => tally(messages, "queue").map(([name, n]) => h("div", {}, `${name} (${n})`)) },
      { title: "", cell: ({ queue }) => button("Retry…", () => retry(context, queue)) },
    ],
  });
}

function tally(messages, what) {
  const counts = new Map();
  for (const message of messages) {
    const death = message.properties?.headers?.["x-death"]?.[0];
    if (death) counts.set(String(death[what]), (counts.get(String(death[what])) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]);
}

async function retry(context, queue) {
  const done = await ask({
    title: `Retry what lies in ${queue.name}`, action: "Retry",
    about: "Each message goes back to the queue it died in first, and counts as new there.",
    fields: [{ name: "count", label: "How many at most, the oldest first", kind: "number", value: queue.messages, required: true }],
    submit: ({ count }) => post(`${path("queues", queue.vhost, queue.name)}/move`, { retry: true, count }),
  });
  if (done) context.refresh();
}
