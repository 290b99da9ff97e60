// Messages as people read them.

import { h } from "../lib/dom.js";
import { bytes, count } from "../lib/format.js";
import { badge, empty, map } from "../lib/view.js";

/** A list of messages, the first of which is number `offset` of its queue. */
export function messageList(messages, offset) {
  if (!messages.length) return empty("No message waits here.");
  return h("ol", { class: "messages", start: offset + 1 }, messages.map((message, at) => h("li", { key: `message-${offset + at}` }, one(message))));
}

function one(message) {
  const { headers, ...properties } = message.properties ?? {};
  return [
    h("p", {}, h("code", {}, message.exchange || "(default)"), " → ", h("code", {}, message.routing_key), " ",
      message.redelivered && badge("redelivered", "warn"), " ", h("span", { class: "muted" }, bytes(message.payload_bytes))),
    deaths(headers),
    h("details", { key: "properties" }, h("summary", {}, "Properties and headers"), map({ ...properties, ...(headers && Object.keys(headers).length ? { headers } : {}) })),
    body(message, properties.content_type),
  ];
}

/** Why a message is where it is. */
function deaths(headers) {
  const list = headers?.["x-death"];
  if (!Array.isArray(list)) return null;
  return h("ul", { class: "deaths" }, list.map((death) => h("li", {}, badge(String(death.reason), "warn"), ` in ${death.queue}`, death.count > 1 ? `, ${count(death.count)} times` : "")));
}

function body(message, contentType) {
  const { payload = "", payload_encoding, payload_bytes } = message;
  const cut = payload_encoding === "string" && payload_bytes > new TextEncoder().encode(payload).length;
  const shown = payload_encoding === "base64" ? payload : pretty(payload, contentType);
  return [
    payload_encoding === "base64" && h("p", { class: "muted" }, "Not text; its octets in base64:"),
    h("pre", { tabindex: "0", "aria-label": "Body" }, shown || "(empty)"),
    cut && h("p", { class: "muted" }, `The beginning of ${bytes(payload_bytes)}.`),
  ];
}

function pretty(payload, contentType) {
  if (!/json/.test(contentType ?? "") && !/^\s*[[{]/.test(payload)) return payload;
  try {
    return JSON.stringify(JSON.parse(payload), null, 2);
  } catch {
    return payload;
  }
}
