// Who is connected; and one connection, with its channels.

import { del, get, getIf, path, query } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { ago, byteRate, bytes, count, duration, rateOf, text, time, yes } from "../lib/format.js";
import { listQuery, pagedTable } from "../lib/table.js";
import { ask } from "../lib/dialog.js";
import { badge, button, facts, link, map, section } from "../lib/view.js";
import { channelTable } from "./channels.js";

export const title = () => "Connections";

export const load = ({ state, signal }) => get(query(path("connections"), listQuery(state)), signal);

const name = (connection) => connection.user_provided_name || connection.client_properties?.connection_name || connection.name;

export function view(context, answer) {
  return pagedTable(context, answer, {
    caption: "Connections", what: "connections", rowKey: (row) => row.name, nothing: "Nobody is connected.",
    columns: [
      { title: "Name", sort: "name", cell: (row) => [link(name(row), "connection", row.name), name(row) !== row.name && h("div", { class: "muted" }, row.name)] },
      { title: "User", sort: "user", cell: (row) => text(row.user) },
      { title: "Virtual host", sort: "vhost", wide: true, cell: (row) => text(row.vhost) },
      { title: "State", sort: "state", cell: (row) => state(row.state) },
      { title: "TLS", wide: true, cell: (row) => yes(row.ssl) },
      { title: "Channels", sort: "channels", number: true, cell: (row) => count(row.channels) },
      { title: "From client", sort: "recv_oct_details.rate", number: true, cell: (row) => byteRate(rateOf(row, "recv_oct")) },
      { title: "To client", sort: "send_oct_details.rate", number: true, cell: (row) => byteRate(rateOf(row, "send_oct")) },
      { title: "Connected", sort: "connected_at", wide: true, cell: (row) => h("span", { title: time(row.connected_at) }, ago(row.connected_at)) },
    ],
  });
}

const state = (word) => badge(text(word), word === "running" ? "good" : word === "blocked" || word === "blocking" ? "bad" : "plain");

/** One connection. */
export const one = {
  within: "connections",
  title: (name) => `Connection ${name}`,
  async load({ signal }, name) {
    const [connection, channels] = await Promise.all([get(path("connections", name), signal), getIf(path("connections", name, "channels"), [], signal)]);
    return { connection, channels };
  },
  view: (context, { connection, channels }) => [
    h("div", { class: "bar" }, button("Close this connection…", () => close(context, connection), { class: "danger" })),
    h("div", { class: "columns" },
      section("Connection", facts([
        ["User", connection.user], ["Virtual host", connection.vhost], ["State", state(connection.state)],
        ["Client", `${connection.peer_host}:${connection.peer_port}`], ["Here", `${connection.host}:${connection.port}`],
        ["Protocol", connection.protocol], ["Login", connection.auth_mechanism],
        ["TLS", connection.ssl ? [connection.ssl_protocol, connection.ssl_cipher].filter(Boolean).join(", ") || "yes" : "no"],
        connection.peer_cert_subject && ["Certificate", connection.peer_cert_subject],
        ["Connected", h("span", { title: time(connection.connected_at) }, ago(connection.connected_at))],
        ["Heartbeat", duration((connection.timeout ?? 0) * 1000)], ["Largest frame", bytes(connection.frame_max)], ["Channels at most", count(connection.channel_max)],
        ["From client", `${bytes(connection.recv_oct)}, ${byteRate(rateOf(connection, "recv_oct"))}`],
        ["To client", `${bytes(connection.send_oct)}, ${byteRate(rateOf(connection, "send_oct"))}`],
      ])),
      section("What the client says of itself", map(connection.client_properties))),
    section("Channels", channelTable(channels, "This connection has no channels.")),
  ],
};

async function close(context, connection) {
  const closed = await ask({
    title: "Close this connection?", action: "Close it", danger: true,
    about: "Unacknowledged messages go back to their queues. Most clients connect again.",
    fields: [{ name: "reason", label: "Reason", hint: "The client is told.", value: "Closed in the console" }],
    submit: ({ reason }) => del(path("connections", connection.name), { "X-Reason": (reason ?? "").replace(/[^\x20-\x7e]/g, "?") }),
  });
  if (closed) location.hash = "#/connections";
}
