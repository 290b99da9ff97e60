// Virtual hosts.

import { del, get, path, put } from "../lib/api.js";
import { ask, confirm } from "../lib/dialog.js";
import { h } from "../lib/dom.js";
import { count, rate, rateOf } from "../lib/format.js";
import { sorted, table } from "../lib/table.js";
import { badge, button } from "../lib/view.js";

export const title = () => "Virtual hosts";
export const state = { sort: "name" };

export const load = ({ signal }) => get(path("vhosts"), signal);

export function view(context, vhosts) {
  const admin = context.may("administrator");
  return [
    admin && h("div", { class: "bar" }, button("Add a virtual host…", () => add(context))),
    table({
      caption: "Virtual hosts", rows: sorted(vhosts, context.state), state: context.state, onsort: (sort) => context.change(sort), rowKey: (row) => row.name,
      columns: [
        { title: "Name", sort: "name", cell: (row) => [row.name, row.description ? h("div", { class: "muted" }, row.description) : null] },
        { title: "Tags", cell: (row) => (row.tags ?? []).map((tag) => badge(tag)) },
        { title: "Ready", sort: "messages_ready", number: true, cell: (row) => count(row.messages_ready) },
        { title: "Unacked", sort: "messages_unacknowledged", number: true, cell: (row) => count(row.messages_unacknowledged) },
        { title: "In", number: true, cell: (row) => rate(rateOf(row.message_stats, "publish")) },
        { title: "Out", number: true, cell: (row) => rate(rateOf(row.message_stats, "deliver_get")) },
        admin && { title: "", cell: (row) => button("Delete…", () => remove(context, row), { class: "danger" }) },
      ].filter(Boolean),
    }),
  ];
}

async function add(context) {
  const done = await ask({
    title: "Add a virtual host", action: "Add",
    fields: [{ name: "name", label: "Name", required: true }, { name: "description", label: "What it is for" }, { name: "default_queue_type", label: "Queues are, if they do not say", kind: "select", options: ["classic", "quorum", "stream"] }],
    submit: ({ name, ...rest }) => put(path("vhosts", name), rest),
  });
  if (done) context.refresh();
}

async function remove(context, vhost) {
  const done = await confirm({
    title: `Delete virtual host ${vhost.name}?`, action: "Delete", name: vhost.name,
    about: "Its queues with all messages, exchanges, policies and permissions go with it; its connections are closed.",
    submit: () => del(path("vhosts", vhost.name)),
  });
  if (done) context.refresh();
}
