//! Signals to `lease run`, which forwards them to the command.

use std::{fs, io, process::ExitCode, sync::Arc, thread};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
};
use tokio::{process::Child, sync::mpsc};

/// The forwarded signals: those that programs handle, and that would otherwise end `lease run`.
const SIGNALS: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// A listener for the signals.
#[derive(Debug)]
pub(super) struct Signals(mpsc::UnboundedReceiver<Received>);

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    number: i32,
    /// The process that sent it; `None` for the kernel, which sends the signals of the terminal's keys.
    sender: Option<i32>,
}

impl Signals {
    /// Listens to the signals from now on, except for those that were ignored when this process began: its parent has
    /// chosen, as `nohup` does, that they end neither this process nor the command.
    ///
    /// # Errors
    /// The operating system refuses a handler.
    pub(super) fn listen() -> io::Result<Self> {
        // If the parent ignored SIGCHLD, the system would not keep the exit status of the command without a handler.
        signal_hook::flag::register(SIGCHLD, Arc::default())?;
        let ignored = ignored();
        let heard = SIGNALS.into_iter().filter(|number| !ignored(*number));
        let mut signals = SignalsInfo::<WithOrigin>::new(heard)?;
        let (send, receive) = mpsc::unbounded_channel();
        thread::spawn(move || {
            for origin in &mut signals {
                let received = Received {
                    number: origin.signal,
                    sender: origin.process.map(|process| process.pid),
                };
                if send.send(received).is_err() {
                    break;
                }
            }
        });
        Ok(Self(receive))
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Received {
        match self.0.recv().await {
            Some(received) => received,
            // The thread ends only with the process.
            None => std::future::pending().await,
        }
    }

    /// Returns the next signal if there is one already.
    pub(super) fn try_next(&mut self) -> Option<Received> {
        self.0.try_recv().ok()
    }
}

impl Received {
    /// Returns the exit code of a shell for a command that this signal ended.
    pub(super) fn exit_code(self) -> ExitCode {
        super::program::signal_code(self.number)
    }

    /// Sends the signal to the command, unless the command has received it already, because a key of the terminal signals
    /// the whole process group, or has sent it itself.
    pub(super) fn forward_to(self, child: &Child) {
        // Without an id, the command has ended.
        let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) else {
            return;
        };
        let is_key = self.sender.is_none() && matches!(self.number, SIGINT | SIGQUIT);
        if is_key || self.sender == Some(id) {
            return;
        }
        let (Some(pid), Some(signal)) = (Pid::from_raw(id), Signal::from_named_raw(self.number))
        else {
            return;
        };
        // It fails only if the command has just ended.
        let _ = kill_process(pid, signal);
        if matches!(self.number, SIGHUP | SIGTERM) {
            // A stopped command handles the signal only when it continues.
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

/// Returns which signals this process ignores: none, if the system does not report them.
fn ignored() -> impl Fn(i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = ignored_mask(&status);
    move |number| mask >> (number - 1) & 1 == 1
}

/// Returns the set of ignored signals from the status of a process, signal 1 in the lowest bit.
fn ignored_mask(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status_of_the_process() {
        let mask =
            ignored_mask("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n");
        assert_eq!(mask, 1 << (SIGHUP - 1) | 1 << 12);
        assert_eq!(ignored_mask(""), 0);
        assert_eq!(ignored_mask("SigIgn:\tnothing\n"), 0);
    }
}
