//! Secrets in the state of what panics are not in what the panic says, nor in its backtrace.
//!
//! The test runs itself as another process, which panics with each kind of state in its message: that is the worst an
//! `unwrap` or `expect` can do.

use std::fmt::Debug;
use std::process::Command;

use leveret_broker::definitions::{DefinedParameter, DefinedUser};
use leveret_broker::users::{PasswordHash, Users};
use leveret_client::ConnectOptions;
use leveret_wire::method::{ConnectionSecureOk, ConnectionStartOk, ConnectionUpdateSecret};
use leveret_wire::sasl::{self, build_plain};
use leveret_wire::{AmqpUri, Method, RawTable, Secret};

const MARK: &str = "canary7f3a";
/// Which state the other process is to panic with.
const STATE: &str = "LEVERET_TEST_PANIC_STATE";
const NAME: &str = "panics::no_state_shows_its_secrets_in_a_panic";

type State = (&'static str, Box<dyn Debug>);

fn states() -> Vec<State> {
    let url = format!("amqp://ann:{MARK}@127.0.0.1:1/%2f");
    let hash = PasswordHash::new_public(MARK.as_bytes()).unwrap();
    let users = Users::default();
    users.add("ann", hash.clone(), Vec::new()).unwrap();
    let user = DefinedUser { name: "ann".into(), password: hash, tags: Vec::new(), limits: None };
    let parameter = DefinedParameter {
        component: "shovel".into(),
        vhost: "/".into(),
        name: "s".into(),
        value: format!("{{\"src-uri\":\"{url}\"}}"),
    };
    vec![
        ("secret", Box::new(Secret::from(MARK))),
        ("credentials", Box::new(sasl::parse("PLAIN", &login()))),
        ("address", Box::new(AmqpUri::parse(&url))),
        ("wrong address", Box::new(AmqpUri::parse(&format!("amqp://ann:{MARK}@[")))),
        ("options", Box::new(ConnectOptions::parse(&url))),
        ("wrong options", Box::new(ConnectOptions::parse(&format!("amqp://ann:{MARK}@h:{MARK}")))),
        ("user", Box::new(users.find("ann"))),
        ("users", Box::new(users)),
        ("defined user", Box::new(user)),
        ("defined parameter", Box::new(parameter)),
    ]
}

fn login() -> Vec<u8> {
    build_plain("ann", &Secret::from(MARK))
}

/// Methods borrow what they say.
fn methods() -> String {
    let response = login();
    let start_ok = ConnectionStartOk {
        client_properties: RawTable::default(),
        mechanism: "PLAIN",
        response: &response,
        locale: "en_US",
    };
    let secure_ok = ConnectionSecureOk { response: &response };
    let update = ConnectionUpdateSecret { new_secret: &response, reason: "" };
    let methods: [Method<'_>; 3] = [start_ok.into(), secure_ok.into(), update.into()];
    format!("{methods:?}")
}

fn panic_with(state: &str) {
    if state == "methods" {
        panic!("{}", methods());
    }
    let states = states();
    let (_, state) = states.iter().find(|(name, _)| *name == state).unwrap();
    panic!("{state:?}");
}

#[test]
fn no_state_shows_its_secrets_in_a_panic() {
    if let Ok(state) = std::env::var(STATE) {
        return panic_with(&state);
    }
    let written_out: String = login().iter().map(|octet| format!("{octet}, ")).collect();
    let written_out = written_out.trim_end_matches(", ");
    let written_out = &written_out[written_out.len() - 3 * MARK.len()..];
    for name in states().iter().map(|(name, _)| *name).chain(["methods"]) {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args([NAME, "--exact", "--nocapture"]).env(STATE, name).env("RUST_BACKTRACE", "full");
        let output = test.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("panicked at") && said.contains("stack backtrace"), "{name}: {said}");
        let leaks = said.contains(MARK) || said.contains(written_out);
        assert!(!leaks, "{name}: {said}");
    }
}
