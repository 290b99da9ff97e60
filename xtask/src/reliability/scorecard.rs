//! The scorecard: what is done to the broker, what it must keep, and what proves it.
//!
//! Counts in a row's `demand` are those of the promise; how often a proof does it is the proof's own, per level.

use anyhow::{Context, Result};

use super::options::Level::{self, Nightly, Quick, Release};
use super::proof::{Program, Proof, What};

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) number: u8,
    /// What is done to it.
    pub(super) fault: &'static str,
    /// What must hold.
    pub(super) demand: &'static str,
    proofs: &'static [Proof],
}

impl Row {
    pub(super) fn proofs(&self) -> std::slice::Iter<'static, Proof> {
        self.proofs.iter()
    }
}

/// All rows, in order.
pub(super) fn all() -> Vec<&'static Row> {
    ROWS.iter().collect()
}

/// The row with this number.
///
/// # Errors
/// There is none.
pub(super) fn row(number: &str) -> Result<&'static Row> {
    let found = ROWS.iter().find(|row| row.number.to_string() == number);
    found.with_context(|| format!("no row `{number}`; there are 1 to {}", ROWS.len()))
}

/// The proof with this name.
///
/// # Errors
/// There is none.
pub(super) fn proof(name: &str) -> Result<&'static Proof> {
    let found = ROWS.iter().flat_map(Row::proofs).find(|proof| proof.name() == name);
    found.with_context(|| format!("nothing is called `{name}`; there are {}", super::proof::names()))
}

const fn campaign(from: Level, name: &'static str) -> Proof {
    Proof { from, what: What::Campaign(name) }
}

const fn command(from: Level, name: &'static str, command: &'static str) -> Proof {
    Proof { from, what: What::Command(Program { name, command, counts: None, seed: None }) }
}

