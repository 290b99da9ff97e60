// How many connections, queues and channels virtual hosts and users may have.

import { del, get, getIf, path, put } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { h } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { table } from "../lib/table.js";
import { button, section } from "../lib/view.js";
import { vhostField } from "./choose.js";

export const title = () => "Limits";

export async function load(context) {
  const [vhosts, users] = await Promise.all([get(path("vhost-limits"), context.signal), getIf(path("user-limits"), [], context.signal)]);
  return { vhosts: rows(vhosts, "vhost"), users: rows(users, "user") };
}

const rows = (limits, of) => limits.flatMap((limit) => Object.entries(limit.value).map(([name, value]) => ({ of: limit[of], name, value })));

export function view(context, { vhosts, users }) {
  const admin = context.may("administrator");
  const part = (heading, kind, list, add) => section(heading, admin && h("div", { class: "bar" }, button("Set a limit…", add)), table({
    caption: heading, rows: list, rowKey: (row) => `${row.of} ${row.name}`, nothing: "No limits.",
    columns: [
      { title: "Of", cell: (row) => row.of }, { title: "Limit", cell: (row) => row.name }, { title: "At most", number: true, cell: (row) => count(row.value) },
      admin && { title: "", cell: (row) => button("Lift", () => context.act(() => del(path(kind, row.of, row.name)))) },
    ].filter(Boolean),
  }));
  return [
    part("Virtual hosts", "vhost-limits", vhosts, () => setVhost(context)),
    part("Users", "user-limits", users, () => setUser(context)),
  ];
}

const value = { name: "value", label: "At most", kind: "number", required: true };

const setVhost = async (context) => ask({
  title: "Limit a virtual host", action: "Set",
  fields: [await vhostField(), { name: "name", label: "What", kind: "select", options: ["max-connections", "max-queues"] }, value],
  submit: ({ vhost, name, value }) => put(path("vhost-limits", vhost, name), { value }),
}).then((done) => done && context.refresh());

const setUser = (context) => ask({
  title: "Limit a user", action: "Set",
  fields: [{ name: "user", label: "User", required: true }, { name: "name", label: "What", kind: "select", options: ["max-connections", "max-channels"] }, value],
  submit: ({ user, name, value }) => put(path("user-limits", user, name), { value }),
}).then((done) => done && context.refresh());
