//! Federation: what keeps messages and bindings from going round between brokers for ever.
//!
//! ```text
//!   message    x-received-from: [ last station, …, first station ]      not on when it was here, or has come too far
//!   binding    x-bound-from:    [ nearest broker and its hops, … ]      not on when its hops are used up
//! ```
//!
//! The names and fields are those of RabbitMQ's plugin, so that brokers of both kinds can stand in one line. Who connects
//! where is not decided here: these are rules about headers and arguments, for the broker that gives (the exchange type
//! `x-federation-upstream`) and for the links of the one that takes.

use leveret_wire::{FieldTable, FieldValue};

/// Header that lists where a message was taken from, the last station in front.
pub const RECEIVED_FROM: &str = "x-received-from";
/// Argument of a binding that lists for whom it was made, the nearest in front.
pub const BOUND_FROM: &str = "x-bound-from";
/// Argument of queues and exchanges that a link made at its upstream. They are not federated themselves.
pub const INTERNAL_PURPOSE: &str = "x-internal-purpose";
/// Argument of the exchange type: how many stations a message may come by.
pub const MAX_HOPS: &str = "x-max-hops";
/// Argument of the exchange type: the broker that takes.
pub const DOWNSTREAM_NAME: &str = "x-downstream-name";
/// Argument of the exchange type: the virtual host that takes.
pub const DOWNSTREAM_VHOST: &str = "x-downstream-vhost";

/// A virtual host of a broker, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The name that the broker gives itself.
    pub cluster: String,
    /// The virtual host there.
    pub vhost: String,
}

/// Whether a message may go on to an exchange of `to`: it has come by fewer than `max_hops` stations, and was not there.
pub fn may_pass(received_from: Option<&FieldValue>, max_hops: i64, to: &Site) -> bool {
    let stations = received_from.and_then(FieldValue::as_array).unwrap_or_default();
    stations.is_empty() || (stations.len() as u64) < max_hops.max(0) as u64 && !names(stations, to)
}

/// Notes in a message's headers that an exchange's link took it at `station`.
pub fn received_by_exchange(headers: &mut FieldTable, station: FieldTable, redelivered: bool, at: &Site) {
    let mut station = station;
    station.push("redelivered", redelivered);
    station.push("cluster-name", at.cluster.as_str());
    station.push("vhost", at.vhost.as_str());
    put_in_front(headers, RECEIVED_FROM, station);
}

/// Notes in a message's headers that a queue's link took it at `station`, which names the queue. A message may come by
/// one queue again and again, wherever it is wanted, so its visits are counted and not listed.
pub fn received_by_queue(
    headers: &mut FieldTable,
    station: FieldTable,
    redelivered: bool,
    published_to: (&str, &str),
) {
    let same = |other: &FieldValue| {
        let field = |name| other.as_table().and_then(|table| table.get(name));
        ["uri", "queue"].into_iter().all(|name| field(name) == station.get(name))
    };
    let visits = match headers.remove(RECEIVED_FROM) {
        Some(FieldValue::Array(stations)) => {
            let (here, elsewhere): (Vec<_>, Vec<_>) = stations.into_iter().partition(same);
            headers.insert(RECEIVED_FROM, FieldValue::Array(elsewhere));
            let visits = here.first().and_then(|station| station.as_table()?.get("visit-count")?.as_i64());
            visits.unwrap_or(0)
        }
        _ => {
            headers.insert("x-original-exchange", published_to.0);
            headers.insert("x-original-routing-key", published_to.1);
            0
        }
    };
    // The message is published to one queue here: what copied it there must not copy it again.
    if let Some(copies) = headers.remove("CC") {
        headers.insert("x-original-cc", copies);
    }
    let mut station = station;
    station.push("redelivered", redelivered);
    station.push("visit-count", visits.saturating_add(1));
    put_in_front(headers, RECEIVED_FROM, station);
}

/// The arguments with which a binding of `exchange` at `here` is made at `upstream`; `None`: it goes no further.
///
/// A binding that was made for another broker has one hop less than it had there, and is not made where it came by.
pub fn bound_from(
    arguments: &FieldTable,
    max_hops: i64,
    upstream: Option<&Site>,
    here: &Site,
    exchange: &str,
) -> Option<FieldTable> {
    let before = arguments.get(BOUND_FROM).and_then(FieldValue::as_array).unwrap_or_default();
    let hops = match before.first().map(|nearest| nearest.as_table().and_then(|of| of.get("hops")?.as_i64()))
    {
        None => max_hops,
        Some(_) if upstream.is_some_and(|upstream| names(before, upstream)) => 0,
        Some(left) => left.unwrap_or(0).saturating_sub(1).min(max_hops),
    };
    if hops <= 0 {
        return None;
    }
    let mut nearest = FieldTable::new();
    nearest.push("cluster-name", here.cluster.as_str());
    nearest.push("vhost", here.vhost.as_str());
    nearest.push("exchange", exchange);
    nearest.push("hops", FieldValue::I16(i16::try_from(hops).unwrap_or(i16::MAX)));
    let mut arguments = arguments.clone();
    put_in_front(&mut arguments, BOUND_FROM, nearest);
    Some(arguments)
}

