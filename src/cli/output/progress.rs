//! Progress bars on stderr.

use std::{sync::Mutex, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{domain::one_line, shared::lock};

/// The time between two pictures of a bar.
const TICK: Duration = Duration::from_millis(120);
/// The longest text beside a bar, in characters.
const MAX_TEXT: usize = 120;

/// The bar on the terminal, which lines on stderr must not overwrite.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// A progress bar on stderr, if that is a terminal. It is removed when it is dropped. There is one at a time.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows a bar whose end is not known yet.
    #[must_use]
    pub fn start(text: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_message(one_line(text, MAX_TEXT));
        bar.enable_steady_tick(TICK);
        *lock(&SHOWN) = Some(bar.clone());
        Self(bar)
    }

    /// Shows a text, and that `done` of `total` are done if that is known.
    pub fn update(&self, text: &str, done: Option<(u64, u64)>) {
        self.0.set_message(one_line(text, MAX_TEXT));
        if let Some((done, total)) = done {
            self.0.set_length(total);
            self.0.set_position(done);
            // The template is constant and valid, so the bar keeps no spinner.
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

/// Runs `print` while the bar is removed.
pub(super) fn suspended(print: impl FnOnce()) {
    let shown = lock(&SHOWN).clone();
    match shown {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}
