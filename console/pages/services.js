// Services: whoever is asked by messages with a reply-to, and how that goes.

import { getIf, path } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { count, duration, rate } from "../lib/format.js";
import { sorted, table } from "../lib/table.js";
import { empty, link, section } from "../lib/view.js";

export const title = () => "Services";
export const state = { sort: "rate", reverse: true };

export const load = async ({ signal }) => {
  const services = await getIf(path("services"), null, signal);
  return services && (Array.isArray(services) ? services : services.items ?? []).map(flat);
};

const milliseconds = (us) => (us === null || us === undefined ? us : us / 1000);

/** A service with what is shown of it side by side, in the units that are shown. */
export const flat = (service) => ({
  ...service, rate: service.request_rate, answered: service.replies,
  p50_ms: milliseconds(service.latency_us?.p50), p95_ms: milliseconds(service.latency_us?.p95), p99_ms: milliseconds(service.latency_us?.p99),
});

/** A number that wants attention. */
const alarming = (value) => (value > 0 ? h("strong", { class: "bad" }, count(value)) : count(value ?? 0));

export function view(context, services) {
  if (services === null) return empty("This broker does not watch services: it is not Leveret, or its statistics of requests are off.");
  return section("Who is asked, and how it goes", table({
    caption: "Services", rows: sorted(services, context.state), state: context.state, onsort: (sort) => context.change(sort),
    rowKey: (row) => `${row.vhost} ${row.name}`,
    nothing: "Nobody has asked anything yet. A service appears with the first request that carries a reply-to and a correlation id, whatever client sends it.",
    columns: [
      { title: "Service", sort: "name", cell: (row) => link(row.name, "service", row.vhost, row.name) },
      { title: "Virtual host", sort: "vhost", wide: true, cell: (row) => row.vhost },
      { title: "Requests", sort: "rate", number: true, cell: (row) => rate(row.rate) },
      { title: "In flight", sort: "in_flight", number: true, cell: (row) => count(row.in_flight) },
      { title: "p50", sort: "p50_ms", number: true, cell: (row) => duration(row.p50_ms) },
      { title: "p95", sort: "p95_ms", number: true, wide: true, cell: (row) => duration(row.p95_ms) },
      { title: "p99", sort: "p99_ms", number: true, cell: (row) => duration(row.p99_ms) },
      { title: "Answered", sort: "answered", number: true, wide: true, cell: (row) => count(row.answered) },
      { title: "Unanswered", sort: "unanswered", number: true, cell: (row) => alarming(row.unanswered) },
      { title: "Late", sort: "late", number: true, cell: (row) => alarming(row.late) },
      { title: "Orphaned", sort: "orphaned", number: true, cell: (row) => alarming(row.orphaned) },
    ],
  }));
}
