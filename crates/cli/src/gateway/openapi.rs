//! The gateway as an OpenAPI 3.1 document: a fixed part, and a path per method of every service that answers.

use leveret_wire::uri::percent_encode;
use serde_json::{Map, Value, json};

/// The document. `workers` is what discovery found (`info`).
pub(super) fn document(workers: &[Value], wants_token: bool) -> Value {
    let mut paths = fixed_paths();
    for worker in workers {
        paths.extend(service_paths(worker));
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "leveret gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Services behind an AMQP broker, over HTTP.",
        },
        "paths": paths,
        "components": { "schemas": { "Problem": problem_schema() } },
    });
    if wants_token {
        document["components"]["securitySchemes"] =
            json!({ "token": { "type": "http", "scheme": "bearer" } });
        document["security"] = json!([{ "token": [] }]);
    }
    document
}

/// What is there whichever services are.
fn fixed_paths() -> Map<String, Value> {
    let service = || parameter("path", "service", "A service: the queue of that name.");
    let method = || parameter("path", "method", "Which of its methods.");
    let mut paths = Map::new();
    let mut add = |path: &str, verb: &str, operation: Value| {
        paths.insert(path.to_owned(), json!({ verb: operation }));
    };
    add("/call/{service}", "post", call("Ask a service", vec![service()]));
    add("/call/{service}/{method}", "post", call("Ask a method of a service", vec![service(), method()]));
    add("/task/{service}", "post", task("Give a service work", vec![service()]));
    add("/task/{service}/{method}", "post", task("Give a method work", vec![service(), method()]));
    add("/gather/{exchange}/{key}", "post", gather());
    let discovery = vec![
        parameter("query", "service", "Only this service."),
        parameter("query", "silence", "How long to wait for another answer: `300ms`."),
    ];
    add("/services", "get", operation("Who serves what", discovery, &[("200", "Workers, with statistics.")]));
    add("/openapi.json", "get", operation("This document", vec![], &[("200", "OpenAPI 3.1.")]));
    add("/health/live", "get", operation("The process answers", vec![], &[("200", "It does.")]));
    let ready = [("200", "There is a connection to the broker."), ("503", "There is none.")];
    add("/health/ready", "get", operation("Calls have a chance", vec![], &ready));
    paths
}

/// A path per endpoint. A service that names none has itself as its only one.
fn service_paths(worker: &Value) -> Vec<(String, Value)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (service, version) = (text(&worker["name"]), text(&worker["version"]));
    let description = text(&worker["description"]);
    let endpoints = worker["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    let paths = endpoints.iter().map(|endpoint| {
        let name = text(&endpoint["name"]);
        let (path, summary) = match name == service {
            true => (format!("/call/{}", percent_encode(&service)), service.clone()),
            false => {
                let path = format!("/call/{}/{}", percent_encode(&service), percent_encode(&name));
                (path, format!("{service}: {name}"))
            }
        };
        let mut operation = call(&summary, vec![]);
        operation["operationId"] = json!(path.trim_start_matches("/call/"));
        operation["tags"] = json!([service]);
        operation["description"] = json!(description);
        operation["x-service-version"] = json!(version);
        (path, json!({ "post": operation }))
    });
    paths.collect()
}

fn call(summary: &str, mut parameters: Vec<Value>) -> Value {
    parameters.extend([
        parameter("query", "exchange", "Ask through this exchange."),
        parameter("query", "key", "The routing key there. Default: the service."),
        parameter("query", "fail_fast", "Do not wait for a busy worker: `true`."),
    ]);
    let mut operation =
        question(summary, parameters, &[("200", "The answer, or with `Accept: text/event-stream` many.")]);
    operation["responses"]["200"]["content"] = json!({ "*/*": {}, "text/event-stream": {} });
    operation
}

fn task(summary: &str, parameters: Vec<Value>) -> Value {
    question(summary, parameters, &[("202", "The broker has it: `{\"message_id\":…}`.")])
}

