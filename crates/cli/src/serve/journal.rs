//! The log, as the API sees it.

use leveret_admin::Journal;
use serde_json::{Value, json};
use tracing::Level;

use crate::logging::{AREAS, Log};

impl Journal for Log {
    fn lines(&self, level: &str, after: u64, count: usize) -> Result<Vec<Value>, String> {
        let wrong = |_| format!("{level:?} is no level; there are error, warn, info, debug, trace");
        let level: Level = level.parse().map_err(wrong)?;
        let lines = self.recent(level, after, count).into_iter();
        Ok(lines
            .map(|numbered| {
                let mut line = json!(*numbered.line);
                line["number"] = numbered.number.into();
                line
            })
            .collect())
    }

    fn levels(&self) -> Value {
        let levels = self.levels();
        let areas = AREAS.iter().map(|area| {
            let level = levels.of(area.name).to_string();
            json!({ "name": area.name, "about": area.about, "level": level })
        });
        json!({ "default": levels.default_level().to_string(), "areas": areas.collect::<Vec<_>>() })
    }

    fn change_levels(&self, changes: &[(String, String)]) -> Result<(), String> {
        let changes = changes.iter().map(|(name, level)| (name.as_str(), level.as_str()));
        let levels = self.levels().with(changes).map_err(|error| error.to_string())?;
        tracing::info!(%levels, "levels of the log changed");
        self.set_levels(levels);
        Ok(())
    }
}
