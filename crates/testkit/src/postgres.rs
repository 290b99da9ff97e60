//! A private PostgreSQL server for tests: started by `interop/postgres.sh` (which installs Debian's package where it is
//! missing), stopped by its pid when dropped.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rabbitmq::{free_port, new_dir, succeed};

/// A running server. Dropping it stops the server and removes its files.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    dir: PathBuf,
}

impl Postgres {
    /// Starts a server on a free port, in about a second, and waits until it serves.
    ///
    /// # Errors
    /// PostgreSQL can neither be found nor installed, or does not come up in 30 s.
    pub fn start() -> io::Result<Postgres> {
        let server = Postgres { port: free_port()?, dir: new_dir()? };
        server.run(&["start", &server.port.to_string()])?;
        Ok(server)
    }

    /// Where it serves: a superuser without a password.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Kills it (SIGKILL) with everything it runs.
    ///
    /// # Errors
    /// The script cannot be run.
    pub fn kill(&self) -> io::Result<()> {
        self.run(&["kill"])
    }

    /// Starts it again after [`Self::kill`], with its data, at the same URL.
    ///
    /// # Errors
    /// It runs, its port was taken, or it does not come up in 30 s.
    pub fn restart(&self) -> io::Result<()> {
        self.run(&["start", &self.port.to_string()])
    }

    fn run(&self, args: &[&str]) -> io::Result<()> {
        succeed(Command::new(script_path()).args(args).arg(&self.dir).output()?).map(drop)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _a_test_cannot_repair_it = self.run(&["stop"]);
        let _leftovers_are_harmless = std::fs::remove_dir_all(&self.dir);
    }
}

fn script_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/postgres.sh")
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    #[ignore = "starts PostgreSQL, 2 s: cargo test -p leveret-testkit postgres -- --ignored"]
    fn a_server_comes_and_goes_with_its_value() {
        let server = Postgres::start().unwrap();
        let serves = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(serves(server.port));
        server.kill().unwrap();
        assert!(!serves(server.port));
        server.restart().unwrap();
        assert!(serves(server.port) && server.restart().is_err());
        let (port, dir) = (server.port, server.dir.clone());
        drop(server);
        assert!(!serves(port) && !dir.exists());
    }
}
