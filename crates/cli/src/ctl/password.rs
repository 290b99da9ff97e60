//! Where a password comes from: the terminal, a pipe or a file; the command line, which others can see, only if it is
//! asked for.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use leveret_wire::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::Failure;

/// How a password is given. Without a flag it is asked for on a terminal, twice, or is the first line of stdin.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(super) struct PasswordFlags {
    /// Read the password from the first line of a file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The password itself; other users of this machine may see it
    #[arg(long, value_name = "PASSWORD")]
    password: Option<String>,
    /// No password: the user cannot log in with one
    #[arg(long)]
    no_password: bool,
}

impl PasswordFlags {
    /// The password; `None` for none at all.
    ///
    /// # Errors
    /// It cannot be read, is empty, or was not repeated.
    pub(super) fn read(self, user: &str) -> Result<Option<Secret>, Failure> {
        let text = match (self.no_password, self.password, self.password_file) {
            (true, ..) => return Ok(None),
            (_, Some(password), _) => password,
            (.., Some(path)) => first_line_of_file(&path)?,
            _ if io::stdin().is_terminal() => ask_twice(user)?,
            _ => first_line(&mut io::stdin().lock())?,
        };
        if text.is_empty() {
            return Err(Failure::Usage("the password is empty".to_owned()));
        }
        Ok(Some(Secret::from(text)))
    }
}

fn first_line_of_file(path: &Path) -> Result<String, Failure> {
    let unreadable = |error| Failure::Usage(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    first_line(&mut io::BufReader::new(file)).map_err(unreadable)
}

fn first_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

fn ask_twice(user: &str) -> Result<String, Failure> {
    let silence = Silence::start()?;
    let ask = |prompt: &str| -> io::Result<String> {
        let mut stderr = io::stderr();
        write!(stderr, "{prompt}: ")?;
        stderr.flush()?;
        let line = first_line(&mut io::stdin().lock());
        writeln!(stderr)?;
        line
    };
    let password = ask(&format!("Password of {user}"))?;
    let again = ask("Again")?;
    drop(silence);
    if password == again { Ok(password) } else { Err(Failure::Usage("the two are not the same".to_owned())) }
}

/// A terminal that does not show what is typed, for as long as this lives.
struct Silence(Termios);

impl Silence {
    fn start() -> io::Result<Silence> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // Nothing better is left to do for a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line() {
        let check =
            |text: &str, expected: &str| assert_eq!(first_line(&mut text.as_bytes()).unwrap(), expected);
        check("secret\n", "secret");
        check("secret", "secret");
        check("with space \r\nmore\n", "with space ");
        check("", "");
    }
}
