//! The API, described for programs: made from the table of routes, so that it cannot say anything else.

use serde_json::{Map, Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::bodies;
use crate::context::Context;
use crate::error::ApiError;
use crate::request::Request;
use crate::route::{Method, Route, routes};

pub(crate) const ROUTES: &[Route] = &[Route {
    method: Method::GET,
    path: "/api/openapi.json",
    access: Access::Management,
    about: "This API as an OpenAPI document",
    handler: |_: &Context, _: &Request| -> Result<Answer, ApiError> { Ok(Answer::json(&document())) },
}];

/// The name of the only way to log in.
const LOGIN: &str = "basic";

/// The document of all routes.
fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.name().to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Leveret",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "RabbitMQ's management API, and what Leveret adds. Names in paths are percent-encoded: the \
                            virtual host `/` is `%2F`, the default exchange `amq.default`.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": { LOGIN: { "type": "http", "scheme": "basic" } },
            "schemas": { "Error": error() },
        },
    })
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["error", "reason"],
        "properties": {
            "error": { "type": "string", "description": "a word for programs" },
            "reason": { "type": "string", "description": "a sentence for people" },
        },
    })
}

fn operation(route: &Route) -> Value {
    let refused = json!({
        "description": "refused",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    });
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.about,
        "description": who(route.access),
        "parameters": names(route.path).map(parameter).collect::<Value>(),
        "responses": { success(route.method): { "description": "done" }, "default": refused },
    });
    if let Some(schema) = bodies::schema(route) {
        operation["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
    }
    operation["security"] = if route.access == Access::Open { json!([]) } else { json!([{ LOGIN: [] }]) };
    operation
}

/// `GET_api_queues_vhost_queue`.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(|character: char| !character.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    [route.method.name()].into_iter().chain(words).collect::<Vec<_>>().join("_")
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn parameter(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "maxLength": 255 } })
}

/// What most requests of that kind are answered with.
fn success(method: Method) -> &'static str {
    match method {
        Method::GET | Method::POST => "2XX",
        Method::PUT => "201",
        Method::DELETE => "204",
    }
}

fn who(access: Access) -> &'static str {
    match access {
        Access::Open => "For everybody, without a login.",
        Access::Management => "For users with the tag `management`, or a wider one.",
        Access::VHost => "For users with the tag `management` and permissions in the virtual host.",
        Access::VHostSight => "For users with permissions in the virtual host, or the tag `monitoring`.",
        Access::PolicyMaking => "For users with the tag `policymaker` and permissions in the virtual host.",
        Access::Monitoring => "For users with the tag `monitoring`.",
        Access::Scraping => {
            "For users with the tag `monitoring`; for everybody where the configuration says so."
        }
        Access::Administration => "For users with the tag `administrator`.",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_has_every_route_and_nothing_else() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        let there = routes().map(|route| format!("{} {}", route.method.name(), route.path)).collect();
        assert_eq!(described, there);
    }

    #[test]
    fn every_operation_is_whole() {
        let document = document();
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{id} twice");
                let declared = operation["parameters"].as_array().unwrap().iter();
                let declared: Vec<_> =
                    declared.map(|parameter| parameter["name"].as_str().unwrap()).collect();
                assert_eq!(declared, names(path).collect::<Vec<_>>(), "{path}");
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
                assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            }
        }
        assert_eq!(document["openapi"], "3.1.0");
    }
}
