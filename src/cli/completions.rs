//! Completions of shells. The script of a shell asks this program for the completions of a line, so it completes values at
//! every depth, and those of the version that is installed.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::{CompleteEnv, Shell, env::Shells};

use super::Cli;

/// The variable by which the script of a shell asks for completions.
const VARIABLE: &str = "SANDBOX_BROKER_COMPLETE";
const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// Prints the completions of a line, and exits, if the script of a shell asks for them.
pub fn answer_shell() {
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .complete();
}

/// Prints the script of `shell` to stdout.
pub fn run(shell: Shell) {
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(&shell.to_string()) else {
        return;
    };
    let mut script = Vec::new();
    // Writing to memory cannot fail, and output that cannot be written changes nothing.
    let _ = completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script);
    let _ = io::stdout().write_all(&script);
}
