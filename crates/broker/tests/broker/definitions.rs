//! Definitions: all of them or none, also when the process is killed.

use std::sync::Arc;

use leveret_broker::definitions::{
    DefinedBinding, DefinedExchange, DefinedParameter, DefinedPermissions, DefinedQueue,
    DefinedTopicPermissions, DefinedUser, Definitions, DefinitionsError,
};
use leveret_broker::parameters::{Component, GlobalParameter, Parameter};
use leveret_broker::policies::{Author, Policy};
use leveret_broker::users::{PasswordHash, Permissions, User};
use leveret_broker::vhost::Destination;
use leveret_broker::{Batch, Broker, UserLimits, VHostLimits, VHostMetadata};
use leveret_store::MemDisk;
use leveret_wire::{FieldTable, FieldValue};

use crate::support::Life;

fn begin(disk: &MemDisk) -> Life {
    let life = Life::begin(disk);
    life.broker.add_component(Arc::new(Shovels));
    life
}

fn queue(vhost: &str, name: &str, arguments: FieldTable) -> DefinedQueue {
    DefinedQueue { vhost: vhost.into(), name: name.into(), durable: true, auto_delete: false, arguments }
}

fn exchange(vhost: &str, name: &str, kind: &str) -> DefinedExchange {
    DefinedExchange {
        vhost: vhost.into(),
        name: name.into(),
        kind: kind.into(),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::new(),
    }
}

fn binding(vhost: &str, source: &str, destination: &str) -> DefinedBinding {
    DefinedBinding {
        vhost: vhost.into(),
        source: source.into(),
        to_queue: true,
        destination: destination.into(),
        routing_key: "k".into(),
        arguments: FieldTable::new(),
    }
}

fn policy(maximum: i32) -> Policy {
    let definition = FieldTable::from([("max-length", FieldValue::I32(maximum))]);
    Policy::new(Author::User, "p", "", "queues", 0, definition).unwrap()
}

/// Something of everything, in a virtual host that is there and in a new one.
fn some() -> Definitions {
    let metadata = VHostMetadata { description: "new".into(), ..VHostMetadata::default() };
    let limits = VHostLimits { max_queues: Some(9), max_connections: None };
    let permissions = |vhost: &str| DefinedPermissions {
        user: "u".into(),
        vhost: vhost.into(),
        permissions: Permissions::all(),
    };
    Definitions {
        vhosts: vec![("/".into(), None), ("new".into(), Some(metadata))],
        vhost_limits: vec![("new".into(), limits)],
        users: vec![DefinedUser {
            name: "u".into(),
            password: PasswordHash::new_public(b"p").unwrap(),
            tags: vec!["management".into()],
            limits: Some(UserLimits { max_connections: Some(3), max_channels: None }),
        }],
        permissions: vec![permissions("/"), permissions("new")],
        topic_permissions: vec![DefinedTopicPermissions {
            user: "u".into(),
            vhost: "new".into(),
            exchange: "amq.topic".into(),
            write: "a".into(),
            read: "b".into(),
        }],
        policies: vec![("new".into(), Author::User, policy(5))],
        parameters: vec![shovel("new", "{}"), shovel("/", "{}")],
        global_parameters: vec![GlobalParameter { name: "g".into(), value: "1".into() }],
        queues: vec![
            queue("/", "q", FieldTable::new()),
            queue("new", "q", FieldTable::from([("x-queue-type", "quorum")])),
            queue("new", "late", FieldTable::from([("x-queue-type", "delayed")])),
        ],
        exchanges: vec![exchange("new", "x", "topic"), exchange("/", "history", "x-recent-history")],
        bindings: vec![binding("new", "x", "q"), binding("new", "x", "missing")],
    }
}

fn define(broker: &Broker, definitions: &Definitions) -> Result<(), DefinitionsError> {
    let mut batch = Batch::at(1_000_000);
    let defined = broker.define(definitions, Some("guest"), &mut batch);
    broker.finish(&mut batch);
    defined
}

/// Takes what the user may enter, and nothing that says no.
struct Shovels;

impl Component for Shovels {
    fn name(&self) -> &str {
        "shovel"
    }
    fn check(&self, parameter: &Parameter, user: &User) -> Result<(), String> {
        match (user.permissions(&parameter.vhost), &*parameter.value) {
            (Some(_), "{}") => Ok(()),
            _ => Err(format!("not for {}", parameter.set_by)),
        }
    }
    fn changed(&self) {}
}

fn shovel(vhost: &str, value: &str) -> DefinedParameter {
    DefinedParameter {
        component: "shovel".into(),
        vhost: vhost.into(),
        name: "s".into(),
        value: value.into(),
    }
}

