//! What was asked for, as fields of the JSON document: named as the flags are, with every default spelled out.

use leveret_bench::plan::{Argument, Calls, Churn, Cycle, Flow, Plan, Route, Settle, Span};
use serde_json::{Map, Value, json};

/// The shape with its flags, and how long it ran: `{"shape": "flow", "producers": 1, …, "duration_s": 10.0}`.
pub(super) fn plan(plan: &Plan, span: Span) -> Value {
    let fields = match plan {
        Plan::Flow(plan) => flow("flow", plan),
        Plan::Backlog(plan) => flow("backlog", plan),
        Plan::Calls(plan) => calls(plan),
        Plan::Churn(plan) => churn(plan),
        Plan::Hold { connections } => json!({ "shape": "connections", "hold": connections }),
    };
    let time = match span {
        Span::Time { warm_up, observed } => {
            json!({ "warm_up_s": warm_up.as_secs_f64(), "duration_s": observed.as_secs_f64() })
        }
        Span::Count(count) => json!({ "count": count }),
    };
    let all = [fields, time].into_iter().filter_map(|part| match part {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    Value::Object(all.flatten().collect())
}

fn flow(shape: &str, plan: &Flow) -> Value {
    let (ack_every, prefetch) = match plan.settle {
        Settle::None => (None, None),
        Settle::Every { messages, prefetch } => (Some(messages), Some(prefetch)),
    };
    json!({
        "shape": shape,
        "producers": plan.producers,
        "consumers": plan.consumers,
        "queues": plan.queues,
        "channels": plan.channels,
        "size_bytes": plan.sizes_bytes,
        "persistent": plan.persistent,
        "confirms": plan.window,
        "ack_every": ack_every,
        "prefetch": prefetch,
        "rate": plan.rate,
        "exchange": exchange(plan.route),
        "other_bindings": plan.other_bindings,
        "durable": plan.durable,
        "queue_arguments": plan.arguments.iter().map(argument).collect::<Map<_, _>>(),
        "mandatory": plan.mandatory,
        "content_type": plan.properties.content_type,
        "headers": plan.properties.headers,
    })
}

fn exchange(route: Route) -> &'static str {
    match route {
        Route::Queue => "default",
        Route::Direct => "direct",
        Route::Fanout => "fanout",
        Route::Topic => "topic",
        Route::Headers => "headers",
    }
}

fn argument((name, value): &(String, Argument)) -> (String, Value) {
    let value = match value {
        Argument::Flag(value) => json!(value),
        Argument::Number(value) => json!(value),
        Argument::Text(value) => json!(value),
    };
    (name.clone(), value)
}

fn calls(plan: &Calls) -> Value {
    json!({
        "shape": "rpc",
        "callers": plan.callers,
        "responders": plan.responders,
        "in_flight": plan.in_flight,
        "rate": plan.rate,
        "size_bytes": plan.size_bytes,
        "direct_reply_to": plan.direct_reply_to,
    })
}

fn churn(plan: &Churn) -> Value {
    let shape = match plan.cycle {
        Cycle::Connection => "connections",
        Cycle::Channel => "channels",
        Cycle::Declare => "declare",
    };
    json!({ "shape": shape, "connections": plan.connections })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn plans_are_fields_and_no_text() {
        let check = |given: Plan, span: Span, expected: Value| {
            let document = plan(&given, span);
            for (name, value) in expected.as_object().unwrap() {
                assert_eq!(&document[name], value, "{name}: {document}");
            }
        };
        let second = Span::Time { warm_up: Duration::ZERO, observed: Duration::from_millis(1500) };
        let flow = Flow {
            sizes_bytes: vec![16, 2048],
            settle: Settle::Every { messages: 10, prefetch: 500 },
            arguments: vec![("x-max-length".to_owned(), Argument::Number(9))],
            route: Route::Topic,
            ..Flow::default()
        };
        let expected = json!({
            "shape": "flow", "producers": 1, "size_bytes": [16, 2048], "confirms": null, "ack_every": 10,
            "exchange": "topic", "queue_arguments": {"x-max-length": 9}, "duration_s": 1.5,
        });
        check(Plan::Flow(flow), second, expected);
        check(Plan::Backlog(Flow::default()), Span::Count(5), json!({ "shape": "backlog", "count": 5 }));
        let calls = Calls {
            callers: 1,
            responders: 2,
            in_flight: 64,
            rate: Some(100.0),
            size_bytes: 128,
            direct_reply_to: true,
        };
        check(Plan::Calls(calls), second, json!({ "shape": "rpc", "rate": 100.0, "direct_reply_to": true }));
        let churn = Churn { cycle: Cycle::Declare, connections: 4 };
        check(Plan::Churn(churn), second, json!({ "shape": "declare", "connections": 4 }));
        check(Plan::Hold { connections: 7 }, second, json!({ "shape": "connections", "hold": 7 }));
    }
}
