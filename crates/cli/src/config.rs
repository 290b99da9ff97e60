//! The settings of `leveret serve`: built-in defaults, one TOML file, `LEVERET_*` variables, flags; later wins.
//!
//! Every source is first turned into [`Given`]s, texts with an origin, so that one table ([`keys`]) decides
//! about all of them and every error can say where the value stands. Nothing is silently ignored: a misspelt key
//! is an error, for a limit that does not apply is worse than a broker that does not start.

mod error;
mod keys;
mod sources;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub(crate) use error::ConfigError;
use keys::KEYS;
pub(crate) use keys::Key;
use leveret_server::ClientTrust;

use crate::logging::{Levels, LogFormat};
pub(crate) use sources::{Given, Origin, from_environment, from_file, from_set_flag};

/// Everything that can be set about `leveret serve`.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where the data is.
    pub(crate) data_dir: PathBuf,
    /// Where the HTTP API is in the clear.
    pub(crate) http: Vec<SocketAddr>,
    /// Where it is over TLS.
    pub(crate) http_tls: Vec<SocketAddr>,
    /// Where metrics are served to whoever asks.
    pub(crate) metrics: Vec<SocketAddr>,
    /// Whether the HTTP API hands out metrics without a login, too.
    pub(crate) metrics_anonymous: bool,
    /// What is logged.
    pub(crate) log: Levels,
    /// How it looks.
    pub(crate) log_format: LogFormat,
    /// A definitions file that is put in force at the start.
    pub(crate) load_definitions: Option<PathBuf>,
    /// The first user's name.
    pub(crate) default_user: Option<String>,
    /// The file with that user's password.
    pub(crate) default_pass_file: Option<PathBuf>,
    /// PEM file with the certificate chain for TLS.
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM file with its private key.
    pub(crate) tls_key: Option<PathBuf>,
    /// PEM file with those who may issue clients' certificates.
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Whether clients are asked for one.
    pub(crate) tls_client_certificates: ClientCertificates,
    /// The broker's own; `tls` in it is not set from here.
    pub(crate) broker: leveret_server::Config,
}

/// Who can log in to a new broker instead of `guest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FirstUser {
    /// The user's name.
    pub(crate) name: String,
    /// The file with the password.
    pub(crate) pass_file: PathBuf,
}

/// The two files of a TLS listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// PEM file with the certificate chain.
    pub(crate) chain: PathBuf,
    /// PEM file with its private key.
    pub(crate) key: PathBuf,
    /// Whose certificates clients may show, if they are asked for one.
    pub(crate) clients: Option<ClientTrust>,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ClientCertificates {
    /// They are not.
    #[default]
    None,
    /// They may show one.
    Wanted,
    /// They have to.
    Required,
}

impl ClientCertificates {
    /// As it is written; an unknown name is none.
    fn named(name: &str) -> Self {
        match name {
            "wanted" => Self::Wanted,
            "required" => Self::Required,
            _ => Self::None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Wanted => "wanted",
            Self::Required => "required",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("leveret-data"),
            http: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 15672))],
            http_tls: Vec::new(),
            metrics: Vec::new(),
            metrics_anonymous: false,
            log: Levels::default(),
            log_format: LogFormat::default(),
            load_definitions: None,
            default_user: None,
            default_pass_file: None,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            tls_client_certificates: ClientCertificates::None,
            broker: leveret_server::Config::default(),
        }
    }
}

