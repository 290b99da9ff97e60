//! A client of the toolkit, for the commands that call and serve.

use leveret::{CallError, Client};

use crate::failure::Failure;

/// Which broker to talk to.
#[derive(clap::Args)]
pub(crate) struct BrokerUrl {
    /// The broker: amqp(s)://USER:PASSWORD@HOST:PORT/VHOST, several of them with commas between, or `embedded:` for
    /// one inside, in memory
    #[arg(
        long,
        value_name = "URL",
        env = "LEVERET_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    pub(crate) url: String,
}

impl BrokerUrl {
    /// Connects. `name` is what the broker's operator sees.
    ///
    /// # Errors
    /// [`Failure::Usage`] for what is no address, else [`Failure::Connection`]; never with the password in it.
    pub(crate) async fn connect(&self, name: &str) -> Result<Client, Failure> {
        Client::builder().app_id(name).connect(&self.url).await.map_err(Failure::from)
    }
}

/// The exit code of a call that has no answer is part of its contract.
impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::NoRoute { .. } | CallError::NoWorker { .. } => Self::NoRoute(text),
            CallError::Expired { .. } => Self::Expired(text),
            CallError::Busy { .. } | CallError::Overloaded { .. } | CallError::Rejected { .. } => {
                Self::Refused(text)
            }
            CallError::ConnectionLost { .. } | CallError::Cancelled => Self::Connection(text),
            CallError::Unsendable(_) => Self::Usage(text),
            error => Self::Other(error.into()),
        }
    }
}

/// More than a year. A time that clocks cannot add to now is not one to wait for.
const DURATION_MAX: std::time::Duration = std::time::Duration::from_secs(10_000 * 3_600);

/// `500ms`, `5s`, `2m`, or a number of seconds; at most 10,000 h.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| "a time like 500ms, 5s or 2m".to_owned())?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1_000.0,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3_600.0,
        unit => return Err(format!("`{unit}` is no unit of time; there are ms, s, m and h")),
    };
    let time = std::time::Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= DURATION_MAX);
    time.ok_or_else(|| "a time from 0 to 10000h".to_owned())
}

/// `512`, `64KiB`, `16MiB` or `1GiB`: a number of octets.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        unit => return Err(format!("`{unit}` is no unit of size; there are KiB, MiB and GiB")),
    };
    let number: Option<usize> = digits.parse().ok();
    let size = number.and_then(|number| number.checked_mul(1 << shift));
    size.ok_or_else(|| "a size like 512, 64KiB or 16MiB".to_owned())
}

/// `NAME=VALUE`
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE, with an `=` between")?;
    if name.is_empty() || name.len() > 255 {
        return Err("a name has from 1 to 255 octets".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_have_units() {
        let check = |text, expected: Option<u64>| {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        };
        check("500ms", Some(500));
        check("5s", Some(5_000));
        check("1.5", Some(1_500));
        check("2m", Some(120_000));
        check("1h", Some(3_600_000));
        check("5 parsecs", None);
        check("soon", None);
        check("-1s", None);
        check("1e300h", None);
        check("10000h", Some(36_000_000_000));
        check("10001h", None);
    }

    #[test]
    fn sizes_have_units() {
        let check = |text, expected: Option<usize>| assert_eq!(size(text).ok(), expected, "{text}");
        check("0", Some(0));
        check("512", Some(512));
        check("64KiB", Some(65_536));
        check("16MiB", Some(16 << 20));
        check("1GiB", Some(1 << 30));
        check("16MB", None);
        check("-1", None);
        check("MiB", None);
        check("18446744073709551615KiB", None);
    }
}
