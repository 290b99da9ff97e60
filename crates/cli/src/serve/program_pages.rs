//! Gives back the pages of the program that only its start has needed.
//!
//! Reading flags, settings and certificates and opening the data directory touch most of the code once, and the kernel maps what lies
//! around what is touched: 12 MiB of 14 that an idle broker seems to use are that. Unmapped they stay in the page cache as long
//! as there is room, and the kernel takes them first when there is none; what is needed again is mapped again without reading.

use std::ffi::c_void;

use rustix::mm::{Advice, madvise};

/// Unmaps all code of the program and of its libraries; for when the start is over. Where the kernel does not want to, nothing
/// changes but a number.
pub(super) fn give_back() {
    match std::fs::read_to_string("/proc/self/maps") {
        Ok(maps) => maps.lines().filter_map(code).for_each(unmap),
        Err(error) => tracing::debug!(%error, "the pages of the start are kept"),
    }
}

/// Where a line of `/proc/self/maps` (proc_pid_maps(5)) tells of code that was read from a file: the address and the length.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let (permissions, file) = (fields.next()?, fields.nth(3)?);
    if permissions != "r-xp" || !file.starts_with('/') {
        return None;
    }
    let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
    Some((from, to.checked_sub(from)?))
}

#[allow(unsafe_code)]
fn unmap((from, length): (usize, usize)) {
    // SAFETY: the pages are of a file and cannot be written (`r-xp`), so each of them is the same when it is mapped again.
    let unmapped = unsafe { madvise(from as *mut c_void, length, Advice::LinuxDontNeed) };
    if let Err(error) = unmapped {
        tracing::debug!(%error, "the pages of the start are kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files_is_given_back() {
        let check = |line: &str, expected: Option<(usize, usize)>| assert_eq!(code(line), expected, "{line}");
        check("1000-3000 r-xp 00000000 08:02 135522    /usr/bin/leveret", Some((0x1000, 0x2000)));
        check("1000-3000 r--p 00000000 08:02 135522    /usr/bin/leveret", None);
        check("1000-3000 rw-p 00000000 08:02 135522    /usr/bin/leveret", None);
        check("1000-3000 rwxp 00000000 08:02 135522    /usr/bin/leveret", None);
        check("7ffe0-7fff0 r-xp 00000000 00:00 0       [vdso]", None);
        check("7ffe0-7fff0 r-xp 00000000 00:00 0", None);
        check("3000-1000 r-xp 00000000 08:02 1 /x", None);
        check("", None);
    }

    #[test]
    fn the_program_works_on() {
        give_back();
        assert!(std::fs::read_to_string("/proc/self/maps").unwrap().lines().any(|line| code(line).is_some()));
    }
}
