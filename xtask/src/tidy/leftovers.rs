//! What was meant for one afternoon or one machine only: markers of unfinished work, absolute paths, build output.

use super::source::words;
use super::{File, Problem};
use std::path::Path;

const UNFINISHED_MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];
const UNFINISHED_WORDS: [&str; 2] = [concat!("FIX", "ME"), concat!("TO", "DO")];

/// Where people and build machines keep their checkouts; a program that names one runs nowhere else.
const MACHINE_FOLDERS: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

const BUILD_FOLDERS: [&str; 4] = ["target", "node_modules", "__pycache__", ".gradle"];
const BUILD_SUFFIXES: [&str; 8] = [".o", ".so", ".a", ".rlib", ".class", ".jar", ".pyc", ".exe"];
const EXECUTABLE_MAGIC: &[u8] = b"\x7fELF";
const TRACKED_FILE_BYTES_MAX: usize = 1 << 20;

pub(super) fn check_source(file: &File) -> Vec<Problem> {
    let source = &file.source;
    let mut found = Vec::new();
    for name in UNFINISHED_MACROS {
        let calls = words(&source.code, name).filter(|at| source.code[at + name.len()..].starts_with('!'));
        found.extend(calls.map(|at| (at, format!("`{name}!` is unfinished work"))));
    }
    for comment in &source.comments {
        let text = &source.text[comment.start..comment.end];
        for word in UNFINISHED_WORDS.into_iter().filter(|word| words(text, word).next().is_some()) {
            found.push((comment.start, format!("`{word}`: do it, or write down why not")));
        }
    }
    for at in words(&source.code, "allow").filter(|at| source.code[at + 5..].starts_with("(dead_code")) {
        found.push((at, "dead code is removed, not allowed".to_owned()));
    }
    found.into_iter().map(|(at, text)| Problem::new(&file.path, source.line_of(at), text)).collect()
}

/// For every file that is tracked or would be, whatever its language.
pub(super) fn check_any(path: &str, bytes: &[u8]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(what) = build_output(path, bytes) {
        problems.push(Problem::new(path, 0, what));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return problems };
    for (index, line) in text.lines().enumerate() {
        if let Some(folder) = MACHINE_FOLDERS.into_iter().find(|folder| names_folder(line, folder)) {
            let what = format!("an absolute path below `{folder}` exists on one machine only");
            problems.push(Problem::new(path, index + 1, what));
        }
    }
    problems
}

fn build_output(path: &str, bytes: &[u8]) -> Option<String> {
    let in_build_folder = path.split('/').any(|segment| BUILD_FOLDERS.contains(&segment));
    let name = Path::new(path).file_name()?.to_string_lossy();
    let has_build_suffix = BUILD_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    if in_build_folder || has_build_suffix || bytes.starts_with(EXECUTABLE_MAGIC) {
        return Some("build output is not tracked".to_owned());
    }
    (bytes.len() > TRACKED_FILE_BYTES_MAX)
        .then(|| format!("{} bytes; a tracked file has at most {TRACKED_FILE_BYTES_MAX}", bytes.len()))
}

/// The folder at the start of a path, not in the middle of one or of an address.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].bytes().next_back();
        before.is_none_or(|b| !(b.is_ascii_alphanumeric() || b"._-/}*$".contains(&b)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_is_found_in_code_and_comments_only() {
        let cases = [
            ("fn f() { todo!() }", 1),
            ("fn f() { dbg!(x); unimplemented!() }", 2),
            ("let s = \"todo!()\";", 0),
            (concat!("// FIX", "ME later"), 1),
            (concat!("let s = \"FIX", "ME\"; // fine"), 0),
            ("#[allow(dead_code)]\nfn f() {}", 1),
        ];
        for (text, expected) in cases {
            assert_eq!(check_source(&File::new("a.rs", text.to_owned())).len(), expected, "{text}");
        }
    }

    #[test]
    fn what_belongs_to_one_machine_is_found() {
        let home = concat!("/ho", "me/");
        let cases = [
            ("a.md", format!("see {home}someone/x"), 1),
            ("a.md", format!("http://host{home}x and ./x{home}"), 0),
            ("a/target/x.txt", String::new(), 1),
            ("a/X.class", String::new(), 1),
            ("a/target.rs", String::new(), 0),
        ];
        for (path, text, expected) in cases {
            assert_eq!(check_any(path, text.as_bytes()).len(), expected, "{path}: {text}");
        }
        assert_eq!(check_any("tool", b"\x7fELF\x02\xff").len(), 1);
    }
}