/// What there is, to be compared.
fn seen(broker: &Broker) -> Vec<String> {
    let mut seen = Vec::new();
    for vhost in broker.vhosts() {
        seen.push(format!("vhost {} {:?} {:?}", vhost.name, vhost.metadata(), vhost.limits()));
        for queue in vhost.queues() {
            let policy = queue.policies().policy.map(|policy| policy.name.clone());
            seen.push(format!("queue {} {} {:?} {policy:?}", vhost.name, queue.name, queue.spec.arguments));
        }
        for exchange in vhost.exchanges() {
            seen.push(format!("exchange {} {} {}", vhost.name, exchange.name, exchange.spec.type_name()));
            let bindings = exchange.bindings.read();
            let bound = |(to, key, _): (&Destination, &str, _)| {
                format!("bound {} {key} {}", exchange.name, to.name())
            };
            seen.extend(bindings.iter().map(bound));
        }
    }
    for user in broker.users.list() {
        seen.push(format!("user {user:?} {:?}", broker.user_limits(&user.name)));
    }
    seen.extend(broker.parameters().iter().map(|one| format!("{one:?} {} {}", one.value, one.set_by)));
    seen.extend(broker.global_parameters().iter().map(|one| format!("global {one:?}")));
    seen.sort();
    seen
}

#[test]
fn definitions_are_in_force_and_survive_a_crash() {
    let disk = MemDisk::new();
    let life = begin(&disk);
    define(&life.broker, &some()).unwrap();
    let before = seen(&life.broker);
    let vhost = life.broker.vhost("new").unwrap();
    assert_eq!(vhost.queue("q").unwrap().settings().messages, Some(5), "the policy is in force");
    assert!(vhost.queue("q").unwrap().kind == leveret_broker::settings::QueueKind::Quorum);
    assert!(life.broker.users.authenticate("u", b"p", false).is_ok());
    assert!(before.contains(&"bound x k q".to_owned()), "{before:#?}");
    life.commit();
    drop(life);
    assert_eq!(seen(&begin(&disk).broker), before);
}

#[test]
fn definitions_a_second_time_change_nothing() {
    let life = begin(&MemDisk::new());
    define(&life.broker, &some()).unwrap();
    let before = seen(&life.broker);
    define(&life.broker, &some()).unwrap();
    assert_eq!(seen(&life.broker), before);
}

#[test]
fn definitions_that_were_not_committed_are_gone_as_a_whole() {
    let disk = MemDisk::new();
    let life = begin(&disk);
    life.commit();
    let before = seen(&life.broker);
    define(&life.broker, &some()).unwrap();
    drop(life);
    assert_eq!(seen(&begin(&disk).broker), before);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let life = begin(&MemDisk::new());
    let before = seen(&life.broker);
    let check = |spoil: &dyn Fn(&mut Definitions), expected: &str| {
        let mut definitions = some();
        spoil(&mut definitions);
        let refused = define(&life.broker, &definitions).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}, expected {expected}");
        assert_eq!(seen(&life.broker), before, "{expected}");
    };
    check(&|all| all.queues.push(queue("nowhere", "q", FieldTable::new())), "no_such_vhost: nowhere");
    check(&|all| all.permissions[0].user = "nobody".into(), "no_such_user: nobody");
    let bad = FieldTable::from([("x-max-length", "many")]);
    check(&|all| all.queues.push(queue("new", "bad", bad.clone())), "invalid arg 'x-max-length'");
    check(&|all| all.queues.push(queue("new", "", FieldTable::new())), "a name has 1 to 255 octets");
    check(&|all| all.exchanges.push(exchange("new", "bad", "nope")), "unknown exchange type 'nope'");
    check(
        &|all| all.exchanges.push(exchange("new", &"n".repeat(256), "topic")),
        "a name has 1 to 255 octets",
    );
    check(&|all| all.bindings[0].routing_key = "k".repeat(256), "255 octets");
    check(&|all| all.vhosts.push((String::new(), None)), "a name has 1 to 255 octets");
    check(&|all| all.users[0].tags = vec![String::new(); 99], "at most 32 tags");
    check(&|all| all.topic_permissions[0].read = "(".into(), "invalid regular expression");
    check(&|all| all.global_parameters[0].name = String::new(), "1 to 255 octets");
    check(&|all| all.parameters[0].component = "unknown".into(), "component unknown not found");
    check(&|all| all.parameters.push(shovel("/", "[]")), "not for guest");
    check(&|all| all.parameters.push(shovel("nowhere", "{}")), "not for guest");
    check(&|all| all.parameters[1].name = String::new(), "1 to 255 octets");
}

#[test]
fn without_a_caller_parameters_are_those_of_the_administrator_that_is_defined() {
    let life = begin(&MemDisk::new());
    let mut definitions = some();
    definitions.users[0].tags = vec!["administrator".into()];
    life.broker.define(&definitions, None, &mut Batch::at(1)).unwrap();
    assert_eq!(life.broker.parameter("shovel", "new", "s").unwrap().set_by, "u");
}

#[test]
fn many_queues_are_defined_in_one_go() {
    let disk = MemDisk::new();
    let life = begin(&disk);
    let mut definitions = Definitions::default();
    for number in 0..2_000 {
        let name = format!("queue-{number}");
        definitions.bindings.push(binding("/", "amq.direct", &name));
        definitions.queues.push(queue("/", &name, FieldTable::new()));
    }
    define(&life.broker, &definitions).unwrap();
    life.commit();
    drop(life);
    let life = begin(&disk);
    let vhost = life.broker.vhost("/").unwrap();
    assert_eq!(
        (vhost.queues().len(), vhost.exchange("amq.direct").unwrap().bindings.read().len()),
        (2_000, 2_000)
    );
}
