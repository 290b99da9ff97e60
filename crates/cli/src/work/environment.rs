//! A request's metadata as environment variables: what a program may want to know besides the body.
//!
//! A caller decides what stands in them, but never under which names: a header cannot become `PATH`.

use std::collections::HashSet;
use std::time::Instant;

use super::job::{Job, VARIABLE_PREFIX, unix_ms};

/// In the environment of every program.
pub(crate) const SERVICE_VARIABLE: &str = "RPC_SERVICE";

/// Linux takes 128 KiB for one variable, and a quarter of the stack for all: longer ones are left out, so that no
/// caller can keep the program from starting.
const VALUE_BYTES_MAX: usize = 32 << 10;
const ALL_BYTES_MAX: usize = 256 << 10;

/// The variables of a request, each name once. What the request does not say has no variable.
pub(crate) fn variables(job: &Job) -> Vec<(String, String)> {
    let mut variables = Variables::default();
    variables.set("SERVICE", Some(&job.service));
    variables.set("METHOD", job.method.as_ref());
    variables.set("MESSAGE_ID", job.message_id.as_ref());
    variables.set("CORRELATION_ID", job.correlation_id.as_ref());
    variables.set("CONTENT_TYPE", job.content_type.as_ref());
    variables.set("REPLY_TO", job.reply_to.as_ref());
    variables.set("ATTEMPT", Some(&job.attempt.to_string()));
    variables.set("REDELIVERED", Some(&job.redelivered.to_string()));
    variables.set("TRACEPARENT", job.traceparent.as_ref());
    if let Some(deadline) = job.deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        variables.set("DEADLINE_MS", Some(&unix_ms(deadline).to_string()));
        variables.set("TIMEOUT_MS", Some(&left.as_millis().to_string()));
    }
    for (name, value) in &job.headers {
        variables.set(&format!("HEADER_{}", sanitised(name)), Some(value));
    }
    variables.all
}

#[derive(Default)]
struct Variables {
    all: Vec<(String, String)>,
    names: HashSet<String>,
    bytes: usize,
}

impl Variables {
    /// The first of a name wins. A value with a NUL cannot be in an environment.
    fn set(&mut self, name: &str, value: Option<&String>) {
        let Some(value) = value else { return };
        let name = format!("{VARIABLE_PREFIX}{name}");
        let bytes = self.bytes + name.len() + value.len();
        let fits =
            name.len() + value.len() <= VALUE_BYTES_MAX && bytes <= ALL_BYTES_MAX && !value.contains('\0');
        if fits && self.names.insert(name.clone()) {
            self.bytes = bytes;
            self.all.push((name, value.clone()));
        }
    }
}

/// `x-user.id` → `X_USER_ID`.
fn sanitised(header: &str) -> String {
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    header.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::job::testing::job;
    use super::*;

    fn check(job: &Job, expected: &[(&str, &str)]) {
        let variables = variables(job);
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(variables, expected);
    }

    #[test]
    fn everything_said_has_a_variable() {
        let mut job = job("");
        job.deadline = None;
        check(&job, &[("RPC_SERVICE", "weather"), ("RPC_ATTEMPT", "1"), ("RPC_REDELIVERED", "false")]);
        job.method = Some("forecast".to_owned());
        job.message_id = Some("m".to_owned());
        job.correlation_id = Some("c".to_owned());
        job.content_type = Some("text/plain".to_owned());
        job.reply_to = Some("amq.gen-1".to_owned());
        job.attempt = 3;
        job.redelivered = true;
        job.traceparent = Some("00-1-2-01".to_owned());
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        job.headers = vec![
            header("x-user.id", "a\nb $(rm)"),
            header("X_USER_ID", "the first wins"),
            header("naïve", ""),
            header("nul", "a\0b"),
            header("long", &"x".repeat(VALUE_BYTES_MAX)),
        ];
        check(
            &job,
            &[
                ("RPC_SERVICE", "weather"),
                ("RPC_METHOD", "forecast"),
                ("RPC_MESSAGE_ID", "m"),
                ("RPC_CORRELATION_ID", "c"),
                ("RPC_CONTENT_TYPE", "text/plain"),
                ("RPC_REPLY_TO", "amq.gen-1"),
                ("RPC_ATTEMPT", "3"),
                ("RPC_REDELIVERED", "true"),
                ("RPC_TRACEPARENT", "00-1-2-01"),
                ("RPC_HEADER_X_USER_ID", "a\nb $(rm)"),
                ("RPC_HEADER_NA_VE", ""),
            ],
        );
    }

    #[test]
    fn the_deadline_is_told_as_a_time_and_as_what_is_left() {
        let mut job = job("");
        job.deadline = Some(Instant::now() + Duration::from_secs(10));
        let variables = variables(&job);
        let number = |wanted: &str| -> u128 {
            variables.iter().find(|(name, _)| name == wanted).unwrap().1.parse().unwrap()
        };
        assert!((9_000..=10_000).contains(&number("RPC_TIMEOUT_MS")));
        let off_ms = number("RPC_DEADLINE_MS").abs_diff(unix_ms(Instant::now()) + 10_000);
        assert!(off_ms < 1_000, "{off_ms}");
    }

    #[test]
    fn no_caller_can_make_the_environment_too_large() {
        let mut job = job("");
        job.headers = (0..100).map(|n| (format!("h{n}"), "x".repeat(VALUE_BYTES_MAX / 2))).collect();
        let bytes: usize = variables(&job).iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!((ALL_BYTES_MAX / 2..=ALL_BYTES_MAX).contains(&bytes), "{bytes}");
    }
}
