//! What there is to run, as data: the longest first, so that the lanes end together.

use std::time::Duration;

/// One program or suite.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) runner: Runner,
    pub(crate) needs: Needs,
    pub(crate) timeout: Duration,
}

/// How a program is run; paths are relative to `interop/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// A Python file, with the clients of `python/requirements.txt`.
    Python(&'static str),
    /// A JavaScript file, with the packages of `node/package.json`.
    Node(&'static str),
    /// A Python file that starts programs of `examples/` in every language, ours too.
    Examples(&'static str),
    /// A class of `java/src`, with the jars of `java/pom.xml`.
    Java(&'static str),
    /// A program of the module `go/`: `interop` is the module's own, others have a folder of their name.
    Go(&'static str),
    /// A script that needs nothing but Debian packages, or installs for itself.
    Shell(&'static str),
}

/// Which broker a program may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// The one all share: it leaves nothing behind and takes names of its own.
    SharedBroker,
    /// One that it may stop, kill and start.
    OwnBroker,
    /// None of ours: it starts RabbitMQ nodes itself, which are slow to agree while the other lane needs the machine.
    RabbitMqNodes,
}

/// Debian packages of the programs; the scripts of the suites would install some themselves, but not side by side.
pub(crate) const DEBIAN_PACKAGES: &[&str] = &[
    "amqp-tools",
    "memcached",
    "dpkg-dev",
    "xz-utils",
    "golang-uber-goleak-dev",
    "postgresql",
    "prometheus",
    "chromium",
];

/// The whole plan.
pub(crate) fn programs() -> Vec<Program> {
    vec![
        shared("suite-aiormq", Runner::Shell("suites/aiormq.sh"), 480),
        shared("suite-go-amqp091", Runner::Shell("suites/go-amqp091.sh"), 300),
        shared("rabbitmqadmin", Runner::Shell("suites/rabbitmqadmin.sh"), 480),
        shared("celery", Runner::Python("python/celery_tasks.py"), 240),
        own("celery-delays", Runner::Python("python/celery_delays.py"), 300),
        own("console", Runner::Node("console/console.js"), 300),
        own("examples", Runner::Examples("stories/examples.py"), 300),
        own("story-recipe", Runner::Examples("stories/recipe.py"), 120),
        shared("story-server-farms", Runner::Python("stories/server_farms.py"), 120),
        own("story-rabbits-and-warrens", Runner::Python("stories/rabbits_and_warrens.py"), 180),
        shared("story-tutorial-rpc", Runner::Python("stories/tutorial_rpc.py"), 120),
        shared("story-site-and-service", Runner::Python("stories/site_and_service.py"), 120),
        shared("java_client", Runner::Java("JavaClient"), 120),
        shared("amqp091-go", Runner::Go("interop"), 120),
        foreign("toolkit-cluster", Runner::Shell("rust/toolkit_cluster.sh"), 900),
        foreign("toolkit-rabbitmq", Runner::Shell("rust/toolkit_rabbitmq.sh"), 600),
        own("toolkit", Runner::Shell("rust/toolkit.sh"), 600),
        shared("outbox-postgres", Runner::Shell("rust/outbox_postgres.sh"), 600),
        shared("masstransit", Runner::Python("python/masstransit_redelivery.py"), 90),
        shared("retry-patterns", Runner::Python("python/retry_patterns.py"), 90),
        own("federation", Runner::Python("python/federation.py"), 400),
        own("pika-streams", Runner::Python("python/pika_streams.py"), 150),
        own("nservicebus", Runner::Python("python/nservicebus_delays.py"), 180),
        shared("kombu", Runner::Python("python/kombu_messaging.py"), 90),
        shared("http-authorization", Runner::Python("python/http_authorization.py"), 300),
        shared("management-definitions", Runner::Python("python/management_definitions.py"), 120),
        shared("management-clients", Runner::Python("python/management_clients.py"), 120),
        shared("prometheus", Runner::Python("python/prometheus_dashboard.py"), 120),
        shared("rabbit-hole", Runner::Go("rabbithole"), 90),
        shared("management-fields", Runner::Python("python/management_fields.py"), 150),
        shared("management-writes", Runner::Python("python/management_writes.py"), 90),
        shared("pika_basic", Runner::Python("python/pika_basic.py"), 90),
        shared("pika_routing", Runner::Python("python/pika_routing.py"), 90),
        shared("pika_failures", Runner::Python("python/pika_failures.py"), 90),
        shared("pika_rpc", Runner::Python("python/pika_rpc.py"), 90),
        shared("py_amqp", Runner::Python("python/py_amqp.py"), 60),
        shared("aio_pika", Runner::Python("python/aio_pika_client.py"), 60),
        shared("amqplib", Runner::Node("node/amqplib.js"), 90),
        shared("amqp-tools", Runner::Shell("c/amqp_tools.sh"), 60),
        shared("suite-py-amqp", Runner::Shell("suites/py-amqp.sh"), 180),
        shared("suite-node-amqplib", Runner::Shell("suites/node-amqplib.sh"), 150),
    ]
}

fn shared(name: &'static str, runner: Runner, timeout_s: u64) -> Program {
    Program { name, runner, needs: Needs::SharedBroker, timeout: Duration::from_secs(timeout_s) }
}

fn own(name: &'static str, runner: Runner, timeout_s: u64) -> Program {
    Program { needs: Needs::OwnBroker, ..shared(name, runner, timeout_s) }
}

fn foreign(name: &'static str, runner: Runner, timeout_s: u64) -> Program {
    Program { needs: Needs::RabbitMqNodes, ..shared(name, runner, timeout_s) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace_root;

    #[test]
    fn every_program_is_there_and_named_once() {
        let interop = workspace_root().join("interop");
        let mut names = std::collections::HashSet::new();
        for program in programs() {
            let path = match program.runner {
                Runner::Python(path) | Runner::Examples(path) | Runner::Node(path) | Runner::Shell(path) => {
                    path.to_owned()
                }
                Runner::Java(class) => format!("java/src/{class}.java"),
                Runner::Go("interop") => "go/main.go".to_owned(),
                Runner::Go(name) => format!("go/{name}/main.go"),
            };
            assert!(interop.join(&path).is_file(), "{path}");
            assert!(names.insert(program.name), "{} twice", program.name);
        }
    }
}
