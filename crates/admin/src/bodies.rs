//! What the bodies of requests have in them, for the OpenAPI document. A test compares this with what the handlers read.

use serde_json::{Map, Value, json};

use self::Kind::{Any, Flag, Integer, Object, Objects, Text, Texts, TextsOrText};
use self::Need::{Optional, Required};
use crate::route::Method::{self, POST, PUT};
use crate::route::Route;

/// What a field of a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Flag,
    Integer,
    /// An object: arguments, headers, settings.
    Object,
    /// A list of objects.
    Objects,
    /// A list of texts.
    Texts,
    /// A list of texts, or one text with commas.
    TextsOrText,
    /// Any JSON.
    Any,
}

/// A field: its name, what it is, and whether it has to be there.
type Field = (&'static str, Kind, Need);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Required,
    Optional,
}

/// The body of some routes.
pub(crate) struct Body {
    routes: &'static [(Method, &'static str)],
    fields: &'static [Field],
    /// What other names may have as values.
    others: Option<Kind>,
}

const fn body(routes: &'static [(Method, &'static str)], fields: &'static [Field]) -> Body {
    Body { routes, fields, others: None }
}

const BODIES: &[Body] = &[
    body(
        &[(PUT, "/api/queues/{vhost}/{queue}")],
        &[("durable", Flag, Optional), ("auto_delete", Flag, Optional), ("arguments", Object, Optional)],
    ),
    body(
        &[(PUT, "/api/exchanges/{vhost}/{exchange}")],
        &[
            ("type", Text, Optional),
            ("durable", Flag, Optional),
            ("auto_delete", Flag, Optional),
            ("internal", Flag, Optional),
            ("arguments", Object, Optional),
        ],
    ),
    body(
        &[
            (POST, "/api/bindings/{vhost}/e/{source}/q/{queue}"),
            (POST, "/api/bindings/{vhost}/e/{source}/e/{exchange}"),
        ],
        &[("routing_key", Text, Optional), ("arguments", Object, Optional)],
    ),
    body(
        &[(POST, "/api/exchanges/{vhost}/{exchange}/publish")],
        &[
            ("properties", Object, Required),
            ("routing_key", Text, Required),
            ("payload", Text, Required),
            ("payload_encoding", Text, Required),
        ],
    ),
    body(
        &[(POST, "/api/queues/{vhost}/{queue}/get")],
        &[
            ("count", Integer, Required),
            ("ackmode", Text, Required),
            ("encoding", Text, Required),
            ("truncate", Integer, Optional),
        ],
    ),
    body(
        &[(POST, "/api/queues/{vhost}/{queue}/move")],
        &[
            ("to_queue", Text, Optional),
            ("to_exchange", Text, Optional),
            ("routing_key", Text, Optional),
            ("retry", Flag, Optional),
            ("count", Integer, Optional),
        ],
    ),
    body(
        &[(PUT, "/api/vhosts/{vhost}")],
        &[
            ("description", Text, Optional),
            ("tags", TextsOrText, Optional),
            ("default_queue_type", Text, Optional),
            ("metadata", Object, Optional),
            ("tracing", Flag, Optional),
        ],
    ),
    body(
        &[(PUT, "/api/users/{user}")],
        &[
            ("password", Text, Optional),
            ("password_hash", Text, Optional),
            ("hashing_algorithm", Text, Optional),
            ("tags", TextsOrText, Optional),
            ("administrator", Flag, Optional),
        ],
    ),
    body(&[(POST, "/api/users/bulk-delete")], &[("users", Texts, Required)]),
    body(
        &[(PUT, "/api/permissions/{vhost}/{user}")],
        &[("configure", Text, Required), ("write", Text, Required), ("read", Text, Required)],
    ),
    body(
        &[(PUT, "/api/topic-permissions/{vhost}/{user}")],
        &[("exchange", Text, Required), ("write", Text, Required), ("read", Text, Required)],
    ),
    body(
        &[(PUT, "/api/policies/{vhost}/{name}"), (PUT, "/api/operator-policies/{vhost}/{name}")],
        &[
            ("pattern", Text, Required),
            ("definition", Object, Required),
            ("apply-to", Text, Optional),
            ("priority", Integer, Optional),
        ],
    ),
    body(
        &[(PUT, "/api/vhost-limits/{vhost}/{name}"), (PUT, "/api/user-limits/{user}/{name}")],
        &[("value", Integer, Required)],
    ),
    body(
        &[(PUT, "/api/parameters/{component}/{vhost}/{name}"), (PUT, "/api/global-parameters/{name}")],
        &[("value", Any, Required)],
    ),
    body(&[(PUT, "/api/cluster-name")], &[("name", Text, Required)]),
    body(
        &[(POST, "/api/services/{vhost}/{service}/call")],
        &[
            ("payload", Text, Optional),
            ("payload_encoding", Text, Optional),
            ("content_type", Text, Optional),
            ("headers", Object, Optional),
            ("timeout_ms", Integer, Optional),
        ],
    ),
    body(
        &[(POST, "/api/definitions"), (POST, "/api/definitions/{vhost}"), (POST, "/api/all-configuration")],
        &[
            ("vhosts", Objects, Optional),
            ("users", Objects, Optional),
            ("permissions", Objects, Optional),
            ("topic_permissions", Objects, Optional),
            ("global_parameters", Objects, Optional),
            ("parameters", Objects, Optional),
            ("policies", Objects, Optional),
            ("queues", Objects, Optional),
            ("exchanges", Objects, Optional),
            ("bindings", Objects, Optional),
        ],
    ),
    // An area of the log, and its level.
    Body { routes: &[(PUT, "/api/log-levels")], fields: &[], others: Some(Text) },
];

