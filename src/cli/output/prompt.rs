//! Confirmation of commands that destroy something.

use std::io::{self, IsTerminal, Write};

use crate::{cli::error::CommandError, domain::one_line};

/// Asks like [`confirm`] after a preview of the changes.
///
/// # Errors
/// Those of [`confirm`], and [`CommandError::Failed`] if the preview could not be written.
pub fn confirm_preview(preview: io::Result<()>, question: &str) -> Result<(), CommandError> {
    preview.map_err(|error| {
        CommandError::Failed(format!(
            "the changes cannot be shown ({error}); nothing was changed"
        ))
    })?;
    confirm(question)
}

/// Asks on the terminal for a confirmation.
///
/// # Errors
/// [`CommandError::Usage`] if there is no terminal to ask on, [`CommandError::Failed`] if the answer is not yes.
pub fn confirm(question: &str) -> Result<(), CommandError> {
    if !io::stdin().is_terminal() {
        return Err(CommandError::Usage(
            "add --yes to confirm: there is no terminal to ask on".to_owned(),
        ));
    }
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{} [y/N] ", one_line(question, usize::MAX));
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    if !answer.ends_with('\n') {
        let _ = writeln!(stderr);
    }
    let answer = answer.trim().to_lowercase();
    if read.is_ok() && matches!(answer.as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(CommandError::Failed(
            "not confirmed; nothing was changed".to_owned(),
        ))
    }
}
