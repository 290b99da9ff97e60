//! What a campaign found: counts, facts worth reading, and faults, each a broken promise.

use std::collections::BTreeMap;
use std::fmt;

/// Faults of one kind described at length; more are only counted.
const EXAMPLES_MAX: usize = 4;

/// Grows while a campaign runs. It passes if there is no fault in it.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// How often what was done or seen: for the record, to be added up and compared.
    counts: BTreeMap<&'static str, u64>,
    facts: Vec<String>,
    faults: BTreeMap<&'static str, Cases>,
}

#[derive(Debug, Default)]
struct Cases {
    count: u64,
    examples: Vec<String>,
}

impl Verdict {
    pub(super) fn fact(&mut self, fact: impl Into<String>) {
        self.facts.push(fact.into());
    }

    /// Adds to a number for the record, named by what is counted.
    pub(super) fn count(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }

    /// A promise is broken: in a few words which, and the case.
    pub(super) fn fault(&mut self, kind: &'static str, case: impl fmt::Display) {
        let cases = self.faults.entry(kind).or_default();
        cases.count += 1;
        if cases.examples.len() < EXAMPLES_MAX {
            cases.examples.push(case.to_string());
        }
    }

    /// A fault unless `holds`.
    pub(super) fn demand(&mut self, holds: bool, kind: &'static str, case: impl fmt::Display) {
        if !holds {
            self.fault(kind, case);
        }
    }

    pub(super) fn absorb(&mut self, other: Verdict) {
        self.facts.extend(other.facts);
        for (what, count) in other.counts {
            self.count(what, count);
        }
        for (kind, cases) in other.faults {
            let mine = self.faults.entry(kind).or_default();
            mine.count += cases.count;
            let room = EXAMPLES_MAX.saturating_sub(mine.examples.len());
            mine.examples.extend(cases.examples.into_iter().take(room));
        }
    }

    /// Without what nobody promised.
    pub(super) fn forgive(&mut self, kinds: &[&str]) {
        self.faults.retain(|kind, _cases| !kinds.contains(kind));
    }

    /// Its faults alone.
    pub(super) fn without_facts(self) -> Verdict {
        Verdict { faults: self.faults, ..Verdict::default() }
    }

    /// How often each promise was broken.
    pub(super) fn broken(&self) -> BTreeMap<&'static str, u64> {
        self.faults.iter().map(|(kind, cases)| (*kind, cases.count)).collect()
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(what, count)| (*what, *count))
    }

    pub(super) fn facts(&self) -> &[String] {
        &self.facts
    }

    /// Cases described at length, of all kinds.
    pub(super) fn examples(&self) -> impl Iterator<Item = &str> {
        self.faults.values().flat_map(|cases| &cases.examples).map(String::as_str)
    }

    pub(super) fn passed(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.counts().map(|(what, count)| format!("{count} {what}")).collect();
        if !counts.is_empty() {
            writeln!(f, "  {}", counts.join(", "))?;
        }
        for fact in &self.facts {
            writeln!(f, "  {fact}")?;
        }
        for (kind, cases) in &self.faults {
            writeln!(f, "  {} × {kind}", cases.count)?;
            for example in &cases.examples {
                writeln!(f, "    {example}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_fails_and_many_are_counted() {
        let mut verdict = Verdict::default();
        verdict.fact("1 kill");
        verdict.count("starts", 2);
        verdict.count("starts", 3);
        verdict.demand(true, "lost", "nothing");
        assert!(verdict.passed());
        let mut other = Verdict::default();
        for id in 0..100 {
            other.fault("lost", id);
        }
        verdict.absorb(other);
        assert!(!verdict.passed());
        let text = verdict.to_string();
        assert!(
            text.contains("  5 starts\n  1 kill") && text.contains("100 × lost") && text.contains("    3"),
            "{text}"
        );
        assert!(!text.contains("    4"), "{text}");
    }
}
