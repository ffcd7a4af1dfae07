//! `completions`: the completions of a shell.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// Prints the completions of `shell` to stdout.
pub fn run(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(
        shell,
        &mut Cli::command(),
        env!("CARGO_PKG_NAME"),
        &mut script,
    );
    let _ = io::stdout().write_all(&script);
}
