//! Progress bars on stderr.

use std::{sync::Mutex, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{domain::one_line, shared::lock};

/// The time between two frames of a spinner.
const TICK: Duration = Duration::from_millis(120);
/// The longest text beside a bar, in characters.
const MAX_TEXT: usize = 120;

/// The bar on the terminal. It is removed while a line is printed to stderr.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// A progress bar on stderr, if stderr is a terminal. It is removed when it is dropped. There is only one at a time.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows a spinner with a text, until an update has a total.
    #[must_use]
    pub fn start(text: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_message(one_line(text, MAX_TEXT));
        bar.enable_steady_tick(TICK);
        *lock(&SHOWN) = Some(bar.clone());
        Self(bar)
    }

    /// Shows a text, and a bar if the number of items that are done and their total are known.
    pub fn update(&self, text: &str, done_of_total: Option<(u64, u64)>) {
        self.0.set_message(one_line(text, MAX_TEXT));
        if let Some((done, total)) = done_of_total {
            self.0.set_length(total);
            self.0.set_position(done);
            // The template is constant and valid, so the bar always replaces the spinner.
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg}") {
                self.0.set_style(style.progress_chars("=> "));
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *lock(&SHOWN) = None;
        self.0.finish_and_clear();
    }
}

/// Calls `print` while the bar, if any, is removed from the terminal.
pub(super) fn suspended(print: impl FnOnce()) {
    let shown = lock(&SHOWN).clone();
    match shown {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}
