// One queue: what is in it, who takes it, and what can be done about it.

import { del, get, getIf, path, post, put, query } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { chart, remember } from "../lib/chart.js";
import { ask, confirm, parseArguments, tell } from "../lib/dialog.js";
import { bytes, count, rate, rateOf, text, ago } from "../lib/format.js";
import { table } from "../lib/table.js";
import { badge, button, facts, link, map, section, tiles } from "../lib/view.js";
import { bindings } from "./exchange.js";
import { messageList } from "./messages.js";
import { publishForm } from "./publish.js";
import { features, state } from "./queues.js";

export const within = "queues";
export const title = (vhost, name) => `Queue ${name}`;

const BROWSED = 20;

export async function load(context, vhost, name) {
  const { signal } = context;
  const own = path("queues", vhost, name);
  const [queue, bound, messages] = await Promise.all([
    get(own, signal),
    get(`${own}/bindings`, signal),
    context.state.browsing === undefined ? null : getIf(query(`${own}/messages`, { offset: context.state.browsing, count: BROWSED, payload_bytes: 50_000 }), [], signal),
  ]);
  return { queue, bound, messages };
}

const LENGTHS = [{ key: "messages_ready", label: "Ready" }, { key: "messages_unacknowledged", label: "Unacknowledged" }];
const RATES = [{ key: "publish", label: "In" }, { key: "deliver_get", label: "Delivered" }, { key: "ack", label: "Acknowledged" }, { key: "redeliver", label: "Redelivered" }];

export function view(context, { queue, bound, messages }, vhost, name) {
  const key = `queue.${vhost}.${name}`;
  const rates = Object.fromEntries(RATES.map(({ key }) => [key, rateOf(queue.message_stats, key)]));
  return [
    actions(context, queue),
    tiles([
      { label: "Ready", shown: count(queue.messages_ready) }, { label: "Unacknowledged", shown: count(queue.messages_unacknowledged) },
      { label: "Consumers", shown: count(queue.consumers) }, { label: "Size of messages", shown: bytes(queue.message_bytes) },
    ]),
    h("div", { class: "columns" },
      section("Messages", chart({ title: "In this queue", history: remember(`${key}.lengths`, queue), lines: LENGTHS })),
      section("Rates", chart({ title: "Messages a second", history: remember(`${key}.rates`, rates), lines: RATES, format: rate })),
      section("Queue", about(queue))),
    section("Messages that wait", browse(context, queue, messages)),
    section("Consumers", consumers(queue)),
    section("Bindings to this queue", bindings(context, bound, "source", "Only the default exchange leads here, by the queue's name.")),
    section("Publish to this queue", publishForm({ vhost, exchange: "amq.default", routingKey: name })),
  ];
}

function about(queue) {
  return facts([
    ["Virtual host", queue.vhost], ["Type", queue.type], ["State", [state(queue), queue.reason ? ` ${queue.reason}` : ""]],
    ["Features", features(queue)], ["Policy", text(queue.policy)], ["Operator policy", text(queue.operator_policy)],
    ["In force by policies", map(queue.effective_policy_definition)], ["Arguments", map(queue.arguments)],
    queue.owner_pid_details?.name && ["Owned by", link(queue.owner_pid_details.name, "connection", queue.owner_pid_details.name)],
    ["Oldest message", queue.head_message_timestamp ? ago(queue.head_message_timestamp * 1000) : "–"],
    ["Idle since", text(queue.idle_since)], ["Memory", bytes(queue.memory)],
    queue.delayed !== undefined && ["Waiting for their time", count(queue.delayed)],
  ]);
}

function actions(context, queue) {
  const own = path("queues", queue.vhost, queue.name);
  const paused = queue.state === "paused";
  const stream = queue.type === "stream";
  return h("div", { class: "bar" },
    button(paused ? "Resume" : "Pause", () => context.act(() => put(`${own}/${paused ? "resume" : "pause"}`)), { title: "A paused queue takes messages and hands none out" }),
    !stream && button("Take a message…", () => take(context, queue)),
    !stream && button("Move messages…", () => move(context, queue)),
    button("Bind…", () => bind(context, queue)),
    !stream && button("Purge…", () => purge(context, queue), { class: "danger" }),
    button("Delete…", () => remove(queue), { class: "danger" }));
}