/// The schema of a route's body; `None`: it takes none.
pub(crate) fn schema(route: &Route) -> Option<Value> {
    BODIES.iter().find(|body| body.routes.contains(&(route.method, route.path))).map(Body::schema)
}

impl Body {
    fn schema(&self) -> Value {
        let properties: Map<_, _> =
            self.fields.iter().map(|(name, kind, _)| ((*name).to_owned(), kind.schema())).collect();
        let required: Vec<_> =
            self.fields.iter().filter(|(.., need)| *need == Required).map(|(name, ..)| *name).collect();
        // Fields that nobody knows are passed over.
        let others = self.others.map_or(json!(true), Kind::schema);
        json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": others })
    }
}

impl Kind {
    fn schema(self) -> Value {
        let texts = json!({ "type": "array", "items": { "type": "string" } });
        match self {
            Text => json!({ "type": "string" }),
            Flag => json!({ "type": "boolean" }),
            Integer => json!({ "type": "integer" }),
            Object => json!({ "type": "object" }),
            Objects => json!({ "type": "array", "items": { "type": "object" } }),
            Texts => texts,
            TextsOrText => json!({ "oneOf": [texts, { "type": "string" }] }),
            Any => json!(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::route::routes;

    /// How handlers read a field, up to its name. What comes behind the name of a list in definitions is its items'.
    const READS: [&str; 9] = [
        "fields.text(\"",
        "fields.text_if(\"",
        "fields.flag(\"",
        "fields.integer(\"",
        "fields.arguments(\"",
        "fields.value(\"",
        "fields.has(\"",
        " text(\"",
        "each(&file, \"",
    ];

    /// What stands before the tests of a file of `src/`.
    fn code_of(file: &str) -> String {
        let path = format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        text.split("#[cfg(test)]").next().unwrap().to_owned()
    }

    /// The fields that some code reads.
    fn read_in(code: &str) -> BTreeSet<String> {
        let name = |rest: &str| rest.split('"').next().unwrap().to_owned();
        READS.iter().flat_map(|read| code.split(read).skip(1).map(name)).collect()
    }

    #[test]
    fn every_field_that_a_handler_reads_is_described_and_no_other() {
        let mut claimed: BTreeSet<&(Method, &str)> = BTreeSet::new();
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api")).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let code = code_of(&format!("api/{file}"));
            // Definitions are read elsewhere.
            let is_definitions = file == "definitions.rs";
            let read =
                read_in(if is_definitions { code_of("definitions/read.rs") } else { code.clone() }.as_str());
            if read.is_empty() {
                continue;
            }
            let is_here = |(_, path): &&(Method, &str)| code.contains(&format!("\"{path}\""));
            let here = BODIES.iter().filter(|body| body.routes.iter().any(|route| is_here(&route)));
            let described: BTreeSet<_> = here
                .clone()
                .flat_map(|body| body.fields.iter().map(|(name, ..)| (*name).to_owned()))
                .collect();
            assert_eq!(described, read, "{file}");
            claimed.extend(here.flat_map(|body| body.routes));
        }
        for body in BODIES.iter().filter(|body| !body.fields.is_empty()) {
            assert!(body.routes.iter().all(|route| claimed.contains(route)), "{:?}", body.routes);
        }
    }

    #[test]
    fn every_body_is_of_a_route_and_those_without_are_known() {
        let there: BTreeSet<_> = routes().map(|route| (route.method, route.path)).collect();
        for route in BODIES.iter().flat_map(|body| body.routes) {
            assert!(there.contains(route), "{route:?}");
        }
        let without = routes().filter(|route| matches!(route.method, PUT | POST) && schema(route).is_none());
        let expected = [
            "/api/feature-flags/{flag}/enable",
            "/api/queues/{vhost}/{queue}/pause",
            "/api/queues/{vhost}/{queue}/resume",
            "/api/rebalance/queues",
            "/api/vhosts/{vhost}/deletion/protection",
            "/api/vhosts/{vhost}/start/{node}",
        ];
        let without: BTreeSet<_> = without.map(|route| route.path).collect();
        assert_eq!(without, BTreeSet::from(expected));
    }
}
