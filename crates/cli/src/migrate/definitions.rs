//! What is to be made at the destination, from a definitions document as RabbitMQ and Leveret export it.
//!
//! ```text
//!   document ─► Definitions ─┬─► settings   users, permissions, policies, parameters: requests to the management API
//!                            ├─► topology   exchanges, queues, bindings: declared over AMQP
//!                            └─► left out   what is not migrated, and why
//! ```

use std::collections::BTreeSet;

use leveret_client::{ExchangeDeclare, QueueBinding, QueueDeclare};
use leveret_wire::{FieldTable, FieldValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::json_table::table;
use crate::management::Path;

/// Arguments that quorum queues refuse, and that mean nothing there.
const CLASSIC_ONLY: [&str; 4] =
    ["x-max-priority", "x-queue-mode", "x-queue-version", "x-queue-master-locator"];
/// Parameters of what would move messages a second time, or that belong to one broker.
const COMPONENTS_LEFT_OUT: [&str; 3] = ["shovel", "federation-upstream", "federation-upstream-set"];
const GLOBALS_LEFT_OUT: [&str; 3] = ["internal_cluster_id", "cluster_name", "imported_from"];

/// A definitions document. What it has besides is of no use at another broker.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Definitions {
    vhosts: Vec<Named>,
    users: Vec<Value>,
    permissions: Vec<Value>,
    topic_permissions: Vec<Value>,
    policies: Vec<Value>,
    parameters: Vec<Parameter>,
    global_parameters: Vec<Parameter>,
    exchanges: Vec<Exchange>,
    queues: Vec<Queue>,
    bindings: Vec<Binding>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Parameter {
    #[serde(default)]
    component: String,
    #[serde(default)]
    vhost: String,
    name: String,
    value: Value,
}

#[derive(Debug, Deserialize)]
struct Exchange {
    #[serde(default = "root")]
    vhost: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    arguments: Map<String, Value>,
}

/// A queue as the document has it.
#[derive(Debug, Deserialize)]
struct Queue {
    #[serde(default = "root")]
    vhost: String,
    name: String,
    #[serde(default)]
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Binding {
    #[serde(default = "root")]
    vhost: String,
    source: String,
    destination: String,
    destination_type: String,
    #[serde(default)]
    routing_key: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

/// A document of one virtual host does not name it.
fn root() -> String {
    "/".to_owned()
}

/// A request to the destination's management API.
#[derive(Debug, PartialEq)]
pub(super) struct Setting {
    /// What it sets, for messages.
    pub(super) what: String,
    pub(super) path: Path,
    pub(super) body: Value,
}

/// What of a virtual host is declared over AMQP.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Topology {
    pub(super) vhost: String,
    pub(super) exchanges: Vec<ExchangeDeclare>,
    pub(super) queues: Vec<QueueDeclare>,
    pub(super) queue_bindings: Vec<QueueBinding>,
    /// The destination, then the binding with its `queue` unused.
    pub(super) exchange_bindings: Vec<(String, QueueBinding)>,
}

/// What is migrated of a document.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Only these virtual hosts; none: all.
    pub(super) vhosts: Vec<String>,
    /// Durable classic queues become quorum queues.
    pub(super) to_quorum: bool,
    /// Users that the destination has already, and keeps as they are.
    pub(super) users_there: BTreeSet<String>,
}

impl Definitions {
    /// The names of the virtual hosts that are chosen.
    pub(super) fn vhosts(&self, choice: &Choice) -> Vec<String> {
        let named = self.vhosts.iter().map(|vhost| vhost.name.clone());
        let used = self.queues.iter().map(|queue| queue.vhost.clone());
        let all: BTreeSet<String> = named.chain(used).collect();
        all.into_iter().filter(|vhost| choice.has(vhost)).collect()
    }

    /// What is set through the management API, in the order it has to be.
    pub(super) fn settings(&self, choice: &Choice) -> Vec<Setting> {
        let mut settings = Vec::new();
        let vhosts = self.vhosts(choice).into_iter();
        settings.extend(vhosts.map(|vhost| set(format!("vhost '{vhost}'"), &["vhosts", &vhost], json!({}))));
        for user in self.users.iter().filter(|user| choice.has_user(self, name_of(user))) {
            user_settings(user, &mut settings);
        }
        let permissions = self.permissions.iter().map(|permission| (permission, "permissions"));
        let topics = self.topic_permissions.iter().map(|permission| (permission, "topic-permissions"));
        for (permission, resource) in permissions.chain(topics) {
            let (vhost, user) = (text(permission, "vhost"), text(permission, "user"));
            if choice.has(vhost) && !choice.users_there.contains(user) {
                let what = format!("{resource} of user '{user}' in vhost '{vhost}'");
                settings.push(set(what, &[resource, vhost, user], permission.clone()));
            }
        }
        for policy in self.policies.iter().filter(|policy| choice.has(text(policy, "vhost"))) {
            let (vhost, name) = (text(policy, "vhost"), name_of(policy));
            let what = format!("policy '{name}' in vhost '{vhost}'");
            settings.push(set(what, &["policies", vhost, name], policy.clone()));
        }
        let kept = |parameter: &&Parameter| choice.has(&parameter.vhost) && !parameter.is_left_out();
        self.parameters.iter().filter(kept).for_each(|parameter| parameter.settings(&mut settings));
        let global = |name: &str| !GLOBALS_LEFT_OUT.contains(&name);
        for Parameter { name, value, .. } in self.global_parameters.iter().filter(|all| global(&all.name)) {
            let body = json!({"name": name, "value": value});
            settings.push(set(format!("global parameter '{name}'"), &["global-parameters", name], body));
        }
        settings
    }

    /// What is declared over AMQP, by virtual host.
    pub(super) fn topologies(&self, choice: &Choice) -> Vec<Topology> {
        self.vhosts(choice).into_iter().map(|vhost| self.topology(vhost, choice)).collect()
    }

    fn topology(&self, vhost: String, choice: &Choice) -> Topology {
        let exchanges =
            self.exchanges.iter().filter(|exchange| exchange.vhost == vhost && !exchange.is_predeclared());
        let queues = self.queues.iter().filter(|queue| queue.vhost == vhost && !queue.auto_delete);
        let left_out: BTreeSet<_> = self
            .queues
            .iter()
            .filter(|queue| queue.auto_delete)
            .map(|queue| (&queue.vhost, &queue.name))
            .collect();
        let bindings =
            self.bindings.iter().filter(|binding| binding.vhost == vhost && !binding.source.is_empty());
        let (to_queues, to_exchanges): (Vec<_>, Vec<_>) = bindings.partition(|binding| binding.is_to_queue());
        let to_queues = to_queues
            .into_iter()
            .filter(|binding| !left_out.contains(&(&binding.vhost, &binding.destination)));
        Topology {
            exchanges: exchanges.map(Exchange::declare).collect(),
            queues: queues.map(|queue| queue.declare(choice.to_quorum)).collect(),
            queue_bindings: to_queues.map(Binding::bind).collect(),
            exchange_bindings: to_exchanges
                .into_iter()
                .map(|binding| (binding.destination.clone(), binding.bind()))
                .collect(),
            vhost,
        }
    }

    /// What is not migrated, and why, in words.
    pub(super) fn left_out(&self, choice: &Choice) -> Vec<String> {
        let mut left_out = Vec::new();
        for name in self.users.iter().map(name_of).filter(|name| choice.users_there.contains(*name)) {
            left_out.push(format!("user '{name}': the destination has one of that name and keeps it"));
        }
        for user in self.users.iter().filter(|user| choice.has_user(self, name_of(user))) {
            if text(user, "password_hash").is_empty() {
                let name = name_of(user);
                left_out
                    .push(format!("the password of user '{name}', if it has one: set it at the destination"));
            }
        }
        for Parameter { component, vhost, name, .. } in
            self.parameters.iter().filter(|parameter| choice.has(&parameter.vhost) && parameter.is_left_out())
        {
            left_out.push(format!(
                "{component} '{name}' in vhost '{vhost}': set it at the destination once nothing uses the source"
            ));
        }
        for Queue { vhost, name, .. } in
            self.queues.iter().filter(|queue| choice.has(&queue.vhost) && queue.auto_delete)
        {
            left_out.push(format!(
                "queue '{name}' in vhost '{vhost}': it is auto-delete, so whoever consumes it declares it, and \
                 moving its messages would delete it"
            ));
        }
        left_out
    }
}

impl Choice {
    fn has(&self, vhost: &str) -> bool {
        self.vhosts.is_empty() || self.vhosts.iter().any(|chosen| chosen == vhost)
    }

    /// Of some virtual hosts only those users are migrated that may do something there.
    fn has_user(&self, definitions: &Definitions, name: &str) -> bool {
        let may =
            |permission: &Value| text(permission, "user") == name && self.has(text(permission, "vhost"));
        let is_wanted = self.vhosts.is_empty() || definitions.permissions.iter().any(may);
        is_wanted && !self.users_there.contains(name)
    }
}

impl Parameter {
    fn is_left_out(&self) -> bool {
        COMPONENTS_LEFT_OUT.contains(&self.component.as_str())
    }

    /// Some parameters of RabbitMQ have paths of their own.
    fn settings(&self, settings: &mut Vec<Setting>) {
        let Self { component, vhost, name, value } = self;
        let what = format!("{component} '{name}' in vhost '{vhost}'");
        match (component.as_str(), value) {
            ("operator_policy", value) => {
                settings.push(set(what, &["operator-policies", vhost, name], value.clone()));
            }
            ("vhost-limits", Value::Object(limits)) => {
                settings.extend(limits.iter().map(|(limit, value)| {
                    let what = format!("limit '{limit}' of vhost '{vhost}'");
                    set(what, &["vhost-limits", vhost, limit], json!({"value": value}))
                }))
            }
            (_, value) => {
                let body = json!({"component": component, "vhost": vhost, "name": name, "value": value});
                settings.push(set(what, &["parameters", component, vhost, name], body));
            }
        }
    }
}

impl Exchange {
    fn is_predeclared(&self) -> bool {
        self.name.is_empty() || self.name.starts_with("amq.")
    }

    fn declare(&self) -> ExchangeDeclare {
        ExchangeDeclare {
            name: self.name.clone(),
            kind: self.kind.clone(),
            passive: false,
            durable: self.durable,
            auto_delete: self.auto_delete,
            internal: self.internal,
            arguments: table(&self.arguments),
        }
    }
}

impl Queue {
    fn declare(&self, to_quorum: bool) -> QueueDeclare {
        let mut arguments = table(&self.arguments);
        let is_classic = arguments.get("x-queue-type").is_none_or(|kind| kind.as_str() == Some("classic"));
        if to_quorum && is_classic && self.durable {
            CLASSIC_ONLY.iter().for_each(|name| drop(arguments.remove(name)));
            arguments.insert("x-queue-type", "quorum");
        }
        QueueDeclare { arguments, durable: self.durable, ..QueueDeclare::durable(&self.name) }
    }
}

impl Binding {
    fn is_to_queue(&self) -> bool {
        self.destination_type == "queue"
    }

    fn bind(&self) -> QueueBinding {
        let binding = QueueBinding::new(&self.destination, &self.source, &self.routing_key);
        QueueBinding { arguments: table(&self.arguments), ..binding }
    }
}

/// Whether a queue with these arguments is a stream, which nothing can be taken out of.
pub(super) fn is_stream(arguments: &FieldTable) -> bool {
    arguments.get("x-queue-type").and_then(FieldValue::as_str) == Some("stream")
}

fn user_settings(user: &Value, settings: &mut Vec<Setting>) {
    let name = name_of(user);
    let mut body = user.clone();
    let limits = body.as_object_mut().and_then(|fields| {
        fields.remove("name");
        fields.remove("limits")
    });
    settings.push(set(format!("user '{name}'"), &["users", name], body));
    for (limit, value) in limits.iter().filter_map(Value::as_object).flatten() {
        let what = format!("limit '{limit}' of user '{name}'");
        settings.push(set(what, &["user-limits", name, limit], json!({"value": value})));
    }
}

fn set(what: String, segments: &[&str], body: Value) -> Setting {
    Setting { what, path: Path::of(segments), body }
}

fn name_of(value: &Value) -> &str {
    text(value, "name")
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Definitions {
        serde_json::from_value(json!({
            "rabbit_version": "3.10.8",
            "users": [
                {"name": "guest", "password_hash": "g", "hashing_algorithm": "h", "tags": ["administrator"]},
                {"name": "app", "password_hash": "a", "tags": "", "limits": {"max-connections": 3}},
            ],
            "vhosts": [{"name": "/"}, {"name": "b"}],
            "permissions": [
                {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
                {"user": "app", "vhost": "b", "configure": "", "write": "", "read": ".*"},
            ],
            "policies": [{"vhost": "/", "name": "p", "pattern": ".", "definition": {"expires": 1}}],
            "parameters": [
                {"component": "shovel", "vhost": "/", "name": "s", "value": {}},
                {"component": "operator_policy", "vhost": "/", "name": "o", "value": {"pattern": "."}},
                {"component": "vhost-limits", "vhost": "b", "name": "limits", "value": {"max-queues": 9}},
            ],
            "global_parameters": [{"name": "internal_cluster_id", "value": "x"}, {"name": "mine", "value": [1]}],
            "exchanges": [
                {"vhost": "/", "name": "x", "type": "topic", "durable": true, "auto_delete": false,
                 "internal": false, "arguments": {"alternate-exchange": "amq.fanout"}},
                {"vhost": "/", "name": "amq.topic", "type": "topic", "durable": true},
            ],
            "queues": [
                {"vhost": "/", "name": "q", "durable": true, "auto_delete": false,
                 "arguments": {"x-max-priority": 3, "x-message-ttl": 5}},
                {"vhost": "/", "name": "going", "durable": true, "auto_delete": true},
            ],
            "bindings": [
                {"vhost": "/", "source": "x", "destination": "q", "destination_type": "queue",
                 "routing_key": "#", "arguments": {}},
                {"vhost": "/", "source": "x", "destination": "going", "destination_type": "queue"},
                {"vhost": "/", "source": "amq.topic", "destination": "x", "destination_type": "exchange"},
            ],
        }))
        .unwrap()
    }

    fn paths(choice: &Choice) -> Vec<String> {
        sample().settings(choice).iter().map(|setting| setting.path.to_string()).collect()
    }

    #[test]
    fn settings_are_made_in_the_order_they_need() {
        let choice = Choice { users_there: ["guest".to_owned()].into(), ..Choice::default() };
        let expected = [
            "/api/vhosts/%2f",
            "/api/vhosts/b",
            "/api/users/app",
            "/api/user-limits/app/max-connections",
            "/api/permissions/b/app",
            "/api/policies/%2f/p",
            "/api/operator-policies/%2f/o",
            "/api/vhost-limits/b/max-queues",
            "/api/global-parameters/mine",
        ];
        assert_eq!(paths(&choice), expected);
        assert_eq!(sample().left_out(&choice).len(), 3);
    }

    #[test]
    fn a_choice_of_virtual_hosts_leaves_the_others_and_their_users() {
        let choice = Choice { vhosts: vec!["b".into()], ..Choice::default() };
        let expected = [
            "/api/vhosts/b",
            "/api/users/app",
            "/api/user-limits/app/max-connections",
            "/api/permissions/b/app",
            "/api/vhost-limits/b/max-queues",
            "/api/global-parameters/mine",
        ];
        assert_eq!(paths(&choice), expected);
        assert_eq!(sample().topologies(&choice), [Topology { vhost: "b".into(), ..Topology::default() }]);
    }

    #[test]
    fn a_user_that_comes_without_a_password_is_named() {
        let document =
            json!({"users": [{"name": "a", "password_hash": ""}, {"name": "b", "password_hash": "x"}]});
        let definitions: Definitions = serde_json::from_value(document).unwrap();
        let expected = "the password of user 'a', if it has one: set it at the destination";
        assert_eq!(definitions.left_out(&Choice::default()), [expected]);
    }

    #[test]
    fn topology_is_declared_without_what_belongs_to_clients() {
        let [found, _] = &sample().topologies(&Choice::default())[..] else { panic!("two virtual hosts") };
        let names: Vec<_> = found.exchanges.iter().map(|exchange| exchange.name.as_str()).collect();
        assert_eq!(names, ["x"]);
        let queue =
            QueueDeclare::durable("q").argument("x-max-priority", 3i64).argument("x-message-ttl", 5i64);
        assert_eq!(found.queues, [queue]);
        assert_eq!(found.queue_bindings, [QueueBinding::new("q", "x", "#")]);
        assert_eq!(found.exchange_bindings, [("x".to_owned(), QueueBinding::new("x", "amq.topic", ""))]);
    }

    #[test]
    fn classic_queues_become_quorum_queues() {
        let choice = Choice { to_quorum: true, ..Choice::default() };
        let queue =
            QueueDeclare::durable("q").argument("x-message-ttl", 5i64).argument("x-queue-type", "quorum");
        assert_eq!(sample().topologies(&choice)[0].queues, [queue]);
    }
}
