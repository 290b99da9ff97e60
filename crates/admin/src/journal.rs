//! The log of the process, for those who may read it and change how much is told.

use serde_json::Value;

/// What the API needs of the log. Implemented by the program, which owns it.
pub trait Journal {
    /// The newest `count` lines at least as serious as `level` (error … trace) with numbers above `after`, oldest first. Each is an
    /// object with `number`, `time`, `level`, `area`, `target`, `message`, `fields`.
    ///
    /// # Errors
    /// `level` is none; the text says which there are.
    fn lines(&self, level: &str, after: u64, count: usize) -> Result<Vec<Value>, String>;

    /// The level of everything without its own, and the areas: `{"default":…,"areas":[{"name":…,"about":…,"level":…}]}`.
    fn levels(&self) -> Value;

    /// Changes the levels of these areas, or of `default`, until the next reload or restart. All of them or none.
    ///
    /// # Errors
    /// A name or a level that does not exist, in a sentence.
    fn change_levels(&self, changes: &[(String, String)]) -> Result<(), String>;
}
