//! Command lines of `lease` in messages, which the user can paste into a shell.

use super::Session;
use crate::cli::shell::command_line;

impl Session {
    /// Returns the command line of a subcommand of `lease` for the same caller and broker.
    pub(super) fn command(&self, arguments: &[&str]) -> String {
        let settings = &self.settings;
        let broker = match settings.context() {
            Some(name) => ["--context", name],
            None => ["--url", settings.url.as_str()],
        };
        let caller = ["--caller", self.calls.caller()];
        command_line([&["lease"], arguments, &broker, &caller].concat())
    }
}
