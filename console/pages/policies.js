// Policies: settings for many queues and exchanges at once. What one would drop is said before it is set.

import { del, get, path, put, query } from "../lib/api.js";
import { ask, confirm, parseArguments } from "../lib/dialog.js";
import { h } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { table } from "../lib/table.js";
import { button, map, section } from "../lib/view.js";
import { vhostField } from "./choose.js";

export const title = () => "Policies";

export async function load({ signal }) {
  const [policies, operator] = await Promise.all([get(path("policies"), signal), get(path("operator-policies"), signal)]);
  return { policies, operator };
}

const APPLIES = [["all", "queues and exchanges"], ["queues", "queues"], ["classic_queues", "classic queues"], ["quorum_queues", "quorum queues"], ["streams", "streams"], ["exchanges", "exchanges"]];
const HINT = "One a line: max-length = 10000, message-ttl = 60000, dead-letter-exchange = name, overflow = reject-publish, expires = 600000, alternate-exchange = name, delivery-limit = 5";

export function view(context, { policies, operator }) {
  const part = (heading, kind, rows, tag, about) => section(heading, h("p", { class: "muted" }, about),
    context.may(tag) && h("div", { class: "bar" }, button("Set a policy…", () => set(context, kind))), list(context, kind, rows, context.may(tag)));
  return [
    part("Policies", "policies", policies, "policymaker", "The one of highest priority that fits a name is in force. Arguments of a declaration win over it."),
    part("Operator policies", "operator-policies", operator, "administrator", "Merged with the policy in force: of two limits the stricter one counts."),
  ];
}

function list(context, kind, rows, mayChange) {
  return table({
    caption: kind, rows, rowKey: (row) => `${row.vhost} ${row.name}`, nothing: "None.",
    columns: [
      { title: "Name", cell: (row) => row.name }, { title: "Virtual host", cell: (row) => row.vhost },
      { title: "Names that fit", cell: (row) => h("code", {}, row.pattern) }, { title: "Applies to", cell: (row) => row["apply-to"] },
      { title: "Definition", cell: (row) => map(row.definition) }, { title: "Priority", number: true, cell: (row) => String(row.priority) },
      mayChange && { title: "", cell: (row) => button("Clear…", () => clear(context, kind, row), { class: "danger" }) },
    ].filter(Boolean),
  });
}

async function set(context, kind) {
  const vhost = await vhostField();
  let previewed;
  const done = await ask({
    title: kind === "policies" ? "Set a policy" : "Set an operator policy", action: "Set",
    fields: [
      vhost, { name: "name", label: "Name", required: true }, { name: "pattern", label: "Names that fit", value: "^", required: true, hint: "A regular expression" },
      { name: "apply-to", label: "Applies to", kind: "select", options: APPLIES, value: "queues" }, { name: "priority", label: "Priority", kind: "number", value: 0 },
      { name: "definition", label: "Definition", kind: "textarea", hint: HINT },
    ],
    submit: async ({ vhost, name, definition, ...rest }) => {
      const own = path(kind, vhost, name);
      const body = { ...rest, definition: parseArguments(definition) };
      const asked = JSON.stringify([own, body]);
      const dropped = previewed === asked ? 0 : await wouldDrop(own, body);
      previewed = asked;
      if (dropped) throw new Error(`It would drop ${count(dropped)} messages at once. Press “Set” again if that is what you want.`);
      await put(own, body);
    },
  });
  if (done) context.refresh();
}

async function wouldDrop(own, body) {
  const effect = await put(query(own, { preview: "true" }), body);
  return effect?.messages_dropped ?? 0;
}

async function clear(context, kind, row) {
  const done = await confirm({ title: `Clear ${row.name}?`, action: "Clear", about: "The next policy that fits is in force then.", submit: () => del(path(kind, row.vhost, row.name)) });
  if (done) context.refresh();
}
