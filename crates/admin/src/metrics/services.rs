//! Metrics of request/response: which no other broker has.

use std::cmp::Reverse;

use leveret_broker::Broker;
use leveret_broker::services::{Counts, ServiceSnapshot};

use super::text::Kind::{self, Counter, Gauge, Histogram};
use super::text::{Label, Text};
use crate::context::Context;

/// Upper bounds of the latency buckets, µs.
const BOUNDS_US: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

type Read = fn(&Counts) -> u64;

const COUNTS: [(&str, Kind, &str, Read); 9] = [
    ("requests_total", Counter, "Requests that reached the queue", |counts| counts.requests),
    ("replies_total", Counter, "Requests answered in time", |counts| counts.replies),
    ("errors_total", Counter, "Of the replies, those that report an error", |counts| counts.errors),
    ("unanswered_total", Counter, "Requests not answered in time", |counts| counts.unanswered),
    ("late_total", Counter, "Of the unanswered, those answered after all", |counts| counts.late),
    ("expired_total", Counter, "Of the unanswered, those whose time was over before delivery", |counts| {
        counts.expired
    }),
    ("orphaned_total", Counter, "Of the unanswered, those whose caller was gone", |counts| counts.orphaned),
    ("untracked_total", Counter, "Requests not followed, as too many were in flight", |counts| {
        counts.untracked
    }),
    ("in_flight", Gauge, "Requests that wait for their answer", |counts| counts.in_flight),
];

/// The `limit` services with most requests, and the sum of all.
pub(super) fn write(text: &mut Text, context: &Context, vhosts: &[String], limit: usize) {
    let mut services = snapshots(context.broker(), context.host.now_us(), vhosts);
    text.single("leveret_services", Gauge, "Services that requests have come to", services.len() as f64);
    for (name, kind, help, read) in COUNTS {
        let sum: u64 = services.iter().map(|service| read(&service.counts)).sum();
        text.single(&format!("leveret_services_{name}"), kind, help, sum as f64);
    }
    services.sort_by_key(|service| Reverse(service.counts.requests));
    services.truncate(limit);
    for (name, kind, help, read) in COUNTS {
        let name = format!("leveret_service_{name}");
        text.metric(&name, kind, help);
        services
            .iter()
            .for_each(|service| text.sample(&name, &labels(service), read(&service.counts) as f64));
    }
    latencies(text, &services);
}

fn snapshots(broker: &Broker, now_us: u64, vhosts: &[String]) -> Vec<ServiceSnapshot> {
    let mut services: Vec<_> = vhosts.iter().flat_map(|vhost| broker.services(vhost, now_us)).collect();
    services.extend(broker.other_services(now_us));
    services
}

fn labels(service: &ServiceSnapshot) -> [Label<'_>; 2] {
    [("vhost", &service.vhost), ("service", &service.name)]
}

fn latencies(text: &mut Text, services: &[ServiceSnapshot]) {
    let name = "leveret_service_latency_seconds";
    text.metric(name, Histogram, "From a request's arrival at the broker to that of its answer");
    for service in services {
        let latency = &service.latency;
        let up_to = BOUNDS_US.iter().map(|bound| (*bound as f64 / 1e6, latency.count_up_to(*bound)));
        text.histogram(name, &labels(service), up_to, latency.count(), latency.sum_us() as f64 / 1e6);
    }
}
