//! Where a broker is known to differ from our expectations: `conformance/differences.txt`.
//!
//! ```text
//! scenario | broker | what it does instead | why we do otherwise          (a * stands for anything)
//! ```

use std::fmt;

use crate::scenario::Scenario;
use crate::scenario::term::glob_matches;

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Id of the scenario; a `*` makes it several.
    pub scenario: String,
    /// The broker and version, e.g. `rabbitmq-3.10`.
    pub broker: String,
    /// What came instead of what was expected.
    pub what: String,
    /// Why our expectation stands.
    pub why: String,
}

/// What is wrong with the list, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferencesError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for DifferencesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl Difference {
    /// Whether the entry is about this scenario on this broker.
    pub fn concerns(&self, scenario: &str, broker: &str) -> bool {
        self.broker == broker && fits(&self.scenario, scenario)
    }

    /// Whether this is what happened.
    pub fn covers(&self, actual: &str) -> bool {
        fits(&self.what, actual)
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    let glob: Vec<Option<u8>> = pattern.bytes().map(|octet| (octet != b'*').then_some(octet)).collect();
    glob_matches(&glob, text.as_bytes())
}

/// Reads the list; an entry for a scenario that does not exist is an error.
pub(super) fn parse(text: &str, scenarios: &[Scenario]) -> Result<Vec<Difference>, DifferencesError> {
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let problem = |problem: String| DifferencesError { line: index + 1, problem };
            let columns: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let [scenario, broker, what, why] = columns.as_slice() else {
                return Err(problem(format!("{} columns instead of 4", columns.len())));
            };
            if !scenarios.iter().any(|known| fits(scenario, &known.id)) {
                return Err(problem(format!("there is no scenario {scenario}")));
            }
            let [scenario, broker, what, why] =
                [scenario, broker, what, why].map(|column| (*column).to_owned());
            Ok(Difference { scenario, broker, what, why })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_a_scenario_that_exists() {
        let scenarios = [Scenario { id: "f/s".into(), steps: Vec::new() }];
        let parsed = parse("# list\nf/s | rabbitmq-3.10 | basic.return * | because\n", &scenarios).unwrap();
        assert!(parsed[0].covers("basic.return x"));
        assert!(!parsed[0].covers("basic.ack"));
        assert_eq!(parse("f/t | b | w | y", &scenarios).unwrap_err().problem, "there is no scenario f/t");
        assert_eq!(parse("f/s | b | w", &scenarios).unwrap_err().problem, "3 columns instead of 4");
    }
}
