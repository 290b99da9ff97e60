//! How long functions and files may be, and the ratchet: a checked-in list of what was longer when the rule came.
//! An entry may only shrink, and it goes when what it names has become short enough.

use super::{File, Problem, RATCHET_FILE};
use std::collections::BTreeMap;

const FUNCTION_LINES_MAX: usize = 70;
/// Counted without the unit tests at the end.
const FILE_LINES_MAX: usize = 600;

/// Lines of each exception, by `function path::name` or `file path`.
type Ratchet = BTreeMap<String, usize>;

pub(super) fn check(files: &[File], ratchet: &str) -> Vec<Problem> {
    let (ratchet, mut problems) = parse(ratchet);
    let mut unused = ratchet.clone();
    for (measure, line, path) in files.iter().flat_map(measures) {
        unused.remove(&measure.key);
        if let Some(text) = judge(&measure, ratchet.get(&measure.key).copied()) {
            problems.push(Problem::new(&path, line, text));
        }
    }
    problems.extend(unused.keys().map(|key| {
        Problem::new(RATCHET_FILE, 0, format!("`{key}` does not exist any more: remove the entry"))
    }));
    problems
}

struct Measure {
    key: String,
    lines: usize,
    lines_max: usize,
}

fn measures(file: &File) -> Vec<(Measure, usize, String)> {
    let path = file.path.as_str();
    if file.source.is_generated() {
        return Vec::new();
    }
    let whole =
        Measure { key: format!("file {path}"), lines: lines_before_tests(file), lines_max: FILE_LINES_MAX };
    let functions = longest_of_each_name(file).into_iter().map(|(name, (line, lines))| {
        let key = format!("function {path}::{name}");
        (Measure { key, lines, lines_max: FUNCTION_LINES_MAX }, line, path.to_owned())
    });
    functions.chain([(whole, 1, path.to_owned())]).collect()
}

/// Several types of a file may have a `new`: the ratchet names the longest.
fn longest_of_each_name(file: &File) -> BTreeMap<String, (usize, usize)> {
    let mut longest = BTreeMap::new();
    for function in file.source.functions() {
        let entry = longest.entry(function.name).or_insert((function.line, function.lines));
        if function.lines > entry.1 {
            *entry = (function.line, function.lines);
        }
    }
    longest
}

fn lines_before_tests(file: &File) -> usize {
    let all = file.source.text.lines().count();
    let tests = file.source.test_modules();
    tests.first().map_or(all, |tests| file.source.line_of(tests.start) - 1)
}

fn judge(measure: &Measure, allowed: Option<usize>) -> Option<String> {
    let Measure { key, lines, lines_max } = measure;
    match allowed {
        None if lines > lines_max => Some(format!("`{key}` has {lines} lines, the limit is {lines_max}")),
        None => None,
        Some(_) if lines <= lines_max => {
            Some(format!("`{key}` keeps the limit now: remove it from {RATCHET_FILE}"))
        }
        Some(allowed) if *lines > allowed => {
            Some(format!("`{key}` has grown from {allowed} to {lines} lines; it may only shrink"))
        }
        Some(allowed) if *lines < allowed => {
            Some(format!("`{key}` has shrunk to {lines} lines: write that in {RATCHET_FILE}"))
        }
        Some(_) => None,
    }
}

fn parse(text: &str) -> (Ratchet, Vec<Problem>) {
    let mut ratchet = Ratchet::new();
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match line.rsplit_once(' ').map(|(key, lines)| (key, lines.parse())) {
            Some((key, Ok(lines))) => drop(ratchet.insert(key.to_owned(), lines)),
            _ => {
                problems.push(Problem::new(RATCHET_FILE, index + 1, "expected `KIND NAME LINES`".to_owned()))
            }
        }
    }
    (ratchet, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(text: &str, ratchet: &str) -> Vec<String> {
        let files = [File::new("a.rs", text.to_owned())];
        check(&files, ratchet).into_iter().map(|problem| problem.text).collect()
    }

    #[test]
    fn the_ratchet_only_turns_one_way() {
        let long = format!("fn f() {{\n{}}}\n", "x();\n".repeat(80));
        let short = "fn f() {}\n";
        let cases = [
            (&*long, "", "has 82 lines, the limit is 70"),
            (&*long, "function a.rs::f 82", ""),
            (&*long, "function a.rs::f 81", "has grown from 81 to 82"),
            (&*long, "function a.rs::f 83", "has shrunk to 82"),
            (short, "function a.rs::f 82", "remove it"),
            (short, "function a.rs::g 82", "does not exist any more"),
            (short, "nonsense", "expected `KIND NAME LINES`"),
            (short, "# a comment\n", ""),
        ];
        for (text, ratchet, expected) in cases {
            let found = check_one(text, ratchet).join("\n");
            assert_eq!(found.is_empty(), expected.is_empty(), "{ratchet}: {found}");
            assert!(found.contains(expected), "{ratchet}: {found}");
        }
    }

    #[test]
    fn unit_tests_do_not_count() {
        let code = "const X: u8 = 1;\n".repeat(FILE_LINES_MAX);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "const Y: u8 = 1;\n".repeat(100));
        assert_eq!(check_one(&format!("{code}{tests}"), ""), Vec::<String>::new());
        assert_eq!(check_one(&format!("{code}\n{tests}"), "").len(), 1);
    }
}
