//! Shell completions. The script that a shell loads asks this program for the completions of each line, so they include the
//! values of options, and are those of the installed version.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::{CompleteEnv, Shell, env::Shells};

use super::Cli;

/// The variable with which the script asks this program for completions.
const VARIABLE: &str = "SANDBOX_BROKER_COMPLETE";
const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// If the script of a shell asks for the completions of a line, prints them and exits.
pub fn answer_shell() {
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .complete();
}

/// Prints the script of `shell` to stdout.
pub fn run(shell: Shell) {
    // They have a completer for every value of `Shell`.
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(&shell.to_string()) else {
        return;
    };
    let mut script = Vec::new();
    // Writing to memory cannot fail.
    let _ = completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script);
    // Like `print`, it ignores an output that cannot be written.
    let _ = io::stdout().write_all(&script);
}
