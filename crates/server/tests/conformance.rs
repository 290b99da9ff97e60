//! Every scenario of the conformance suite, against the embedded broker. The same files run against RabbitMQ:
//! `cargo run -p leveret-testkit --bin conformance -- --broker rabbitmq-3.10`.

use std::sync::Arc;
use std::time::SystemTime;

use leveret_broker::policies::{Author, Policy};
use leveret_broker::users::{PasswordHash, Permissions};
use leveret_broker::{Batch, ParameterError, UserLimits, VHostLimits};
use leveret_server::{Broker, Config};
use leveret_testkit::conformance::Suite;
use leveret_testkit::scenario::{Operator, Order, Target};

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
    let operator = Embedded(broker.rules().clone());
    let target = Target::new(broker.addresses()[0], false).operated_by(Arc::new(operator));
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

/// Policies, limits, virtual hosts and users of the embedded broker.
#[derive(Debug)]
struct Embedded(Arc<leveret_broker::Broker>);

impl Operator for Embedded {
    fn carry_out(&self, order: &Order) -> Result<(), String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
        let mut batch = Batch::at(now.as_millis() as u64);
        let done = self.obey(order, &mut batch);
        self.0.finish(&mut batch);
        done.map_err(|error| error.to_string())
    }
}

impl Embedded {
    fn obey(&self, order: &Order, batch: &mut Batch) -> Result<(), ParameterError> {
        let author = |is_operators| if is_operators { Author::Operator } else { Author::User };
        match order {
            Order::SetPolicy { is_operators, name, pattern, apply_to, priority, definition } => {
                let author = author(*is_operators);
                let policy = Policy::new(author, name, pattern, apply_to, *priority, definition.clone())?;
                self.0.set_policy("/", author, policy, batch).map(drop)
            }
            Order::ClearPolicy { is_operators, name } => {
                self.0.clear_policy("/", author(*is_operators), name, batch).map(drop)
            }
            Order::AddVHost(name) => {
                self.0.add_vhost(name)?;
                self.permit("guest", name);
                Ok(())
            }
            Order::AddUser { name, vhost } => {
                let password = PasswordHash::new_public(name.as_bytes()).expect("the machine has randomness");
                self.0.users.add(name, password, Vec::new()).expect(NEW);
                self.permit(name, vhost);
                Ok(())
            }
            Order::LimitVHost(vhost, limits) => self.0.set_vhost_limits(vhost, VHostLimits::parse(limits)?),
            Order::LimitUser(user, limits) => self.0.set_user_limits(user, UserLimits::parse(limits)?),
        }
    }

    fn permit(&self, user: &str, vhost: &str) {
        self.0.users.set_permissions(user, vhost, Permissions::all()).expect("the user was just added");
    }
}
