// One user: permissions, password, tags, limits.

import { del, get, getIf, path, put } from "../lib/api.js";
import { ask, confirm } from "../lib/dialog.js";
import { h } from "../lib/dom.js";
import { table } from "../lib/table.js";
import { badge, button, facts, section } from "../lib/view.js";
import { vhostField } from "./choose.js";
import { TAGS_HINT, tags } from "./users.js";

export const within = "users";
export const title = (name) => `User ${name}`;

export async function load({ signal }, name) {
  const [user, permissions, topics, limits] = await Promise.all([
    get(path("users", name), signal), get(path("users", name, "permissions"), signal),
    getIf(path("users", name, "topic-permissions"), [], signal), getIf(path("user-limits", name), [], signal),
  ]);
  return { user, permissions, topics, limits };
}

export function view(context, { user, permissions, topics, limits }) {
  const limit = (what) => String(limits[0]?.value?.[what] ?? "no limit");
  return [
    h("div", { class: "bar" },
      button("Set the password…", () => setPassword(context, user)), button("Set the tags…", () => setTags(context, user)),
      button("Delete…", () => remove(user), { class: "danger" })),
    section("User", facts([["Tags", tags(user).length ? tags(user).map((tag) => badge(tag)) : "none: AMQP only"], ["Connections at most", limit("max-connections")], ["Channels at most", limit("max-channels")]])),
    section("Permissions", h("div", { class: "bar" }, button("Set permissions…", () => permit(context, user))), permissionTable(context, permissions)),
    section("Topic permissions", h("div", { class: "bar" }, button("Restrict a topic exchange…", () => restrict(context, user))), topicTable(context, topics)),
  ];
}

const pattern = (text) => h("code", {}, text === "" ? "(nothing)" : text);

function permissionTable(context, rows) {
  return table({
    caption: "Permissions", rows, rowKey: (row) => row.vhost, nothing: "It may not open any virtual host.",
    columns: [
      { title: "Virtual host", cell: (row) => row.vhost }, { title: "Configure", cell: (row) => pattern(row.configure) },
      { title: "Write", cell: (row) => pattern(row.write) }, { title: "Read", cell: (row) => pattern(row.read) },
      { title: "", cell: (row) => button("Take away…", () => forbid(context, row), { class: "danger" }) },
    ],
  });
}

function topicTable(context, rows) {
  return table({
    caption: "Topic permissions", rows, rowKey: (row) => `${row.vhost} ${row.exchange}`, nothing: "It may use every routing key.",
    columns: [
      { title: "Virtual host", cell: (row) => row.vhost }, { title: "Exchange", cell: (row) => row.exchange },
      { title: "Publish keys", cell: (row) => pattern(row.write) }, { title: "Bind keys", cell: (row) => pattern(row.read) },
      { title: "", cell: (row) => button("Lift…", () => lift(context, row), { class: "danger" }) },
    ],
  });
}

const refresh = (context) => (done) => done && context.refresh();

const setPassword = (context, user) => ask({
  title: `Password of ${user.name}`, action: "Set", fields: [{ name: "password", label: "New password", kind: "password", required: true }],
  submit: ({ password }) => put(path("users", user.name), { password, tags: tags(user).join(",") }),
}).then(refresh(context));

const setTags = (context, user) => ask({
  title: `Tags of ${user.name}`, action: "Set", fields: [{ name: "tags", label: "Tags", value: tags(user).join(","), hint: TAGS_HINT }],
  submit: ({ tags: list = "" }) => put(path("users", user.name), { tags: list, password_hash: user.password_hash, hashing_algorithm: user.hashing_algorithm }),
}).then(refresh(context));

const patterns = [
  { name: "configure", label: "Configure (declare, delete)", value: ".*", hint: "A regular expression over names; empty allows nothing." },
  { name: "write", label: "Write (publish, bind)", value: ".*" },
  { name: "read", label: "Read (consume, bind from)", value: ".*" },
];

const permit = async (context, user) => ask({
  title: `Permissions of ${user.name}`, action: "Set", fields: [await vhostField(), ...patterns],
  submit: ({ vhost, configure = "", write = "", read = "" }) => put(path("permissions", vhost, user.name), { configure, write, read }),
}).then(refresh(context));

const restrict = async (context, user) => ask({
  title: `Restrict routing keys of ${user.name}`, action: "Set",
  fields: [await vhostField(), { name: "exchange", label: "Topic exchange", value: "amq.topic", required: true }, { name: "write", label: "Keys it may publish", value: ".*" }, { name: "read", label: "Keys it may bind", value: ".*" }],
  submit: ({ vhost, exchange, write = "", read = "" }) => put(path("topic-permissions", vhost, user.name), { exchange, write, read }),
}).then(refresh(context));

const forbid = (context, row) => confirm({
  title: `Take ${row.vhost} away from ${row.user}?`, action: "Take away", about: "Its connections there are closed.",
  submit: () => del(path("permissions", row.vhost, row.user)),
}).then(refresh(context));

const lift = (context, row) => confirm({
  title: `Lift the restriction at ${row.exchange}?`, action: "Lift", submit: () => del(path("topic-permissions", row.vhost, row.user, row.exchange)),
}).then(refresh(context));

async function remove(user) {
  const done = await confirm({ title: `Delete user ${user.name}?`, action: "Delete", name: user.name, about: "Its connections are closed.", submit: () => del(path("users", user.name)) });
  if (done) location.hash = "#/users";
}
