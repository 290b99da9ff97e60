// What is going on: totals, rates, and what the node is about.

import { get, getIf, path } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { chart, remember } from "../lib/chart.js";
import { bytes, count, duration, rate, rateOf, short, text } from "../lib/format.js";
import { table } from "../lib/table.js";
import { badge, facts, section, tiles, to } from "../lib/view.js";

export const title = () => "Overview";

export async function load({ signal }) {
  const [overview, nodes] = await Promise.all([get(path("overview"), signal), getIf(path("nodes"), [], signal)]);
  return { overview, nodes };
}

const MESSAGES = [
  { key: "messages_ready", label: "Ready" },
  { key: "messages_unacknowledged", label: "Unacknowledged" },
];
const RATES = [
  { key: "publish", label: "Published" },
  { key: "confirm", label: "Confirmed" },
  { key: "deliver_get", label: "Delivered" },
  { key: "ack", label: "Acknowledged" },
  { key: "redeliver", label: "Redelivered" },
  { key: "return_unroutable", label: "Returned" },
];
const CHURN = [
  { key: "connection_created", label: "Connections opened" },
  { key: "connection_closed", label: "Connections closed" },
  { key: "channel_created", label: "Channels opened" },
  { key: "queue_declared", label: "Queues declared" },
  { key: "queue_deleted", label: "Queues deleted" },
];

export function view(context, { overview, nodes }) {
  const stats = overview.message_stats ?? {};
  const churn = overview.churn_rates ?? {};
  const rates = (from, lines) => Object.fromEntries(lines.map(({ key }) => [key, rateOf(from, key)]));
  const totals = overview.queue_totals ?? {};
  return [
    nodes.map(alarms),
    tiles(objects(overview.object_totals ?? {}, totals)),
    h("div", { class: "columns" },
      section("Messages", chart({ title: "Waiting in queues", history: remember("overview.messages", totals), lines: MESSAGES })),
      section("Rates", chart({ title: "Messages a second", history: remember("overview.rates", rates(stats, RATES)), lines: RATES, format: rate })),
      section("Churn", chart({ title: "Opened and closed a second", history: remember("overview.churn", rates(churn, CHURN)), lines: CHURN, format: rate })),
      nodes.map(node)),
    section("Listeners", listeners(overview)),
  ];
}

function objects(objects, totals) {
  return [
    { label: "Connections", shown: count(objects.connections ?? 0), href: to("connections") },
    { label: "Channels", shown: count(objects.channels ?? 0), href: to("channels") },
    { label: "Queues", shown: count(objects.queues ?? 0), href: to("queues") },
    { label: "Exchanges", shown: count(objects.exchanges ?? 0), href: to("exchanges") },
    { label: "Consumers", shown: count(objects.consumers ?? 0) },
    { label: "Messages", shown: short(totals.messages ?? 0), hint: count(totals.messages ?? 0) },
  ];
}

function alarms(node) {
  const on = [node.mem_alarm && "Memory is above its limit: publishers are blocked.", node.disk_free_alarm && "The disk is nearly full: publishers are blocked."].filter(Boolean);
  return on.map((words) => h("div", { class: "problem", role: "alert", key: words }, h("strong", {}, "Alarm. "), words));
}

function node(node) {
  return section(`Node ${node.name}`, facts([
    ["Up for", duration(node.uptime)],
    ["Memory", [bytes(node.mem_used), " of ", bytes(node.mem_limit), " ", node.mem_alarm ? badge("alarm", "bad") : badge("fine", "good")]],
    ["Disk free", [bytes(node.disk_free), " (limit ", bytes(node.disk_free_limit), ") ", node.disk_free_alarm ? badge("alarm", "bad") : badge("fine", "good")]],
    ["File descriptors", `${count(node.fd_used)} of ${count(node.fd_total)}`],
    ["Processors", text(node.processors)],
  ]));
}

function listeners(overview) {
  const rows = (overview.listeners ?? []).map((listener) => ({ ...listener, id: `${listener.protocol} ${listener.ip_address} ${listener.port}` }));
  return [
    table({
      caption: "Where this broker listens", rows, rowKey: (row) => row.id, nothing: "It listens nowhere.",
      columns: [
        { title: "Protocol", cell: (row) => row.protocol },
        { title: "Address", cell: (row) => row.ip_address },
        { title: "Port", number: true, cell: (row) => String(row.port) },
      ],
    }),
    facts([["Version", overview.leveret_version ?? overview.rabbitmq_version ?? overview.product_version], ["Name", overview.cluster_name]]),
  ];
}
