// Shovels and federation links: what moves messages between brokers.

import { del, getIf, path, put } from "../lib/api.js";
import { ask, confirm } from "../lib/dialog.js";
import { h } from "../lib/dom.js";
import { text } from "../lib/format.js";
import { table } from "../lib/table.js";
import { badge, button, section } from "../lib/view.js";
import { vhostField } from "./choose.js";

export const title = () => "Shovels";

export async function load({ signal }) {
  const [shovels, links] = await Promise.all([getIf(path("shovels"), [], signal), getIf(path("federation-links"), [], signal)]);
  return { shovels, links };
}

const state = (word) => badge(text(word), word === "running" ? "good" : word === "starting" ? "warn" : "bad");

export function view(context, { shovels, links }) {
  return [
    section("Shovels", h("div", { class: "bar" }, button("Add a shovel…", () => add(context))), table({
      caption: "Shovels", rows: shovels, rowKey: (row) => `${row.vhost} ${row.name}`, nothing: "Nothing is being moved.",
      columns: [
        { title: "Name", cell: (row) => row.name }, { title: "Virtual host", cell: (row) => row.vhost },
        { title: "State", cell: (row) => [state(row.state), row.reason ? h("div", { class: "muted" }, row.reason) : null] },
        { title: "From", cell: (row) => [text(row.src_uri), " ", h("code", {}, row.src_queue ?? row.src_exchange ?? "")] },
        { title: "To", cell: (row) => [text(row.dest_uri), " ", h("code", {}, row.dest_queue ?? row.dest_exchange ?? "")] },
        { title: "", cell: (row) => button("Delete…", () => remove(context, row), { class: "danger" }) },
      ],
    })),
    section("Federation links", table({
      caption: "Federation links", rows: links, nothing: "No upstream is linked.",
      columns: [
        { title: "Of", cell: (row) => text(row.exchange ?? row.queue) }, { title: "Virtual host", cell: (row) => row.vhost },
        { title: "Upstream", cell: (row) => row.upstream }, { title: "State", cell: (row) => [state(row.status), row.error ? h("div", { class: "muted" }, row.error) : null] },
      ],
    })),
  ];
}

async function add(context) {
  const done = await ask({
    title: "Add a shovel", action: "Add",
    about: "It takes messages from one queue and publishes them to another, here or on another broker; acknowledged only when confirmed.",
    fields: [
      await vhostField(), { name: "name", label: "Name", required: true },
      { name: "src-uri", label: "From", value: "amqp://", required: true, hint: "amqp:// is this broker" }, { name: "src-queue", label: "Queue there", required: true },
      { name: "dest-uri", label: "To", value: "amqp://", required: true }, { name: "dest-queue", label: "Queue there", required: true },
      { name: "src-delete-after", label: "Until", kind: "select", options: [["never", "it is deleted"], ["queue-length", "what waits now is moved"]] },
    ],
    submit: ({ vhost, name, ...value }) => put(path("parameters", "shovel", vhost, name), { value: { "src-protocol": "amqp091", "dest-protocol": "amqp091", "ack-mode": "on-confirm", ...value } }),
  });
  if (done) context.refresh();
}

async function remove(context, row) {
  const done = await confirm({ title: `Delete shovel ${row.name}?`, action: "Delete", submit: () => del(path("parameters", "shovel", row.vhost, row.name)) });
  if (done) context.refresh();
}
