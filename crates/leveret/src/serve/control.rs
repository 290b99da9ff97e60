//! The worker's ear for everything that is no request: cancellation, credit for streams, and discovery.
//!
//! ```text
//!   rpc.ctl (topic) ── ping | ping.weather | ping.weather.<id> ──▶ who is there
//!                   ── info…, stats…                           ──▶ what it offers, what it did
//!                   ── cancel.weather, correlation id          ──▶ stop that
//!   default exchange ── <control queue>, rpc-credit            ──▶ a stream may go on
//! ```
//!
//! Discovery speaks the JSON of NATS' service API (ADR-32), so that its tools can read it.

use std::sync::Arc;

use leveret_client::{
    Channel, ChannelError, Connection, Consume, ConsumerEvent, Delivery, Flush, Publish, QueueDeclare,
};
use leveret_wire::{FieldTable, Properties};
use serde_json::{Value, json};

use super::Handler;
use super::outside::Outside;
use super::stats::count;
use super::worker::Work;
use crate::dialect::ReplyAddress;
use crate::profile;

const VERBS: [&str; 3] = ["ping", "info", "stats"];
/// The most credit one message may give: what `rpc-stream` may ask for at once.
const CREDIT_MAX: i64 = u16::MAX as i64;

/// The ear of one worker on one connection.
pub(super) struct Control {
    pub(super) queue: String,
    pub(super) channel: Channel,
}

/// Listens on a queue of its own; without the right to declare one the worker serves all the same.
pub(super) async fn listen<S: Handler>(
    work: &Arc<Work<S>>,
    connection: &Connection,
    outside: &Arc<Outside>,
) -> Option<Control> {
    match try_listen(work, connection, outside).await {
        Ok(control) => Some(control),
        Err(error) => {
            tracing::warn!(%error, "no control queue; cancellation and discovery do not reach this worker");
            None
        }
    }
}

async fn try_listen<S: Handler>(
    work: &Arc<Work<S>>,
    connection: &Connection,
    outside: &Arc<Outside>,
) -> Result<Control, ChannelError> {
    let channel = connection.channel().await?;
    let queue = format!("rpc.ctl.{}.{}", work.id, connection.local_id());
    channel.declare_queue(&QueueDeclare::exclusive(&queue)).await?;
    let service = &work.options.service;
    let verbs = VERBS.iter().flat_map(|verb| {
        [(*verb).to_owned(), format!("{verb}.{service}"), format!("{verb}.{service}.{}", work.id)]
    });
    for key in verbs.chain([format!("cancel.{service}")]) {
        channel.bind_queue(&queue, profile::CONTROL_EXCHANGE, &key, FieldTable::new()).await?;
    }
    let (worker, outside) = (work.clone(), outside.clone());
    let on_event = move |event| {
        if let ConsumerEvent::Delivery(delivery) = event {
            hear(&worker, &outside, delivery);
        }
    };
    channel.consume_with(&Consume::queue(&queue).no_ack(), on_event).await?;
    Ok(Control { queue, channel })
}

/// Runs on the connection's task: must be quick.
fn hear<S: Handler>(work: &Arc<Work<S>>, outside: &Arc<Outside>, delivery: Delivery) {
    let properties = delivery.properties();
    let headers = properties.headers();
    let credit = headers.and_then(|headers| headers.find(profile::CREDIT)?.as_i64());
    if let (Some(credit), Some(id)) = (credit, properties.correlation_id()) {
        give_credit(work, id, credit);
        return;
    }
    let verb = delivery.routing_key.split('.').next().unwrap_or_default();
    match (verb, properties.correlation_id()) {
        ("cancel", Some(id)) => call_off(work, id),
        ("ping" | "info" | "stats", _) => {
            let (work, outside, verb) = (work.clone(), outside.clone(), verb.to_owned());
            tokio::spawn(async move { tell(&work, &outside, &delivery, &verb).await });
        }
        _ => {}
    }
}

fn give_credit<S>(work: &Work<S>, correlation_id: &[u8], credit: i64) {
    let running = work.running.lock().get(correlation_id).cloned();
    if let Some(running) = running
        && running.credit.available_permits() < CREDIT_MAX as usize
    {
        running.credit.add_permits(credit.clamp(0, CREDIT_MAX) as usize);
    }
}

