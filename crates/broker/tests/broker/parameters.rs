//! Runtime parameters: who is asked, who hears of a change, and what is there after the process was killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret_broker::ParameterError;
use leveret_broker::ops::parameter::SetParameter;
use leveret_broker::parameters::{Component, Parameter};
use leveret_broker::users::User;
use leveret_store::MemDisk;

use crate::support::Life;

/// Takes every value but `"bad"`.
#[derive(Default)]
struct Shovels {
    changes: AtomicU64,
}

impl Component for Shovels {
    fn name(&self) -> &str {
        "shovel"
    }
    fn check(&self, parameter: &Parameter, user: &User) -> Result<(), String> {
        assert_eq!(parameter.set_by, user.name);
        if &*parameter.value == "\"bad\"" { Err("not that".into()) } else { Ok(()) }
    }
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

fn begin(disk: &MemDisk) -> (Life, Arc<Shovels>) {
    let life = Life::begin(disk);
    let shovels = Arc::new(Shovels::default());
    life.broker.add_component(shovels.clone());
    (life, shovels)
}

impl Life {
    fn set(&self, component: &str, vhost: &str, name: &str, value: &str) -> Result<(), ParameterError> {
        let user = self.broker.users.find("guest").unwrap();
        self.broker.set_parameter(SetParameter { component, vhost, name, value }, &user)
    }
}

#[test]
fn a_parameter_is_checked_and_its_component_told() {
    let (life, shovels) = begin(&MemDisk::new());
    let check = |component, vhost, name, value, expected: Result<(), &str>| {
        let answer = life.set(component, vhost, name, value).map_err(|error| error.to_string());
        assert_eq!(answer, expected.map_err(str::to_owned), "{component} {vhost} {name}");
    };
    check("shovel", "/", "s", "{}", Ok(()));
    check("shovel", "/", "s", "[]", Ok(()));
    check("shovel", "/", "s", "\"bad\"", Err("Validation failed\n\nnot that\n"));
    check("shovels", "/", "s", "{}", Err("Validation failed\n\ncomponent shovels not found\n"));
    check("shovel", "none", "s", "{}", Err("Virtual host 'none' does not exist"));
    let long = "n".repeat(256);
    check("shovel", "/", &long, "{}", Err("Validation failed\n\na parameter's name has 1 to 255 octets\n"));
    let large = "1".repeat((64 << 10) + 1);
    let refused = Err("Validation failed\n\na parameter's value has at most 65536 octets\n");
    check("shovel", "/", "s", &large, refused);
    assert_eq!(shovels.changes.load(Ordering::Relaxed), 2);
    assert_eq!(life.broker.parameter("shovel", "/", "s").map(|set| set.value.to_string()), Some("[]".into()));
}

#[test]
fn a_cleared_parameter_is_gone_and_its_component_told() {
    let (life, shovels) = begin(&MemDisk::new());
    life.set("shovel", "/", "s", "{}").unwrap();
    assert_eq!(life.broker.clear_parameter("shovel", "/", "s"), Ok(()));
    assert_eq!(life.broker.clear_parameter("shovel", "/", "s"), Err(ParameterError::Missing));
    assert!(life.broker.parameters().is_empty());
    assert_eq!(shovels.changes.load(Ordering::Relaxed), 2);
}

#[test]
fn parameters_go_with_their_virtual_host() {
    let (life, shovels) = begin(&MemDisk::new());
    life.broker.add_vhost("other").unwrap();
    for (vhost, name) in [("/", "stays"), ("other", "goes"), ("other", "too")] {
        life.set("shovel", vhost, name, "{}").unwrap();
    }
    life.broker.clear_parameters_in("other").unwrap();
    let left: Vec<_> = life.broker.parameters_of("shovel").iter().map(|left| left.name.clone()).collect();
    assert_eq!(left, ["stays"]);
    assert_eq!(shovels.changes.load(Ordering::Relaxed), 4);
}

#[test]
fn parameters_survive_a_crash() {
    let disk = MemDisk::new();
    let (life, _) = begin(&disk);
    for name in ["kept", "cleared"] {
        life.set("shovel", "/", name, "{\"a\":1}").unwrap();
        life.broker.set_global_parameter(name, "1").unwrap();
    }
    life.broker.clear_parameter("shovel", "/", "cleared").unwrap();
    life.broker.clear_global_parameter("cleared").unwrap();
    assert_eq!(life.broker.clear_global_parameter("cleared"), Err(ParameterError::Missing));
    life.commit();
    let before = (life.broker.parameters(), life.broker.global_parameters());
    assert_eq!((before.0.len(), before.1.len()), (1, 1));
    drop(life);
    let (life, _) = begin(&disk);
    assert_eq!((life.broker.parameters(), life.broker.global_parameters()), before);
}
