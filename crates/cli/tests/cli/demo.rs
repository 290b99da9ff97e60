use crate::program::{leveret, run};

#[test]
fn the_stories_hold() {
    let ended = run(leveret(&["demo"]), b"");
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.code, Some(0), "{said}{}", ended.stderr);
    for title in ["1. ", "2. ", "3. ", "4. ", "5. ", "All "] {
        assert!(said.lines().any(|line| line.starts_with(title)), "{title}: {said}");
    }
    assert!(!said.contains('✗') && ended.stderr.is_empty(), "{said}{}", ended.stderr);
}

#[test]
fn what_exists_is_listed() {
    let help = String::from_utf8(run(leveret(&["--help"]), b"").stdout).unwrap();
    let listed: Vec<_> = help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    for command in [
        "serve", "demo", "publish", "get", "tail", "call", "services", "work", "gateway", "ctl", "top",
        "bench",
    ] {
        assert!(listed.contains(&command), "{command}: {help}");
    }
}
