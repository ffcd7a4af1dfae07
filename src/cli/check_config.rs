//! `check-config`: prints every setting in force.

use std::io::{self, Write};

use crate::config::Config;

/// Prints the settings and warnings of `config` to stdout.
///
/// # Errors
/// If stdout cannot be written to.
pub fn run(config: &Config) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for setting in config.settings() {
        let note = if setting.is_default {
            "  (default)"
        } else {
            ""
        };
        writeln!(out, "{}={}{note}", setting.variable, setting.value)?;
    }
    config
        .warnings()
        .iter()
        .try_for_each(|warning| writeln!(out, "warning: {warning}"))
}