fn names(stations: &[FieldValue], site: &Site) -> bool {
    stations.iter().filter_map(FieldValue::as_table).any(|station| {
        let is = |name, value: &str| station.get(name).and_then(FieldValue::as_str) == Some(value);
        is("cluster-name", &site.cluster) && is("vhost", &site.vhost)
    })
}

fn put_in_front(table: &mut FieldTable, name: &str, entry: FieldTable) {
    let mut entries = vec![FieldValue::Table(entry)];
    if let Some(FieldValue::Array(before)) = table.remove(name) {
        entries.extend(before);
    }
    table.insert(name, FieldValue::Array(entries));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(cluster: &str) -> Site {
        Site { cluster: cluster.into(), vhost: "/".into() }
    }

    fn station(name: &str) -> FieldTable {
        FieldTable::from([("uri", "amqp://far"), ("queue", name)])
    }

    /// The header of a message that exchanges of these brokers gave, the first one first.
    fn received(clusters: &[&str]) -> Option<FieldValue> {
        let mut headers = FieldTable::new();
        for cluster in clusters {
            received_by_exchange(&mut headers, FieldTable::new(), false, &site(cluster));
        }
        headers.get(RECEIVED_FROM).cloned()
    }

    #[test]
    fn a_message_goes_round_once() {
        let check = |came_by: &[&str], max_hops: i64, expected: bool| {
            let passes = may_pass(received(came_by).as_ref(), max_hops, &site("here"));
            assert_eq!(passes, expected, "{came_by:?} {max_hops}");
        };
        check(&[], 1, true);
        check(&[], 0, true);
        check(&["a"], 1, false);
        check(&["a"], 2, true);
        check(&["a", "b"], 2, false);
        check(&["here"], 9, false);
        check(&["here", "b"], 9, false);
        check(&["a"], -1, false);
        let elsewhere = Site { cluster: "here".into(), vhost: "other".into() };
        assert!(may_pass(received(&["here"]).as_ref(), 9, &elsewhere));
        assert!(may_pass(Some(&FieldValue::I32(1)), 1, &site("here")));
    }

    #[test]
    fn the_last_station_is_in_front() {
        let stations = received(&["first", "last"]).unwrap();
        let front = stations.as_array().unwrap()[0].as_table().unwrap();
        let expected = FieldTable(vec![
            ("redelivered".into(), false.into()),
            ("cluster-name".into(), "last".into()),
            ("vhost".into(), "/".into()),
        ]);
        assert_eq!((front, stations.as_array().unwrap().len()), (&expected, 2));
    }

    #[test]
    fn visits_of_a_queue_are_counted() {
        let mut headers = FieldTable::from([("CC", "copy")]);
        for name in ["q", "other", "q"] {
            received_by_queue(&mut headers, station(name), true, ("x", "k"));
        }
        let text = |name: &str| headers.get(name).and_then(FieldValue::as_str);
        assert_eq!((text("x-original-exchange"), text("x-original-routing-key")), (Some("x"), Some("k")));
        assert_eq!((text("CC"), text("x-original-cc")), (None, Some("copy")));
        let stations = headers.get(RECEIVED_FROM).and_then(FieldValue::as_array).unwrap();
        let visits = |at: usize| stations[at].as_table().unwrap().get("visit-count").unwrap().as_i64();
        assert_eq!((stations.len(), visits(0), visits(1)), (2, Some(2), Some(1)));
    }

    #[test]
    fn a_binding_has_one_hop_less_at_every_broker() {
        let plain = FieldTable::from([("x-match", "any")]);
        let near = bound_from(&plain, 2, Some(&site("b")), &site("a"), "/:x A").unwrap();
        let nearest = near.get(BOUND_FROM).unwrap().as_array().unwrap()[0].as_table().unwrap();
        let expected = FieldTable(vec![
            ("cluster-name".into(), "a".into()),
            ("vhost".into(), "/".into()),
            ("exchange".into(), "/:x A".into()),
            ("hops".into(), FieldValue::I16(2)),
        ]);
        assert_eq!((nearest, near.get("x-match")), (&expected, plain.get("x-match")));
        let far = bound_from(&near, 5, Some(&site("c")), &site("b"), "/:x A").unwrap();
        let stations = far.get(BOUND_FROM).unwrap().as_array().unwrap();
        assert_eq!(stations[0].as_table().unwrap().get("hops"), Some(&FieldValue::I16(1)));
        assert_eq!(bound_from(&far, 5, Some(&site("d")), &site("c"), "/:x A"), None);
        assert_eq!(bound_from(&near, 5, Some(&site("a")), &site("b"), "/:x A"), None, "it came from there");
        assert_eq!(bound_from(&plain, 0, None, &site("a"), "/:x A"), None);
    }

    #[test]
    fn nonsense_in_headers_and_arguments_is_no_station() {
        let mut headers = FieldTable::from([(RECEIVED_FROM, "nonsense")]);
        received_by_exchange(&mut headers, FieldTable::new(), false, &site("a"));
        assert_eq!(headers.get(RECEIVED_FROM).and_then(FieldValue::as_array).map(<[_]>::len), Some(1));
        let odd = FieldTable(vec![(BOUND_FROM.into(), FieldValue::Array(vec![FieldValue::Bool(true)]))]);
        assert_eq!(bound_from(&odd, 5, None, &site("a"), "/:x A"), None);
    }
}
