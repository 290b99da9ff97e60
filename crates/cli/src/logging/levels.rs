//! How much is logged of what: a level for everything, and others for areas or modules.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::areas::AREAS;

/// Crates of others that log. A name that is neither one of them nor ours is a misspelt area.
const STRANGERS: [&str; 8] =
    ["axum", "h2", "hyper", "hyper_util", "lapin", "rustls", "tokio", "tokio_rustls"];
const OURS: &str = "leveret";

/// The levels in force, written `warn,connection=debug,leveret_broker::ops=trace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    default: LevelFilter,
    /// By name of an area or path of a module.
    named: BTreeMap<String, LevelFilter>,
}

impl Levels {
    /// The level of what has none of its own.
    pub(crate) fn default_level(&self) -> LevelFilter {
        self.default
    }

    /// The level of an area.
    pub(crate) fn of(&self, area: &str) -> LevelFilter {
        self.named(area).unwrap_or(self.default)
    }

    fn named(&self, name: &str) -> Option<LevelFilter> {
        self.named.get(name).copied()
    }

    /// Changes what `other` names, and nothing else. `default` is for everything without a level.
    ///
    /// # Errors
    /// The first name or level that does not exist; nothing has changed then.
    pub(crate) fn with<'a>(
        &self,
        other: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Levels, WrongLevel> {
        let mut levels = self.clone();
        for (name, level) in other {
            levels.set(name, level)?;
        }
        Ok(levels)
    }

    fn set(&mut self, name: &str, level: &str) -> Result<(), WrongLevel> {
        let parsed = level.trim().parse().ok().filter(|_| !level.trim().is_empty());
        let parsed: LevelFilter = parsed.ok_or_else(|| WrongLevel::Level(level.trim().to_owned()))?;
        match name.trim() {
            "default" => self.default = parsed,
            name if is_known(name) => drop(self.named.insert(name.to_owned(), parsed)),
            name => return Err(WrongLevel::Name(name.to_owned())),
        }
        Ok(())
    }

    /// What the library filters by: the longest beginning of a path decides, so areas inside of a named one need a word of
    /// their own (for it, all of `leveret_server` is inside of `leveret`).
    pub(super) fn targets(&self) -> Targets {
        let (named, others): (Vec<_>, Vec<_>) =
            AREAS.iter().partition(|area| self.named(area.name).is_some());
        let is_inside = |path: &str| named.iter().any(|area| area.paths.iter().any(|p| path.starts_with(p)));
        let others = others.into_iter().flat_map(|area| area.paths).filter(|path| is_inside(path));
        let named = named.iter().flat_map(|area| area.paths.iter().map(|path| (*path, self.of(area.name))));
        let areas = others.map(|path| (*path, self.default)).chain(named);
        // Last: a module's own level is the more special word.
        let modules = self.named.iter().filter(|(name, _)| !is_area(name));
        Targets::new()
            .with_default(self.default)
            .with_targets(areas)
            .with_targets(modules.map(|(path, level)| (path.clone(), *level)))
    }
}

impl Default for Levels {
    fn default() -> Self {
        Levels { default: LevelFilter::INFO, named: BTreeMap::new() }
    }
}

impl FromStr for Levels {
    type Err = WrongLevel;

    fn from_str(text: &str) -> Result<Levels, WrongLevel> {
        Levels::default().with(text.split(',').map(|part| part.rsplit_once('=').unwrap_or(("default", part))))
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        self.named.iter().try_for_each(|(name, level)| write!(f, ",{name}={level}"))
    }
}

fn is_area(name: &str) -> bool {
    AREAS.iter().any(|area| area.name == name)
}

fn is_known(name: &str) -> bool {
    let crate_name = name.split("::").next().unwrap_or(name);
    let is_path = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let is_ours = crate_name == OURS || crate_name.starts_with("leveret_");
    is_area(name) || is_path && (is_ours || STRANGERS.contains(&crate_name))
}

/// A name or a level that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WrongLevel {
    /// Neither an area nor a module.
    Name(String),
    /// Not a level.
    Level(String),
}

impl fmt::Display for WrongLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?} is neither an area nor a module that logs"),
            Self::Level(level) => {
                write!(f, "{level:?} is no level; there are error, warn, info, debug, trace, off")
            }
        }
    }
}

impl std::error::Error for WrongLevel {}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_misspelt_level_or_area_is_an_error() {
        let check = |text: &str, expected| assert_eq!(text.parse::<Levels>().is_ok(), expected, "{text:?}");
        check("info", true);
        check("off", true);
        check("warn,leveret_server=debug", true);
        check("warn, connection=debug", true);
        check("error,lapin=off", true);
        check("loud", false);
        check("info,leveret_server=loud", false);
        check("info,conection=debug", false);
        check("", false);
        check("info,", false);
        check("info,connection=", false);
        check("loud=x=y", false);
    }

    #[test]
    fn areas_and_modules_have_levels_of_their_own() {
        let check = |text: &str, target: &str, level: Level, expected: bool| {
            let targets = text.parse::<Levels>().unwrap().targets();
            assert_eq!(targets.would_enable(target, &level), expected, "{text}: {target} {level}");
        };
        check("info", "leveret_server::drive", Level::INFO, true);
        check("info", "leveret_server::drive", Level::DEBUG, false);
        check("info,connection=debug", "leveret_server::drive", Level::DEBUG, true);
        check("info,connection=debug", "leveret_server::session", Level::DEBUG, false);
        check("info,leveret_server=debug", "leveret_server::session", Level::DEBUG, true);
        check("info,channel=debug", "leveret_server::session::running", Level::DEBUG, true);
        check("info,channel=debug", "leveret_server::drive", Level::DEBUG, false);
        check("info,serve=debug", "leveret::serve", Level::DEBUG, true);
        check("info,serve=debug", "leveret_server::drive", Level::DEBUG, false);
        check("off,store=info", "leveret_broker::recover", Level::INFO, true);
        check("info,serve=debug", "leveret::serve", Level::DEBUG, true);
        check("info,serve=debug", "leveret_server::drive", Level::DEBUG, false);
        check("off,store=info", "leveret_broker::ops", Level::ERROR, false);
        check("info,queue=warn,leveret_broker::ops=trace", "leveret_broker::ops::x", Level::TRACE, true);
        check("error,lapin=off", "lapin::channel", Level::ERROR, false);
    }

    #[test]
    fn a_change_touches_only_what_it_names() {
        let levels: Levels = "warn,queue=debug".parse().unwrap();
        let changed = levels.with([("store", "trace"), ("default", "info")]).unwrap();
        assert_eq!(changed.to_string(), "info,queue=debug,store=trace");
        assert_eq!(levels.with([("store", "trace"), ("no", "info")]), Err(WrongLevel::Name("no".into())));
    }
}
