//! A program on a pseudo-terminal of its own, as its user sees it.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use pty_process::{Size, blocking::Pty};

use super::unignore_signals;

/// How long to wait for a text, or for the end of the program.
const LIMIT: Duration = Duration::from_mins(1);

/// A terminal of rows and columns, and the program that runs on it. The program is the leader of a session with the
/// terminal as its controlling terminal, so keys such as [`Terminal::INTERRUPT`] send signals. It is killed when this is
/// dropped.
pub struct Terminal {
    child: Child,
    keyboard: Pty,
    display: Arc<Display>,
}

/// The screen, and a signal for each change of it.
struct Display {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    parser: vt100::Parser,
    output: Vec<u8>,
    is_closed: bool,
}

impl Terminal {
    /// Ctrl-C.
    pub const INTERRUPT: &str = "\x03";
    /// Ctrl-\.
    pub const QUIT: &str = "\x1c";
    /// Ctrl-Z. It stops a program only if a shell with job control has started it.
    pub const SUSPEND: &str = "\x1a";

    /// Starts a program on a terminal of `rows` and `columns`. Its variable `TERM` is that of the terminal.
    pub fn run(mut command: Command, rows: u16, columns: u16) -> Self {
        unignore_signals();
        let (keyboard, pts) = pty_process::blocking::open().unwrap();
        keyboard.resize(Size::new(rows, columns)).unwrap();
        command.env("TERM", "xterm-256color");
        let child = pty_process::blocking::Command::from(command)
            .spawn(pts)
            .unwrap();
        let display = Arc::new(Display {
            state: Mutex::new(State {
                parser: vt100::Parser::new(
                    rows.try_into().unwrap(),
                    columns.try_into().unwrap(),
                    0,
                ),
                output: Vec::new(),
                is_closed: false,
            }),
            changed: Condvar::new(),
        });
        let mut source = File::from(keyboard.as_fd().try_clone_to_owned().unwrap());
        let reader = Arc::clone(&display);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = read_output(&mut source, &mut bytes) {
                reader.update(|state| {
                    state.parser.process(&bytes[..count]);
                    state.output.extend_from_slice(&bytes[..count]);
                });
            }
            reader.update(|state| state.is_closed = true);
        });
        Self {
            child,
            keyboard,
            display,
        }
    }

    /// Types a text. Enter is `\r`.
    pub fn send(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Returns the text on the screen, without colours.
    pub fn screen(&self) -> String {
        self.display
            .state
            .lock()
            .unwrap()
            .parser
            .screen()
            .contents()
    }

    /// Returns everything that was written so far, with its escape sequences.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.display.state.lock().unwrap().output).into_owned()
    }

    /// Waits until the screen shows `text`, and returns what it shows.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_until(|screen| screen.contains(text))
            .unwrap_or_else(|screen| panic!("{text:?} is not on the screen:\n{screen}"))
    }

    /// Waits until the text on the screen is as expected, and returns it; as an error if the time is over, or the program
    /// has ended and it is not.
    pub fn wait_until(&self, is_expected: impl Fn(&str) -> bool) -> Result<String, String> {
        let deadline = Instant::now() + LIMIT;
        let mut state = self.display.state.lock().unwrap();
        loop {
            let screen = state.parser.screen().contents();
            if is_expected(&screen) {
                return Ok(screen);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.is_closed || left.is_zero() {
                return Err(screen);
            }
            state = self.display.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for the end of the program and of its output, and returns its status and the last text on the screen.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let screen = self.wait_until(|_| false).unwrap_err();
        let is_closed = self.display.state.lock().unwrap().is_closed;
        assert!(is_closed, "the program did not end:\n{screen}");
        (self.child.wait().unwrap(), screen)
    }
}

/// Reads output of the terminal. The end is an error: no program has the terminal open any more. Linux looks for output
/// before it looks for the end, so it misses output in between, which the second attempt reads.
fn read_output(source: &mut File, bytes: &mut [u8]) -> io::Result<usize> {
    source.read(bytes).or_else(|_| source.read(bytes))
}

impl Display {
    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn program_on_a_terminal_has_its_size_its_keys_and_its_screen() {
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "trap 'echo interrupted' INT; trap 'echo quit; exit 3' QUIT; stty size; printf 'old\\rnew\\n'; read line; \
         echo \"got $line\"; echo ready; for i in 1 2 3 4 5 6 7 8 9; do read line; done",
    ]);
    let mut terminal = Terminal::run(shell, 10, 40);
    terminal.wait_for("10 40\nnew");
    terminal.send("text\r");
    terminal.wait_for("got text\nready");
    terminal.send(Terminal::INTERRUPT);
    terminal.wait_for("interrupted");
    terminal.send(Terminal::QUIT);
    assert!(terminal.wait_for("quit").contains("interrupted"));
    assert!(terminal.output().contains("old\rnew"));
    assert!(!terminal.screen().contains("old"));
    let (status, screen) = terminal.wait();
    assert_eq!((status.code(), screen.contains("quit")), (Some(3), true));
}