/// A command that does as much as an environment variable says, at each level.
const fn counted(name: &'static str, command: &'static str, counts: (&'static str, [u64; 3])) -> Proof {
    let program = Program { name, command, counts: Some(counts), seed: Some("LEVERET_SEED") };
    Proof { from: Quick, what: What::Command(program) }
}

/// A test that does as many seeds as `LEVERET_SEEDS` says, beginning with `LEVERET_SEED`.
const fn seeds(name: &'static str, command: &'static str, counts: [u64; 3]) -> Proof {
    counted(name, command, ("LEVERET_SEEDS", counts))
}

const fn line(number: u8, fault: &'static str, demand: &'static str, proofs: &'static [Proof]) -> Row {
    Row { number, fault, demand, proofs }
}

const ROWS: &[Row] = &[
    line(
        1,
        "kill -9 at random times under load",
        "nothing confirmed is lost, no body is altered, every start succeeds, nothing comes again unmarked",
        &[campaign(Quick, "kill"), campaign(Quick, "delayed"), campaign(Nightly, "backlog")],
    ),
    line(
        2,
        "SIGKILL at every storage call of a script: start, recovery, work, settling, stop",
        "as row 1, at every point",
        &[campaign(Quick, "every-call")],
    ),
    line(
        3,
        "lost, torn and reordered writes, simulated, at any operation of the disk",
        "P1 to P7 hold",
        &[
            seeds(
                "store-simulation",
                "cargo test -q -p leveret-testkit --lib store_sim -- --nocapture",
                [2000, 100_000, 100_000],
            ),
            command(Quick, "store-faults", "cargo test -q -p leveret-testkit --test store_faults"),
        ],
    ),
    line(
        4,
        "power cut, block by block",
        "every file system is whole, every start succeeds, nothing confirmed is lost, in every image",
        &[campaign(Nightly, "power-cut-blocks"), campaign(Release, "power-cut-rabbitmq")],
    ),
    line(
        5,
        "power cut of a whole machine",
        "nothing confirmed is lost, every start succeeds",
        &[campaign(Nightly, "power-cut-machine")],
    ),
    line(6, "kill -9 in recovery, several times in a row", "as row 1", &[campaign(Quick, "kill")]),
    line(
        7,
        "fdatasync fails with EIO",
        "nothing of that batch is confirmed, the process ends within 1 s, no flush is tried again",
        &[campaign(Quick, "sync-failure")],
    ),
    line(
        8,
        "disk full under load",
        "nothing confirmed is lost, publishers wait, consumers drain, publishing resumes within 5 s",
        &[campaign(Quick, "disk-full")],
    ),
    line(
        9,
        "bit rot and truncation",
        "no panic, no altered body is delivered, no valid record is deleted; who is hit is told",
        &[
            campaign(Quick, "bit-rot"),
            seeds(
                "store-simulation",
                "cargo test -q -p leveret-testkit --lib store_sim -- --nocapture",
                [2000, 100_000, 100_000],
            ),
            command(Quick, "damage", "cargo test -q -p leveret-store --test damage"),
            command(Quick, "every-bit", "cargo test -q -p leveret-store --test every_bit -- --nocapture"),
            command(Quick, "hostile-bytes", "cargo test -q -p leveret-store --test hostile_bytes"),
        ],
    ),
    line(
        10,
        "kill -9 on receipt of the answer to a change: topology, users, permissions, virtual hosts, policies",
        "no answered change is missing, none is half done",
        &[campaign(Quick, "metadata"), campaign(Quick, "settings")],
    ),
    line(
        11,
        "kill -9 on commit-ok, and before it",
        "after it nothing is lost and nothing acknowledged comes back; before it all or nothing",
        &[campaign(Quick, "tx")],
    ),
    line(
        12,
        "SIGTERM under load",
        "nothing confirmed is lost, nothing acknowledged comes back, it ends within 10 s",
        &[campaign(Quick, "clean-stop")],
    ),
    line(
        13,
        "data directories of every released format",
        "all are read; a newer one is not touched",
        &[
            command(Quick, "fixtures", "cargo test -q -p leveret-server --test formats"),
            command(Quick, "damage", "cargo test -q -p leveret-store --test damage"),
            command(Quick, "every-bit", "cargo test -q -p leveret-store --test every_bit -- --nocapture"),
        ],
    ),
    line(
        14,
        "random programs against a model, with restarts and crashes",
        "no divergence",
        &[seeds(
            "broker-simulation",
            "cargo test -q -p leveret-testkit --test broker_sim -- --nocapture",
            [500, 20_000, 20_000],
        )],
    ),
    line(
        15,
        "faults around callers, workers and migrations",
        "every request has exactly one outcome in time, nobody gets stuck, a poison message ends",
        &[campaign(Quick, "toolkit"), campaign(Quick, "migrate")],
    ),
    line(
        16,
        "the same random programs on RabbitMQ 3.10",
        "the same answers, except a written list",
        &[
            campaign(Quick, "differential"),
            command(
                Nightly,
                "scenarios",
                "cargo run -q -p leveret-testkit --bin conformance -- --broker rabbitmq-3.10",
            ),
        ],
    ),
    line(
        17,
        "soak: the load for hours, with clients that vanish",
        "nothing lost, order kept, no growth of memory, files or disk",
        &[campaign(Quick, "soak")],
    ),
    line(
        18,
        "interleavings of threads; undefined behaviour of the codec",
        "no failure",
        &[
            counted(
                "interleavings",
                "cargo test -q --manifest-path interleavings/Cargo.toml -- --nocapture",
                ("LEVERET_SCHEDULES", [200, 20_000, 100_000]),
            ),
            command(Quick, "race", "cargo test -q -p leveret-broker --test broker race"),
            command(Quick, "threads", "cargo test -q -p leveret-store --test threads"),
            command(Nightly, "miri", "bash crates/wire/miri.sh test -q -p leveret-wire --lib"),
        ],
    ),
    line(
        19,
        "publishers without consumers, 256 MiB of memory",
        "never killed, 90 % resident at most, others are served",
        &[campaign(Quick, "little-memory")],
    ),
    line(
        20,
        "100 sockets that stop reading",
        "a mebibyte and a frame for each, others go on, who is silent for two heartbeats is closed and gives all back",
        &[campaign(Quick, "stalled")],
    ),
    line(
        21,
        "no file descriptors left, 100,000 connections, a slow disk",
        "no leak, no busy loop, back in 2 s, heartbeats are kept",
        &[campaign(Quick, "few-files")],
    ),
    line(
        22,
        "fuzzing of everything that reads octets from strangers",
        "no panic, no hang, no memory beyond the limit",
        &[
            command(Quick, "hostile-bytes", "cargo test -q -p leveret-store --test hostile_bytes"),
            Proof {
                from: Nightly,
                ..counted("fuzz", "cargo xtask fuzz", ("LEVERET_FUZZ_SECONDS", [10, 300, 3600]))
            },
        ],
    ),
    line(
        23,
        "valid frames in a wrong order",
        "the exact code of the specification, closed within 1 s, no effect",
        &[command(Quick, "conformance", "cargo test -q -p leveret-server --test conformance")],
    ),
    line(
        24,
        "every method in every state before open-ok",
        "no effect, nothing is accepted, 64 KiB of memory for each connection",
        &[
            command(Quick, "conformance", "cargo test -q -p leveret-server --test conformance"),
            command(Quick, "before-open", "cargo test -q -p leveret-server --test before_open"),
        ],
    ),
    line(
        25,
        "lengths that lie, to the broker and to clients, a thousand at once",
        "64 MiB more in all, no abort, closed within 1 s, good clients are served",
        &[campaign(Quick, "lying")],
    ),
    line(
        26,
        "2,000 clients, an octet a second each",
        "each is closed in time, good clients connect within 100 ms",
        &[campaign(Quick, "slowloris")],
    ),
    line(
        27,
        "complexity and names",
        "routing and lists stay fast, no file outside the data directory is touched",
        &[
            campaign(Quick, "odd-names"),
            campaign(Nightly, "api-load"),
            command(Quick, "topic-patterns", "cargo test -q -p leveret-broker --lib exchange"),
        ],
    ),
    line(
        28,
        "who may do what: every operation, every route, every right",
        "exactly what the table says; a right that is taken away ends within 1 s",
        &[
            command(Quick, "authorization", "cargo test -q -p leveret-server --test security"),
            command(
                Quick,
                "http-authorization",
                "cargo test -q -p leveret-cli --test cli http_authorization",
            ),
        ],
    ),
    line(
        29,
        "guessing passwords",
        "one core and 64 MiB at most, good clients get in, users cannot be told from strangers, guest only from this machine",
        &[
            // Hashes of passwords give way to everything else: beside other programs its limits of time mean nothing.
            campaign(Nightly, "login-attack"),
            command(Quick, "authorization", "cargo test -q -p leveret-server --test security"),
        ],
    ),
    line(
        30,
        "canaries in passwords, addresses and bodies",
        "none in logs, API, metrics or panics",
        &[command(Quick, "secrets", "cargo test -q -p leveret-cli --test cli secrets")],
    ),
    line(
        31,
        "console, TLS, dependencies",
        "no script of a stranger runs, no page of another site changes anything, only TLS 1.2 and 1.3, no forbidden dependency",
        &[
            campaign(Quick, "tls"),
            command(Quick, "browsers", "cargo test -q -p leveret-cli --test cli browsers"),
            command(Nightly, "console", "cargo xtask interop --only console"),
            command(Nightly, "dependencies", ".ci/run deny"),
        ],
    ),
    line(
        32,
        "a line of the broker that a promise rests on is missing: a flush, a checksum, a guard, a wake-up",
        "the rows above that are about it turn red",
        &[command(Nightly, "mutants", "cargo xtask mutants")],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_names_mean_one_thing() {
        assert!(ROWS.is_sorted_by(|a, b| a.number < b.number));
        let proofs: Vec<&Proof> = ROWS.iter().flat_map(Row::proofs).collect();
        for one in &proofs {
            let same = proofs.iter().all(|other| other.name() != one.name() || other.what == one.what);
            assert!(same, "two things are called `{}`", one.name());
        }
    }
}
