//! `leveret ctl status`: the broker at a glance.

use serde_json::{Value, json};

use super::session::Session;
use crate::failure::Failure;
use crate::management::Path;
use crate::table::at;

/// Show the broker at a glance: what runs, how much is in it, how busy it is
#[derive(clap::Args)]
pub(super) struct Arguments {}

impl Arguments {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let overview: Value = session.management.get(&Path::of(&["overview"])).await?;
        // Those who may not see nodes see the rest.
        let nodes: Vec<Value> = session.management.get(&Path::of(&["nodes"])).await.unwrap_or_default();
        if session.output.is_json() {
            return Ok(session.output.facts(&json!({"overview": overview, "nodes": nodes}))?);
        }
        Ok(session.output.lines(summary(&session.management.address().to_string(), &overview, &nodes))?)
    }
}

/// The lines in the order in which they are of interest.
fn summary(address: &str, overview: &Value, nodes: &[Value]) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut say = |key: String, value: String| lines.push(json!({"key": key, "value": value}));
    let text = |path: &str| at(overview, path).as_str().unwrap_or("?").to_owned();
    say("api".into(), address.to_owned());
    say("broker".into(), format!("{} {}", text("product_name"), text("product_version")));
    say("cluster".into(), text("cluster_name"));
    for count in ["connections", "channels", "consumers", "queues", "exchanges"] {
        say(count.into(), at(overview, &format!("object_totals.{count}")).to_string());
    }
    for (title, key) in
        [("messages", "messages"), ("ready", "messages_ready"), ("unacked", "messages_unacknowledged")]
    {
        say(title.into(), number(overview, &format!("queue_totals.{key}")));
    }
    for (title, key) in [("published/s", "publish"), ("delivered/s", "deliver_get"), ("acked/s", "ack")] {
        say(title.into(), number(overview, &format!("message_stats.{key}_details.rate")));
    }
    for node in nodes {
        let name = at(node, "name").as_str().unwrap_or("?");
        say(format!("node {name}"), condition(node));
    }
    for listener in at(overview, "listeners").as_array().into_iter().flatten() {
        let address = at(listener, "ip_address").as_str().unwrap_or("?");
        say(
            format!("listens {address}:{}", at(listener, "port")),
            at(listener, "protocol").as_str().unwrap_or("?").to_owned(),
        );
    }
    lines
}

fn number(object: &Value, path: &str) -> String {
    at(object, path).as_f64().unwrap_or(0.0).to_string()
}

fn condition(node: &Value) -> String {
    let alarms = [("mem_alarm", "MEMORY ALARM"), ("disk_free_alarm", "DISK ALARM")];
    let alarms: Vec<&str> =
        alarms.into_iter().filter(|(key, _)| node[key] == true).map(|(_, words)| words).collect();
    let mebibytes = |key: &str| node[key].as_u64().unwrap_or(0) >> 20;
    let state = match (node["running"] == false, alarms.as_slice()) {
        (true, _) => "not running".to_owned(),
        (_, []) => "runs".to_owned(),
        (_, alarms) => alarms.join(", "),
    };
    let uptime_s = node["uptime"].as_u64().unwrap_or(0) / 1_000;
    format!(
        "{state}, memory {} of {} MiB, disk free {} MiB, {} of {} file descriptors, up {uptime_s} s",
        mebibytes("mem_used"),
        mebibytes("mem_limit"),
        mebibytes("disk_free"),
        node["fd_used"],
        node["fd_total"],
    )
}
