// Channels: who publishes, who consumes, who is slow.

import { get, path, query } from "../lib/api.js";
import { count, rate, rateOf, text } from "../lib/format.js";
import { listQuery, pagedTable, table } from "../lib/table.js";
import { badge, link } from "../lib/view.js";

export const title = () => "Channels";

export const load = ({ state, signal }) => get(query(path("channels"), listQuery(state)), signal);

export const view = (context, answer) =>
  pagedTable(context, answer, { caption: "Channels", what: "channels", columns, rowKey: (row) => row.name, nothing: "There are no channels." });

export const channelTable = (rows, nothing) => table({ caption: "Channels", columns, rows, rowKey: (row) => row.name, nothing });

const mode = (row) => [row.confirm && badge("confirms"), row.transactional && badge("transactions")];

const columns = [
  { title: "Channel", sort: "name", cell: (row) => (row.connection_details?.name ? [link(row.connection_details.name, "connection", row.connection_details.name), ` (${row.number})`] : text(row.name)) },
  { title: "User", sort: "user", cell: (row) => text(row.user) },
  { title: "Virtual host", sort: "vhost", wide: true, cell: (row) => text(row.vhost) },
  { title: "Mode", cell: mode },
  { title: "Consumers", sort: "consumer_count", number: true, cell: (row) => count(row.consumer_count) },
  { title: "Prefetch", sort: "prefetch_count", number: true, cell: (row) => (row.prefetch_count ? count(row.prefetch_count) : "no limit") },
  { title: "Unacked", sort: "messages_unacknowledged", number: true, cell: (row) => count(row.messages_unacknowledged) },
  { title: "Unconfirmed", sort: "messages_unconfirmed", number: true, wide: true, cell: (row) => count(row.messages_unconfirmed) },
  { title: "Published", sort: "message_stats.publish_details.rate", number: true, cell: (row) => rate(rateOf(row.message_stats, "publish")) },
  { title: "Delivered", sort: "message_stats.deliver_get_details.rate", number: true, cell: (row) => rate(rateOf(row.message_stats, "deliver_get")) },
  { title: "Acked", sort: "message_stats.ack_details.rate", number: true, cell: (row) => rate(rateOf(row.message_stats, "ack")) },
];
