//! The flags and variables that say which management API to ask.

use std::time::Duration;

use super::{Management, ManagementAddress, ManagementError};
use crate::toolkit::duration;

/// Where a broker that was started without a word has its API.
const DEFAULT: &str = "http://guest:guest@127.0.0.1:15672";

/// Which management API to ask.
#[derive(clap::Args, Clone)]
pub(crate) struct ManagementFlags {
    /// The management API: http(s)://USER:PASSWORD@HOST:PORT. Default: beside --url, or else
    /// http://guest:guest@127.0.0.1:15672
    #[arg(long, global = true, value_name = "URL", env = "LEVERET_MANAGEMENT_URL", hide_env_values = true)]
    management: Option<String>,
    /// The broker, to find its management API on port 15672 of the same host (15671 for amqps)
    #[arg(long, global = true, value_name = "URL", env = "LEVERET_URL", hide_env_values = true)]
    url: Option<String>,
    /// How long to wait for an answer
    #[arg(long, global = true, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,
}

impl ManagementFlags {
    /// A client; it connects with its first request.
    ///
    /// # Errors
    /// [`ManagementError::Address`].
    pub(crate) fn client(&self) -> Result<Management, ManagementError> {
        let address = match (&self.management, &self.url) {
            (Some(text), _) => ManagementAddress::parse(text)?,
            (None, Some(url)) if url == "embedded:" => {
                let what = "a broker inside has no management API; --management says where there is one";
                return Err(ManagementError::Address(what.to_owned()));
            }
            (None, Some(url)) => ManagementAddress::beside(url)?,
            (None, None) => ManagementAddress::parse(DEFAULT)?,
        };
        Management::new(address, self.timeout)
    }
}
