//! `check-config`: prints every setting in force.

use super::print;
use crate::config::Config;

/// Prints the settings and warnings of `config` to stdout.
pub fn run(config: &Config) {
    for setting in config.settings() {
        let note = if setting.is_default {
            "  (default)"
        } else {
            ""
        };
        print(format_args!("{}={}{note}", setting.variable, setting.value));
    }
    for warning in config.warnings() {
        print(format_args!("warning: {warning}"));
    }
}
