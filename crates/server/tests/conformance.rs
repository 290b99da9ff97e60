//! Every scenario of the conformance suite, against the embedded broker. The same files run against RabbitMQ:
//! `cargo run -p leveret-testkit --bin conformance -- --broker rabbitmq-3.10`.

use leveret_broker::users::{PasswordHash, Permissions};
use leveret_server::{Broker, Config};
use leveret_testkit::conformance::Suite;
use leveret_testkit::scenario::Target;

const JOBS: usize = 16;
const NEW: &str = "the broker is new: nothing of that name exists";

#[test]
fn the_broker_answers_as_written() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut config = Config::default();
    config.limits.message_size_bytes = 16 << 20; // RabbitMQ 4's, which the scenarios expect
    let builder = Broker::builder().config(config).in_memory().any_port();
    let broker = runtime.block_on(builder.start()).unwrap();
    add_fixture(broker.rules());
    let target = Target::new(broker.addresses()[0], false);
    let report = Suite::load().unwrap().run(&target, "leveret", JOBS);
    runtime.block_on(broker.stop()).unwrap();
    assert!(report.is_green(), "{report}");
}

/// The users and vhosts of `conformance/fixture.json`.
fn add_fixture(rules: &leveret_broker::Broker) {
    rules.add_vhost("other").expect(NEW);
    let users = &rules.users;
    users.set_permissions("guest", "other", Permissions::all()).expect(NEW);
    let password = PasswordHash::new_public(b"limited").expect("the machine has randomness");
    users.add("limited", password, Vec::new()).expect(NEW);
    let permissions = Permissions::new(
        r"^(conf|all|amq\.gen).*",
        r"^(write|all|amq\.gen|amq\.topic|amq\.default).*",
        r"^(read|all|amq\.gen|amq\.topic).*",
    )
    .expect("the patterns are valid");
    users.set_permissions("limited", "/", permissions).expect(NEW);
    users.set_topic_permissions("limited", "/", "amq.topic", r"^ok\..*", r"^ok\..*").expect(NEW);
}
