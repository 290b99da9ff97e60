// Users: who may log in, and what their tags let them do.

import { get, path, put } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { h } from "../lib/dom.js";
import { sorted, table } from "../lib/table.js";
import { badge, button, link } from "../lib/view.js";

export const TAGS_HINT = "With commas between them: management (this console), policymaker, monitoring (sees everything), administrator. None: AMQP only.";

export const title = () => "Users";
export const state = { sort: "name" };

export async function load({ signal }) {
  const [users, permissions] = await Promise.all([get(path("users"), signal), get(path("permissions"), signal)]);
  return { users, permissions };
}

export const tags = (user) => (Array.isArray(user.tags) ? user.tags : String(user.tags ?? "").split(",")).filter(Boolean);

export function view(context, { users, permissions }) {
  const vhosts = (user) => permissions.filter((permission) => permission.user === user.name).map(({ vhost }) => vhost);
  return [
    h("div", { class: "bar" }, button("Add a user…", () => add(context))),
    table({
      caption: "Users", rows: sorted(users, context.state), state: context.state, onsort: (sort) => context.change(sort), rowKey: (row) => row.name,
      columns: [
        { title: "Name", sort: "name", cell: (row) => link(row.name, "user", row.name) },
        { title: "Tags", cell: (row) => tags(row).map((tag) => badge(tag)) },
        { title: "May open", cell: (row) => vhosts(row).join(", ") || badge("no virtual host", "warn") },
        { title: "Password", cell: (row) => (row.password_hash === "" ? "none" : "set") },
      ],
    }),
  ];
}

async function add(context) {
  const done = await ask({
    title: "Add a user", action: "Add",
    fields: [
      { name: "name", label: "Name", required: true }, { name: "password", label: "Password", kind: "password", required: true },
      { name: "tags", label: "Tags", hint: TAGS_HINT },
    ],
    submit: ({ name, password, tags = "" }) => put(path("users", name), { password, tags }),
  });
  if (done) context.refresh();
}
