// One service: its numbers, and a form to ask it something.

import { get, getIf, path, post } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { chart, remember } from "../lib/chart.js";
import { field, parseArguments, read } from "../lib/dialog.js";
import { count, duration, rate } from "../lib/format.js";
import { facts, link, problem, section, tiles } from "../lib/view.js";
import { messageList } from "./messages.js";
import { flat } from "./services.js";

export const within = "services";
export const title = (vhost, name) => `Service ${name}`;

export async function load({ signal }, vhost, name) {
  const [service, queue] = await Promise.all([get(path("services", vhost, name), signal), getIf(path("queues", vhost, name), null, signal)]);
  return { service: flat(service), queue };
}

export function view(context, { service, queue }, vhost, name) {
  const key = `service.${vhost}.${name}`;
  return [
    tiles([
      { label: "Requests", shown: rate(service.rate) }, { label: "In flight", shown: count(service.in_flight) },
      { label: "Half are answered within", shown: duration(service.p50_ms) }, { label: "95 of 100 within", shown: duration(service.p95_ms) },
      { label: "99 of 100 within", shown: duration(service.p99_ms) },
    ]),
    h("div", { class: "columns" },
      section("Latency", chart({ title: "From request to answer", history: remember(`${key}.latency`, service), format: duration, lines: [{ key: "p50_ms", label: "p50" }, { key: "p95_ms", label: "p95" }, { key: "p99_ms", label: "p99" }] })),
      section("Load", chart({ title: "Requests a second and in flight", history: remember(`${key}.load`, service), lines: [{ key: "rate", label: "Requests/s" }, { key: "in_flight", label: "In flight" }] })),
      section("Outcomes", facts([
        ["Requests", count(service.requests)], ["Answered", count(service.answered)], ["Unanswered", count(service.unanswered)],
        ["Answered too late", count(service.late)], ["Orphaned: the caller was gone", count(service.orphaned)],
        ["Expired before a worker saw them", count(service.expired)],
        ["Workers", queue ? [count(queue.consumers), " on queue ", link(name, "queue", vhost, name)] : "–"],
        service.callers && ["Who asks", Array.isArray(service.callers) ? service.callers.join(", ") : count(service.callers)],
      ])),
      section("Ask it", callForm(vhost, name))),
  ];
}

const FIELDS = [
  { name: "content_type", label: "Content type", value: "application/json" },
  { name: "timeout_ms", label: "Wait at most, ms", kind: "number", value: 5000, required: true },
  { name: "headers", label: "Headers", kind: "textarea", rows: 2, hint: "One a line: tenant = a" },
  { name: "payload", label: "Body", kind: "textarea", rows: 4 },
];

function callForm(vhost, name) {
  const outcome = h("div", { "aria-live": "polite" });
  const send = h("button", { type: "submit", class: "primary" }, "Ask");
  const form = h("form", { class: "form" }, FIELDS.map(field), h("div", { class: "actions" }, send), outcome);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    const began = performance.now();
    try {
      const { payload = "", headers, ...rest } = read(form, FIELDS);
      const answer = await post(path("services", vhost, name, "call"), { payload, payload_encoding: "string", headers: parseArguments(headers), ...rest });
      outcome.replaceChildren(h("p", { class: "done" }, `Answered after ${duration(performance.now() - began)}.`), messageList([answer], 0));
    } catch (error) {
      outcome.replaceChildren(problem(error));
    } finally {
      send.disabled = false;
    }
  });
  return h("div", { "data-keep": true }, form);
}
