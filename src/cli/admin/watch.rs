//! `admin watch`: the state of the pool as it changes.

use std::{
    io::{self, Write},
    time::Duration,
};

use anstream::{AutoStream, ColorChoice, adapter::strip_str};
use clap::Args;
use serde_json::Value;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{overview::Overview, session::Session};
use crate::{
    cli::{
        error::CommandError,
        output::{self, Cell, escape_controls, notice, terminal_size, time::show},
    },
    client::{Answer, Call, ClientError},
    clock::{Clock, SystemClock, UnixSeconds},
};

/// Switches to the alternate screen, and hides the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Shows the cursor, and switches back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Moves to the first line.
const HOME: &str = "\x1b[H";
/// Removes the rest of the line.
const END_OF_LINE: &str = "\x1b[K";
/// Removes all lines below.
const BELOW: &str = "\x1b[J";

/// The arguments of `admin watch`.
#[derive(Clone, Debug, Args)]
pub(super) struct WatchArguments {
    /// The seconds between two reads.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
}

/// Shows the state of the pool until a signal ends it.
pub(super) async fn run(session: &Session, arguments: &WatchArguments) -> Result<(), CommandError> {
    let [mut interrupt, mut terminate, mut hang_up, mut resized] = signals()?;
    let mut screen: Box<dyn Screen> = if session.is_json() {
        Box::new(JsonLines)
    } else if terminal_size().is_some() {
        Box::new(Terminal::enter()?)
    } else {
        Box::new(Changes::default())
    };
    let mut ticks = interval(Duration::from_secs(arguments.interval));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = State::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = resized.recv() => {
                screen.draw(&state)?;
                continue;
            }
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
        tokio::select! {
            read = read(session) => state.update(read)?,
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
        screen.draw(&state)?;
    }
}

/// Returns the signals that end the command, and the one that reports a new size of the terminal.
fn signals() -> io::Result<[Signal; 4]> {
    Ok([
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
        signal(SignalKind::window_change())?,
    ])
}

/// Reads the overview once: the next tick is the retry.
async fn read(session: &Session) -> Result<Answer, ClientError> {
    let call = Call::get(["admin", "overview"]);
    session.client.send_within(&call, Duration::ZERO).await
}

/// The last overview, and the outage since then.
#[derive(Default)]
struct State {
    /// The last overview, as a document and as its parts.
    last: Option<(Value, Overview)>,
    /// The beginning of an outage, and its last error.
    outage: Option<(UnixSeconds, String)>,
}

impl State {
    /// Applies the result of a read.
    ///
    /// # Errors
    /// An error that is not transient, such as that of a revoked token.
    fn update(&mut self, read: Result<Answer, ClientError>) -> Result<(), ClientError> {
        match read {
            Ok(answer) => {
                self.last = Some((answer.json()?, answer.json()?));
                self.outage = None;
            }
            Err(error) if error.is_transient() => {
                let since = self.outage.as_ref().map(|(since, _)| *since);
                self.outage = Some((
                    since.unwrap_or_else(|| SystemClock.now()),
                    error.to_string(),
                ));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns a sentence about the outage, if there is one.
    fn outage(&self) -> Option<String> {
        let (since, error) = self.outage.as_ref()?;
        let since = show(*since, SystemClock.now());
        Some(format!(
            "The broker has not answered since {since}: {error}"
        ))
    }
}

/// A form of the output.
trait Screen {
    /// Writes the state.
    fn draw(&mut self, state: &State) -> io::Result<()>;
}

/// The whole screen of a terminal, whose content is restored when this is dropped.
struct Terminal;

impl Terminal {
    fn enter() -> io::Result<Self> {
        write(ENTER)?;
        Ok(Self)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = write(LEAVE);
    }
}

impl Screen for Terminal {
    fn draw(&mut self, state: &State) -> io::Result<()> {
        let (columns, rows) = terminal_size().unwrap_or((80, 24));
        let mut lines = Vec::new();
        if let Some(outage) = state.outage() {
            lines.push(Cell::warning(&outage).line(Some(columns)));
        }
        if let Some((_, overview)) = &state.last {
            let title = format!(
                "As of {}; Ctrl-C ends",
                show(overview.at, SystemClock.now())
            );
            lines.push(Cell::bold(&title).line(Some(columns)));
            lines.push(String::new());
            lines.extend(overview.lines(Some(columns)));
        }
        // A line below the last row would scroll the first ones off the screen.
        if lines.len() > rows {
            lines.truncate(rows.saturating_sub(1));
            lines.push("(the rest does not fit)".to_owned());
        }
        let lines = lines
            .iter()
            .map(|line| format!("{}{END_OF_LINE}", coloured(line)));
        let frame = lines.collect::<Vec<_>>().join("\r\n");
        // In one write, so that no half of a frame is shown.
        write(&format!("{HOME}{frame}{BELOW}"))
    }
}

/// Returns a line, without its colours if the user wants none (`NO_COLOR`).
fn coloured(line: &str) -> String {
    match AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => strip_str(line).to_string(),
        _ => line.to_owned(),
    }
}

/// Writes text with control sequences. A stream of anstream would remove those for the cursor together with the colours.
fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A line of JSON for each overview.
struct JsonLines;

impl Screen for JsonLines {
    fn draw(&mut self, state: &State) -> io::Result<()> {
        if let Some(outage) = state.outage() {
            notice(outage);
        } else if let Some((document, _)) = &state.last {
            write(&escape_controls(&format!("{document}\n")))?;
        }
        Ok(())
    }
}

/// A line for each change.
#[derive(Default)]
struct Changes {
    last: String,
}

impl Screen for Changes {
    fn draw(&mut self, state: &State) -> io::Result<()> {
        let summary = match (&state.outage, &state.last) {
            (Some(_), _) => "the broker does not answer".to_owned(),
            (None, Some((_, overview))) => overview.summary(),
            (None, None) => return Ok(()),
        };
        if summary == self.last {
            return Ok(());
        }
        output::write_line(format_args!("{} {summary}", SystemClock.now().iso()))?;
        self.last = summary;
        Ok(())
    }
}
