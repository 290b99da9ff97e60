// A form that publishes one message.

import { path, post } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { field, parseArguments, read } from "../lib/dialog.js";
import { problem } from "../lib/view.js";

const FIELDS = [
  { name: "routing_key", label: "Routing key" },
  { name: "delivery_mode", label: "Kept on disk", kind: "select", options: [["2", "yes, persistent"], ["1", "no, transient"]] },
  { name: "content_type", label: "Content type" },
  { name: "properties", label: "Other properties", kind: "textarea", rows: 2, hint: "One a line: correlation_id = 7, reply_to = answers, expiration = \"60000\"" },
  { name: "headers", label: "Headers", kind: "textarea", rows: 2, hint: "One a line: x-delay = 5000" },
  { name: "payload", label: "Body", kind: "textarea", rows: 5 },
];

/** Publishes to an exchange; `routingKey` is offered. Kept as it is while its page is refreshed. */
export function publishForm({ vhost, exchange, routingKey = "" }) {
  const outcome = h("div", { "aria-live": "polite" });
  const fields = FIELDS.map((one) => (one.name === "routing_key" ? { ...one, value: routingKey } : one));
  const form = h("form", { class: "form" }, fields.map(field), outcome, h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Publish")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { routed } = await post(path("exchanges", vhost, exchange, "publish"), message(read(form, fields)));
      outcome.replaceChildren(h("p", { class: routed ? "done" : "problem" }, routed ? "Published." : "Published, but no queue is bound for it: it is gone."));
    } catch (error) {
      outcome.replaceChildren(problem(error));
    }
  });
  return h("div", { "data-keep": true }, form);
}

function message({ routing_key = "", delivery_mode, content_type, properties, headers, payload = "" }) {
  const own = parseArguments(properties);
  const text = Object.fromEntries(Object.entries(own).map(([name, value]) => [name, ["priority", "timestamp"].includes(name) ? value : String(value)]));
  return { routing_key, payload, payload_encoding: "string", properties: { delivery_mode: Number(delivery_mode), content_type, headers: parseArguments(headers), ...text } };
}
