//! Gives back the pages of the program that only its start has needed.
//!
//! Reading flags, settings and certificates and opening the data directory touch most of the code and its constants once,
//! and the kernel maps what lies around what is touched: 12 MiB of 14 that an idle broker seems to use are that. Unmapped they
//! stay in the page cache as long as there is room, and the kernel takes them first when there is none; what is needed again
//! is mapped again without reading.

use std::ffi::c_void;
use std::time::Duration;

use rustix::mm::{Advice, madvise};

/// The clients that waited for the broker have logged in by then.
const START: Duration = Duration::from_secs(2);

/// Unmaps all code and constants of the program and of its libraries when the start is over. Where the kernel does not
/// want to, nothing changes but a number.
pub(super) async fn give_back_after_start() {
    tokio::time::sleep(START).await;
    give_back();
}

fn give_back() {
    match std::fs::read_to_string("/proc/self/smaps") {
        Ok(mappings) => unchanged(&mappings).into_iter().for_each(unmap),
        Err(error) => tracing::debug!(%error, "the pages of the start are kept"),
    }
}

/// The mappings of `/proc/self/smaps` (proc_pid_smaps(5)) that are as they were read from a file: address and length.
fn unchanged(mappings: &str) -> Vec<(usize, usize)> {
    let (mut unchanged, mut last) = (Vec::new(), None);
    for line in mappings.lines() {
        match line.split_once(':') {
            // What the loader has filled in is of the process alone.
            Some(("Anonymous" | "Swap", size)) if size.trim() != "0 kB" => last = None,
            Some(("VmFlags", _)) => unchanged.extend(last.take()),
            _ => last = from_file(line).or(last),
        }
    }
    unchanged
}

/// Where the first line of a mapping tells of what was read from a file and cannot be written.
fn from_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let (permissions, file) = (fields.next()?, fields.nth(3)?);
    if !["r-xp", "r--p"].contains(&permissions) || !file.starts_with('/') {
        return None;
    }
    let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
    Some((from, to.checked_sub(from)?))
}

#[allow(unsafe_code)]
fn unmap((from, length): (usize, usize)) {
    // SAFETY: the pages are of a file, unchanged (`Anonymous: 0 kB`), and cannot be written (`r-xp`, `r--p`), so each of them is
    // the same when it is mapped again.
    let unmapped = unsafe { madvise(from as *mut c_void, length, Advice::LinuxDontNeed) };
    if let Err(error) = unmapped {
        tracing::debug!(%error, "the pages of the start are kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_is_given_back() {
        let check = |first: &str, anonymous: &str, expected: &[(usize, usize)]| {
            let mapping = format!(
                "{first}\nSize: 8 kB\nAnonymous: {anonymous}\nSwap:      0 kB\nVmFlags: rd ex\n7000-8000 rw-p 00000000 00:00 0\n"
            );
            assert_eq!(unchanged(&mapping), expected, "{mapping}");
        };
        check("1000-3000 r-xp 00000000 08:02 135522    /usr/bin/leveret", "0 kB", &[(0x1000, 0x2000)]);
        check("1000-3000 r--p 00000000 08:02 135522    /usr/bin/leveret", "0 kB", &[(0x1000, 0x2000)]);
        check("1000-3000 r--p 00000000 08:02 135522    /usr/bin/leveret", "4 kB", &[]);
        check("1000-3000 rw-p 00000000 08:02 135522    /usr/bin/leveret", "0 kB", &[]);
        check("1000-3000 rwxp 00000000 08:02 135522    /usr/bin/leveret", "0 kB", &[]);
        check("7ffe0-7fff0 r-xp 00000000 00:00 0       [vdso]", "0 kB", &[]);
        check("7ffe0-7fff0 r-xp 00000000 00:00 0", "0 kB", &[]);
        check("3000-1000 r-xp 00000000 08:02 1 /x", "0 kB", &[]);
        check("", "0 kB", &[]);
    }

    #[test]
    fn the_program_works_on() {
        give_back();
        assert!(!unchanged(&std::fs::read_to_string("/proc/self/smaps").unwrap()).is_empty());
    }
}