impl Settings {
    /// The defaults with everything that was given laid over them, in this order.
    ///
    /// # Errors
    /// The first key or value that cannot be used.
    pub(crate) fn overlay(given: impl IntoIterator<Item = Given>) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        for one in given {
            let Some(key) = KEYS.iter().find(|key| key.name == one.key) else {
                return Err(ConfigError::UnknownKey { origin: one.origin, key: one.key });
            };
            if key.apply(&mut settings, &one.texts).is_none() {
                let (value, allowed) = (one.texts.join(", "), key.allowed());
                return Err(ConfigError::WrongValue { origin: one.origin, key: key.name, value, allowed });
            }
        }
        settings.certificate_files()?;
        settings.first_user()?;
        Ok(settings)
    }

    /// Who can log in to a new broker, if not `guest`.
    ///
    /// # Errors
    /// Only half of it was set.
    pub(crate) fn first_user(&self) -> Result<Option<FirstUser>, ConfigError> {
        match (&self.default_user, &self.default_pass_file) {
            (None, None) => Ok(None),
            (Some(name), Some(file)) => Ok(Some(FirstUser { name: name.clone(), pass_file: file.clone() })),
            (None, Some(_)) => Err(ConfigError::HalfOfFirstUser { missing: "default_user" }),
            (Some(_), None) => Err(ConfigError::HalfOfFirstUser { missing: "default_pass_file" }),
        }
    }

    /// The files of the TLS listeners, if there are any.
    ///
    /// # Errors
    /// Only half of what TLS needs was set.
    pub(crate) fn certificate_files(&self) -> Result<Option<CertificateFiles>, ConfigError> {
        let clients = self.client_trust()?;
        let nowhere = self.broker.listen_tls.is_empty() && self.http_tls.is_empty();
        match (&self.tls_cert, &self.tls_key, nowhere) {
            (None, None, true) if clients.is_none() => Ok(None),
            (Some(chain), Some(key), false) => {
                Ok(Some(CertificateFiles { chain: chain.clone(), key: key.clone(), clients }))
            }
            (None, ..) => Err(ConfigError::HalfOfTls { missing: "tls_cert" }),
            (_, None, _) => Err(ConfigError::HalfOfTls { missing: "tls_key" }),
            (Some(_), Some(_), true) => Err(ConfigError::HalfOfTls { missing: "listen_tls or http_tls" }),
        }
    }

    fn client_trust(&self) -> Result<Option<ClientTrust>, ConfigError> {
        match (self.tls_client_certificates, &self.tls_client_ca) {
            (ClientCertificates::None, None) => Ok(None),
            (ClientCertificates::None, Some(_)) => {
                Err(ConfigError::HalfOfTls { missing: "tls_client_certificates" })
            }
            (_, None) => Err(ConfigError::HalfOfTls { missing: "tls_client_ca" }),
            (asked, Some(authorities)) => Ok(Some(ClientTrust {
                authorities: authorities.clone(),
                required: asked == ClientCertificates::Required,
            })),
        }
    }

    /// The keys whose values differ from `other`'s.
    pub(crate) fn differences(&self, other: &Self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(|key| (key.show)(self) != (key.show)(other))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Lays a file, variables and `--set` flags over each other, and shows one key or the error.
    fn check(toml: &str, variables: &[(&str, &str)], flags: &[&str], key: &str, expected: &str) {
        let outcome = overlay(toml, variables, flags).map(|settings| {
            let key = KEYS.iter().find(|candidate| candidate.name == key).unwrap();
            (key.show)(&settings)
        });
        let text = outcome.unwrap_or_else(|error| error.to_string());
        assert!(text.contains(expected), "{toml:?} {variables:?} {flags:?}: {text}, expected {expected}");
    }

    fn overlay(toml: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Settings, ConfigError> {
        let mut given = from_file(Path::new("a.toml"), toml)?;
        given.extend(from_environment(variables.iter().map(|(name, value)| (name.into(), value.into())))?);
        for flag in flags {
            given.push(from_set_flag(flag)?);
        }
        Settings::overlay(given)
    }

    #[test]
    fn later_sources_win() {
        let file = "heartbeat_s = 10\n";
        let variable = [("LEVERET_HEARTBEAT_S", "20")];
        check("", &[], &[], "heartbeat_s", "60");
        check(file, &[], &[], "heartbeat_s", "10");
        check(file, &variable, &[], "heartbeat_s", "20");
        check(file, &variable, &["heartbeat_s=30"], "heartbeat_s", "30");
        check("listen = ['127.0.0.1:1', '127.0.0.1:2']", &[], &[], "listen", "127.0.0.1:1, 127.0.0.1:2");
        let listen = [("LEVERET_LISTEN", "127.0.0.1:3, [::1]:4")];
        check("listen = ['127.0.0.1:1']", &listen, &[], "listen", "127.0.0.1:3, [::1]:4");
        check("listen = '127.0.0.1:1'", &[], &["listen="], "listen", "");
    }

    #[test]
    fn every_kind_of_value_is_read() {
        check("log_file_bytes = 0x400_0000", &[], &[], "log_file_bytes", "67108864");
        check("memory_share = 0.25", &[], &[], "memory_share", "0.25");
        check("memory_share = 1", &[], &[], "memory_share", "1");
        check("", &[], &[], "request_statistics", "true");
        check("request_statistics = false", &[], &[], "request_statistics", "false");
        check("message_statistics = false", &[], &[], "message_statistics", "false");
        check("", &[("LEVERET_REQUEST_STATISTICS", "off")], &[], "", "true, false");
        check("disk_free_bytes = 1_000_000", &[], &[], "disk_free_bytes", "1000000");
        check("data_dir = '/var/lib/leveret'", &[], &[], "data_dir", "/var/lib/leveret");
        check("drain_timeout_ms = 1500", &[], &[], "drain_timeout_ms", "1500");
        check("log = 'warn,leveret_server=debug'", &[], &[], "log", "warn,leveret_server=debug");
        check("log_format = 'json'", &[], &[], "log_format", "json");
        check("log_format = 'xml'", &[], &[], "", "allowed: text, json");
        check("", &[], &["listen=localhost:5672"], "listen", ":5672");
        check("http = '0.0.0.0:80'", &[], &[], "http", "0.0.0.0:80");
        check("", &[("LEVERET_METRICS", "127.0.0.1:15692")], &[], "metrics", "127.0.0.1:15692");
        check("", &[], &["metrics_anonymous=true"], "metrics_anonymous", "true");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_allowed_ones() {
        check(
            "\n\nheartbeet_s = 1",
            &[],
            &[],
            "",
            "a.toml:3: unknown key \"heartbeet_s\"; allowed: data_dir, ",
        );
        check("[broker]\nlisten = 1", &[], &[], "", "a.toml:1: unknown key \"broker\"");
        check("", &[("LEVERET_HTTPS", "x")], &[], "", "LEVERET_HTTPS: unknown key \"https\"");
        check("", &[], &["x=1"], "", "--set: unknown key \"x\"");
        check("", &[], &["heartbeat_s"], "", "--set heartbeat_s: expected KEY=VALUE");
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_allowed() {
        let seconds = "heartbeat_s cannot be \"soon\"; allowed: 0 to 65535 seconds";
        check("heartbeat_s = 'soon'", &[], &[], "", &format!("a.toml:1: {seconds}"));
        check("", &[("LEVERET_HEARTBEAT_S", "soon")], &[], "", &format!("LEVERET_HEARTBEAT_S: {seconds}"));
        check("", &[], &["heartbeat_s=soon"], "", &format!("--set: {seconds}"));
        check("heartbeat_s = -1", &[], &[], "", "cannot be \"-1\"");
        check("heartbeat_s = 65536", &[], &[], "", "cannot be \"65536\"");
        check("heartbeat_s = [1, 2]", &[], &[], "", "cannot be \"1, 2\"");
        check("heartbeat_s = {}", &[], &[], "", "a.toml:1: heartbeat_s cannot be a table");
        check("frame_max_bytes = 4095", &[], &[], "", "allowed: 4096 to 16777216 octets");
        check("memory_share = 1.5", &[], &[], "", "allowed: a share above 0, up to 1");
        check("memory_share = nan", &[], &[], "", "allowed: a share above 0, up to 1");
        check("listen = 5672", &[], &[], "", "allowed: HOST:PORT, or a list of them");
        check("http = 15672", &[], &[], "", "allowed: HOST:PORT");
        check("log = 'loud=x=y'", &[], &[], "", "allowed: error, warn, info, debug, trace, off");
        check("data_dir = ''", &[], &[], "", "allowed: a path");
    }

    #[test]
    fn a_file_that_is_no_toml_is_an_error_with_its_line() {
        check("listen = [\n'x'\n\nheartbeat_s 3", &[], &[], "", "a.toml:");
        check("log = 'a'\nlog = 'b'", &[], &[], "", "a.toml:2:");
    }

    #[test]
    fn half_of_tls_is_an_error() {
        let (cert, key, listen) = ("tls_cert=c.pem", "tls_key=k.pem", "listen_tls=127.0.0.1:5671");
        check("", &[], &[cert, key, listen], "tls_key", "k.pem");
        check("", &[], &[cert, key], "", "TLS also needs listen_tls");
        check("", &[], &[cert, key, "http_tls=127.0.0.1:15671"], "http_tls", "127.0.0.1:15671");
        check("", &[], &[cert, listen], "", "TLS also needs tls_key");
        check("", &[], &["http_tls=127.0.0.1:15671"], "", "TLS also needs tls_cert");
        check("", &[], &[listen], "", "TLS also needs tls_cert");
        let (authority, wanted) = ("tls_client_ca=a.pem", "tls_client_certificates=wanted");
        check("", &[], &[cert, key, listen, authority, wanted], "tls_client_certificates", "wanted");
        check("", &[], &[cert, key, listen, authority], "", "TLS also needs tls_client_certificates");
        check("", &[], &[cert, key, listen, wanted], "", "TLS also needs tls_client_ca");
        check("", &[], &[authority, wanted], "", "TLS also needs tls_cert");
    }

    #[test]
    fn half_of_a_first_user_is_an_error() {
        let file = ("LEVERET_DEFAULT_PASS_FILE", "/run/secrets/password");
        check("default_user = 'ann'", &[file], &[], "default_user", "ann");
        check("default_user = 'ann'", &[], &[], "", "the first user also needs default_pass_file");
        check("", &[file], &[], "", "the first user also needs default_user");
        check("default_user = 'guest'", &[file], &[], "", "allowed: a name other than guest");
        check("default_user = ''", &[file], &[], "", "allowed: a name other than guest");
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let others = [
            ("LEVERET_URL", "amqp://x"),
            ("LEVERET_CONFIG", "x"),
            ("LEVERET_PORT", "tcp://10.0.0.1:5672"),
            ("LEVERET_PORT_5672_TCP_ADDR", "10.0.0.1"),
            ("LEVERET_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "x"),
        ];
        check("", &others, &[], "heartbeat_s", "60");
    }

    #[test]
    fn differences_name_the_keys() {
        let one = Settings::default();
        let other = overlay("heartbeat_s = 1\nlog = 'debug'", &[], &[]).unwrap();
        let names: Vec<_> = one.differences(&other).map(Key::name).collect();
        assert_eq!(names, ["log", "heartbeat_s"]);
        assert_eq!(one.differences(&one).count(), 0);
    }

    #[test]
    fn the_reference_file_has_every_key_with_its_default() {
        let path = Path::new("packaging/leveret.toml");
        let text = include_str!("../../../packaging/leveret.toml");
        let is_setting = |line: &str| line.starts_with('#') && line[1..].split(' ').nth(1) == Some("=");
        let all: Vec<&str> =
            text.lines().map(|line| if is_setting(line) { &line[1..] } else { line }).collect();
        let as_it_is = Settings::overlay(from_file(path, text).unwrap()).unwrap();
        let names: Vec<_> = as_it_is.differences(&Settings::default()).map(Key::name).collect();
        assert_eq!(names, ["data_dir"], "everything else is a comment");
        let given = from_file(path, &all.join("\n")).unwrap();
        let default = Settings::default();
        let mut written = Settings::default();
        for key in KEYS {
            let one = given.iter().find(|one| one.key == key.name);
            let one = one.unwrap_or_else(|| panic!("packaging/leveret.toml does not have {}", key.name));
            key.apply(&mut written, &one.texts).unwrap_or_else(|| panic!("{one:?}"));
            let (shown, default) = ((key.show)(&written), (key.show)(&default));
            let is_example = default.is_empty() || key.name == "data_dir";
            assert!(shown == default || is_example, "packaging/leveret.toml: {} is {shown}", key.name);
        }
        assert_eq!(given.len(), KEYS.len());
    }

    #[test]
    fn the_page_lists_every_key_with_its_default() {
        let page = include_str!("../../../docs/configuration.md");
        for key in KEYS {
            let default = (key.show)(&Settings::default());
            let sign = if key.changes_at_reload() { " ↻" } else { "" };
            let row = page.lines().find(|line| line.starts_with(&format!("| `{}`{sign} |", key.name)));
            let row = row.unwrap_or_else(|| panic!("docs/configuration.md does not explain {}", key.name));
            let shown = if default.is_empty() { "| – |".to_owned() } else { format!("| `{default}` |") };
            assert!(row.contains(&shown), "docs/configuration.md: {} has the default {default}", key.name);
        }
    }
}