fn call_off<S>(work: &Work<S>, correlation_id: &[u8]) {
    let running = work.running.lock().get(correlation_id).cloned();
    match running {
        Some(running) => {
            count(&work.counters.cancelled);
            running.cancel.cancel();
        }
        None => work.called_off.note(correlation_id),
    }
}

async fn tell<S: Handler>(work: &Work<S>, outside: &Outside, asked: &Delivery, verb: &str) {
    let asked = asked.properties();
    let Some(reply_to) = asked.reply_to().and_then(|reply_to| std::str::from_utf8(reply_to).ok()) else {
        return;
    };
    let body = match verb {
        "ping" => identity(work, "ping"),
        "info" => info(work),
        _ => stats(work),
    };
    let mut headers = FieldTable::new();
    headers.insert(profile::STATUS, profile::OK);
    let properties = Properties {
        content_type: Some(b"application/json".to_vec()),
        correlation_id: asked.correlation_id().map(<[u8]>::to_vec),
        headers: Some(headers),
        ..Properties::default()
    };
    let body = body.to_string();
    let publish = Publish {
        exchange: "",
        routing_key: reply_to,
        mandatory: false,
        properties: &properties,
        body: body.as_bytes(),
        flush: Flush::Now,
    };
    let told = async { outside.channel_to(&ReplyAddress::queue(reply_to)).await?.publish(&publish).await };
    if let Err(error) = told.await {
        tracing::debug!(%error, "discovery could not be answered");
    }
}

fn identity<S>(work: &Work<S>, verb: &str) -> Value {
    let description = &work.options.description;
    let metadata: serde_json::Map<_, _> =
        description.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({
        "type": format!("io.nats.micro.v1.{verb}_response"),
        "name": work.options.service,
        "id": work.id,
        "version": description.version,
        "metadata": metadata,
    })
}

fn info<S>(work: &Work<S>) -> Value {
    let mut info = identity(work, "info");
    info["description"] = json!(work.options.description.description);
    info["endpoints"] = endpoints(work).map(|name| endpoint(work, &name)).collect();
    info
}

fn stats<S: Handler>(work: &Work<S>) -> Value {
    let stats = work.stats();
    let mut told = identity(work, "stats");
    told["started"] = json!(rfc3339(stats.started));
    let average = stats.processing_time.as_nanos() / u128::from(stats.requests.max(1));
    let mut whole = endpoint(work, &work.options.service);
    for (key, value) in [
        ("num_requests", json!(stats.requests)),
        ("num_errors", json!(stats.errors)),
        ("last_error", json!(stats.last_error.unwrap_or_default())),
        ("processing_time", json!(u64::try_from(stats.processing_time.as_nanos()).unwrap_or(u64::MAX))),
        ("average_processing_time", json!(u64::try_from(average).unwrap_or(u64::MAX))),
        (
            "data",
            json!({
                "expired": stats.expired, "orphaned": stats.orphaned, "cancelled": stats.cancelled,
                "repeated": stats.repeated, "refused": stats.refused, "retried": stats.retried,
                "parked": stats.parked, "in_flight": stats.in_flight,
            }),
        ),
    ] {
        whole[key] = value;
    }
    told["endpoints"] = json!([whole]);
    told
}

fn endpoints<S>(work: &Work<S>) -> impl Iterator<Item = String> {
    let named = work.options.description.endpoints.clone();
    let whole = named.is_empty().then(|| work.options.service.clone());
    named.into_iter().chain(whole)
}

fn endpoint<S>(work: &Work<S>, name: &str) -> Value {
    json!({ "name": name, "subject": work.options.service, "queue_group": work.options.service, "metadata": {} })
}

/// `2026-11-21T09:30:00Z`: days since 1970 to a date, after Howard Hinnant's `civil_from_days`.
fn rfc3339(at: std::time::SystemTime) -> String {
    let seconds = at.duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn dates_are_right() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_253_696, "2026-11-21T09:34:56Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