function browse(context, queue, messages) {
  if (messages === null) {
    return [h("p", { class: "muted" }, "Looking changes nothing: no message is taken, counted as delivered, or put in another place."), button("Look at the messages", () => context.change({ browsing: 0 }))];
  }
  const list = Array.isArray(messages) ? messages : messages.messages ?? [];
  const { browsing } = context.state;
  return [
    h("div", { class: "bar" },
      button("First", () => context.change({ browsing: 0 }), { disabled: browsing === 0 }),
      button("Next", () => context.change({ browsing: browsing + BROWSED }), { disabled: list.length < BROWSED }),
      button("Close", () => context.change({ browsing: undefined }))),
    messageList(list, browsing),
  ];
}

function consumers(queue) {
  return table({
    caption: "Consumers", rows: queue.consumer_details ?? [], nothing: "Nobody consumes this queue.",
    rowKey: (row) => `${row.channel_details?.name} ${row.consumer_tag}`,
    columns: [
      { title: "Tag", cell: (row) => row.consumer_tag },
      { title: "Channel", cell: (row) => (row.channel_details?.connection_name ? link(row.channel_details.name, "connection", row.channel_details.connection_name) : text(row.channel_details?.name)) },
      { title: "Prefetch", number: true, cell: (row) => (row.prefetch_count ? count(row.prefetch_count) : "no limit") },
      { title: "How", cell: (row) => [badge(row.ack_required ? "acknowledges" : "no acknowledgements"), row.exclusive && badge("exclusive"), row.active === false && badge("waits its turn", "warn")] },
      { title: "Arguments", cell: (row) => map(row.arguments) },
    ],
  });
}

async function take(context, queue) {
  await ask({
    title: "Take a message", action: "Take",
    about: "Taking is a delivery: with requeue the message comes back marked as redelivered. To look without that, use “Look at the messages”.",
    fields: [{ name: "ackmode", label: "And then", kind: "select", options: [["ack_requeue_true", "put it back"], ["ack_requeue_false", "acknowledge it: it is gone"], ["reject_requeue_false", "reject it: it is dead-lettered"]] }, { name: "count", label: "How many", kind: "number", value: 1, required: true }],
    submit: async ({ ackmode, count }) => {
      const got = await post(`${path("queues", queue.vhost, queue.name)}/get`, { ackmode, count, encoding: "auto", truncate: 50_000 });
      tell(got.length ? "Taken" : "The queue is empty", got.length ? messageList(got, 0) : null);
    },
  });
  context.refresh();
}

async function move(context, queue) {
  const done = await ask({
    title: `Move messages from ${queue.name}`, action: "Move",
    about: "Each is safe where it goes before it ends here.",
    fields: [
      { name: "where", label: "Where", kind: "select", options: [["to_queue", "to a queue"], ["to_exchange", "to an exchange, with the routing key each has"], ["retry", "back to where each died"]] },
      { name: "target", label: "Its name" }, { name: "count", label: "How many at most", kind: "number", value: queue.messages_ready, required: true },
    ],
    submit: ({ where, target, count }) => {
      if (where !== "retry" && !target) throw new Error("Where to? Give the name.");
      return post(`${path("queues", queue.vhost, queue.name)}/move`, where === "retry" ? { retry: true, count } : { [where]: target, count });
    },
  });
  if (done) context.refresh();
}

async function bind(context, queue) {
  const done = await ask({
    title: `Bind ${queue.name} to an exchange`, action: "Bind",
    fields: [{ name: "source", label: "Exchange", required: true }, { name: "routing_key", label: "Routing key" }, { name: "arguments", label: "Arguments", kind: "textarea", hint: "One a line: x-match = all" }],
    submit: ({ source, routing_key = "", arguments: lines }) => post(path("bindings", queue.vhost, "e", source, "q", queue.name), { routing_key, arguments: parseArguments(lines) }),
  });
  if (done) context.refresh();
}

async function purge(context, queue) {
  const done = await confirm({
    title: `Purge ${queue.name}?`, action: "Purge",
    about: `${count(queue.messages_ready)} messages that wait are lost. Unacknowledged ones stay with their consumers.`,
    submit: () => del(`${path("queues", queue.vhost, queue.name)}/contents`),
  });
  if (done) context.refresh();
}

async function remove(queue) {
  const done = await confirm({
    title: `Delete queue ${queue.name}?`, action: "Delete", name: queue.name,
    about: `Its ${count(queue.messages)} messages and its bindings go with it.`,
    submit: () => del(path("queues", queue.vhost, queue.name)),
  });
  if (done) location.hash = "#/queues";
}

