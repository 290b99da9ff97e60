//! Which files a process touches, told by `strace`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What a program reads of the system: libraries, certificates, what the kernel tells.
const SYSTEM: [&str; 8] =
    ["/etc/", "/lib/", "/lib64/", "/usr/", "/proc/", "/sys/", "/dev/urandom", "/dev/null"];
const CALLS: &str = "open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink";

/// A program that starts another one under `strace` and has its process id. Without what Cargo tells the dynamic loader to
/// search: that would be a stranger's folder.
pub(super) fn wrapper(binary: &Path, folder: &Path) -> Result<PathBuf> {
    let (script, log) = (folder.join("traced"), log(folder));
    let text = format!(
        "#!/bin/sh\nunset LD_LIBRARY_PATH\nexec strace -D -f -qq -s 4096 -o '{}' -e trace={CALLS} '{}' \"$@\"\n",
        log.display(),
        binary.display()
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    Ok(script)
}

fn log(folder: &Path) -> PathBuf {
    folder.join("strace.log")
}

/// How many calls there were, and those that touch what is none of a broker's business.
///
/// # Errors
/// There is no trace.
pub(super) fn strangers(folder: &Path, data_dir: &Path) -> Result<(usize, Vec<String>)> {
    let log = std::fs::read_to_string(log(folder)).context("no trace: strace (apt: strace)")?;
    let calls: Vec<&str> = log.lines().filter(|line| line.contains('"')).collect();
    let own = |path: &str| is_own(path, folder, data_dir);
    let strange = calls.iter().filter(|call| !paths(call).all(|path| own(path) || is_read(call, path)));
    Ok((calls.len(), strange.map(|call| (*call).to_owned()).collect()))
}

/// What is between quotes.
fn paths(call: &str) -> impl Iterator<Item = &str> {
    call.split('"').skip(1).step_by(2)
}

/// In the data directory, under a name that nobody but the broker has made; or a certificate it was given.
fn is_own(path: &str, folder: &Path, data_dir: &Path) -> bool {
    let path = Path::new(path);
    let given = ["chain.pem", "key.pem"].iter().any(|name| path == folder.join(name));
    let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let below = path.strip_prefix(data_dir).ok().and_then(Path::to_str);
    given || below.is_some_and(|name| plain(name) && !name.contains(".."))
}

fn is_read(call: &str, path: &str) -> bool {
    let reads = call.contains("O_RDONLY") && !call.contains("O_CREAT");
    reads && SYSTEM.iter().any(|prefix| path.starts_with(prefix)) && !path.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_found() {
        let folder = std::env::temp_dir().join(format!("leveret-trace-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let check = |call: &str, strange: bool| {
            std::fs::write(log(&folder), call).unwrap();
            let (calls, found) = strangers(&folder, Path::new("/data")).unwrap();
            assert_eq!((calls, found.len()), (1, usize::from(strange)), "{call}");
        };
        check("7 openat(AT_FDCWD, \"/data/q/01/7.seg\", O_RDWR|O_CREAT, 0666) = 5", false);
        check("7 openat(AT_FDCWD, \"/usr/lib/libc.so.6\", O_RDONLY|O_CLOEXEC) = 3", false);
        check("7 openat(AT_FDCWD, \"/etc/passwd\", O_RDWR) = 3", true);
        check("7 openat(AT_FDCWD, \"/data/../etc/passwd\", O_RDONLY) = 3", true);
        check("7 openat(AT_FDCWD, \"/data/my queue\", O_RDWR) = 3", true);
        check("7 rename(\"/data/a.tmp\", \"/tmp/a\") = 0", true);
        check("7 mkdir(\"nowhere\", 0777) = 0", true);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