fn gather() -> Value {
    let parameters = vec![
        parameter("path", "exchange", "The exchange."),
        parameter("path", "key", "The routing key."),
        parameter("query", "count", "So many answers are enough."),
        parameter("query", "silence", "Enough when nobody answered for so long: `500ms`."),
        parameter("query", "method", "Which method."),
    ];
    question("Ask everybody who listens", parameters, &[("200", "The answers, a JSON array.")])
}

/// Anything with a body for a service.
fn question(summary: &str, mut parameters: Vec<Value>, answers: &[(&str, &str)]) -> Value {
    parameters.extend([
        parameter(
            "header",
            "X-Rpc-Timeout",
            "How long to wait: `500ms`. Also `grpc-timeout`, and `Prefer: wait=5`.",
        ),
        parameter("header", "Idempotency-Key", "The same in every attempt, so that work is done once."),
        parameter("header", "traceparent", "W3C trace context."),
    ]);
    let mut operation = operation(summary, parameters, answers);
    operation["requestBody"] = json!({ "content": { "application/json": {}, "*/*": {} } });
    operation
}

fn operation(summary: &str, parameters: Vec<Value>, answers: &[(&str, &str)]) -> Value {
    let answers = answers.iter().map(|(status, text)| ((*status).to_owned(), json!({ "description": text })));
    let mut responses: Map<String, Value> = answers.collect();
    responses.insert(
        "default".to_owned(),
        json!({
            "description": "Why there is no answer.",
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        }),
    );
    json!({ "summary": summary, "parameters": parameters, "responses": responses })
}

fn parameter(place: &str, name: &str, description: &str) -> Value {
    json!({
        "in": place, "name": name, "description": description, "required": place == "path",
        "schema": { "type": "string" },
    })
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "retryable"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "code": { "type": "string", "description": "The name of gRPC's code." },
            "retryable": { "type": "boolean", "description": "The same request may succeed later." },
            "may_have_run": { "type": "boolean", "description": "false: no worker has begun." },
            "retry_after_ms": { "type": "integer" },
            "details": { "description": "Whatever the service adds." },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::routes::ROUTES;
    use super::*;

    #[test]
    fn the_fixed_part_is_what_the_router_has() {
        let registered: BTreeSet<_> = ROUTES
            .iter()
            .map(|route| (route.path.to_owned(), route.method.as_str().to_lowercase()))
            .collect();
        let paths = fixed_paths();
        let documented = paths.iter().flat_map(|(path, item)| {
            let verbs = item.as_object().unwrap().keys();
            verbs.map(|verb| (path.clone(), verb.clone())).collect::<Vec<_>>()
        });
        assert_eq!(documented.collect::<BTreeSet<_>>(), registered);
    }

    #[test]
    fn every_part_of_a_path_is_a_parameter() {
        for (path, item) in fixed_paths() {
            let in_path: Vec<_> = path.split('/').filter_map(|part| part.strip_prefix('{')).collect();
            let operation = item.as_object().unwrap().values().next().unwrap();
            let parameters = operation["parameters"].as_array().unwrap();
            let declared = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let declared: Vec<_> =
                declared.map(|parameter| format!("{}}}", parameter["name"].as_str().unwrap())).collect();
            assert_eq!(declared, in_path, "{path}");
        }
    }

    #[test]
    fn every_method_has_a_path() {
        let worker = json!({
            "name": "weather/ohio", "version": "1.2.0", "description": "Weather",
            "endpoints": [{ "name": "forecast" }, { "name": "weather/ohio" }],
        });
        let document = document(&[worker.clone(), worker], true);
        let of = |path: &str| document["paths"][path]["post"]["operationId"].clone();
        assert_eq!(of("/call/weather%2fohio/forecast"), "weather%2fohio/forecast");
        assert_eq!(of("/call/weather%2fohio"), "weather%2fohio");
        assert_eq!(document["paths"].as_object().unwrap().len(), fixed_paths().len() + 2);
        assert_eq!(document["security"], json!([{ "token": [] }]));
    }
}
