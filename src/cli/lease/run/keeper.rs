//! Keeps a sandbox while the command runs: extends its lease, and continues with the sandbox that replaces it.

use std::{fmt, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    super::{
        Session,
        calls::{Extension, Sandbox},
        release::{MAX_REPLACEMENTS, is_not_held},
    },
    clock::{self, BrokerTime},
    say,
};
use crate::{cli::output::time, client::ClientError, clock::UnixSeconds};

/// The shortest pause between two extensions, for a lease that is almost over.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The pause between two attempts to extend a lease that is over. It may still be in its grace period.
const PAUSE_IN_GRACE: Duration = Duration::from_secs(30);
/// How long the read of a sandbox is retried after its extension was refused.
const READ_WAIT: Duration = Duration::from_secs(15);

/// A sandbox that is kept for the command.
#[derive(Debug)]
pub(super) struct Keeper<'a> {
    pub(super) session: &'a Session,
    /// The sandbox as the command received it, or the one that replaced it.
    pub(super) sandbox: Sandbox,
    /// How long the lease lasts after each extension.
    minutes: u32,
    time: BrokerTime,
    is_lost: bool,
    reported: Reported,
}

/// Which remarks have been printed, so that they are not repeated.
#[derive(Debug, Default)]
struct Reported {
    /// The lab permits no longer lease.
    limit: bool,
    /// The lease is over.
    end: bool,
    /// Extensions fail.
    failure: bool,
}

impl<'a> Keeper<'a> {
    /// Creates the keeper of a sandbox that a request sent at `sent` has allocated.
    pub(super) fn new(
        session: &'a Session,
        sandbox: Sandbox,
        minutes: u32,
        sent: Duration,
    ) -> Self {
        Self {
            time: BrokerTime::new(sandbox.allocated_at, sent),
            session,
            sandbox,
            minutes,
            is_lost: false,
            reported: Reported::default(),
        }
    }

    /// Returns the id of the sandbox.
    pub(super) fn id(&self) -> &str {
        &self.sandbox.id
    }

    /// Returns whether the sandbox is known not to be held any more.
    pub(super) const fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Returns a clause that says until when the sandbox is, or was, held.
    pub(super) fn end(&self) -> String {
        let span = self.left();
        let end = self.expires_at().iso();
        if span.is_zero() {
            format!("was held until {end}")
        } else {
            // Rounded up, so that a new lease of 30 minutes is not shown as one of 29.
            let span = time::duration(span + Duration::from_millis(999));
            format!("is held until {end} ({span} from now)")
        }
    }

    /// Returns the remark about a sandbox that could not be released.
    pub(super) fn left_behind(&self, id: &str, reason: &str) -> String {
        let command = self.session.command(&["release", id]);
        format!(
            "the sandbox {id} is not released: {reason}. It {}, and expires by itself after that. To release it now: {command}",
            self.end()
        )
    }

    fn expires_at(&self) -> UnixSeconds {
        let requested = Duration::from_mins(self.minutes.into());
        self.sandbox
            .expires_at
            .unwrap_or(self.sandbox.allocated_at + requested)
    }

    fn left(&self) -> Duration {
        self.time.left(self.expires_at(), clock::now())
    }

    /// Extends the lease whenever half of it is over. Ends only when the sandbox is lost.
    pub(super) async fn keep(&mut self) {
        while !self.is_lost {
            let left = self.left();
            let pause = if left.is_zero() {
                if !self.reported.end {
                    self.reported.end = true;
                    say(format_args!(
                        "{self} {}: it may be deleted at any time",
                        self.end()
                    ));
                }
                PAUSE_IN_GRACE
            } else {
                (left / 2).max(MIN_PAUSE.min(left))
            };
            clock::wait(pause).await;
            self.extend().await;
        }
    }

    /// Extends the lease. A transient failure is retried until the lease is over.
    async fn extend(&mut self) {
        let (never, left) = (CancellationToken::new(), self.left());
        let mut is_reported = self.reported.failure;
        let name = self.to_string();
        let answer = match self.session.calls.extension(self.id(), self.minutes) {
            Ok(call) => {
                let client = &self.session.client;
                let on_retry = |error: &ClientError, _| {
                    if !is_reported {
                        is_reported = true;
                        say(format_args!(
                            "the lease of {name} cannot be extended yet: {error}; retrying"
                        ));
                    }
                };
                client.send_until(&call, left, &never, on_retry).await
            }
            Err(error) => Err(error),
        };
        self.reported.failure = is_reported;
        match answer.and_then(|answer| answer.json::<Extension>()) {
            Ok(extension) => self.extended(&extension),
            Err(error) if error.code() == Some("EXTENSION_LIMIT_REACHED") => self.warn_of_limit(),
            Err(error) if is_not_held(&error) => self.follow_replacements().await,
            Err(error) => {
                if !self.reported.failure {
                    say(format_args!(
                        "the lease of {self} cannot be extended: {error}. It {}",
                        self.end()
                    ));
                }
                self.reported.failure = true;
            }
        }
    }

    fn extended(&mut self, extension: &Extension) {
        self.sandbox.expires_at = Some(extension.expires_at);
        if self.reported.failure || self.reported.end {
            say(format_args!("{self} {}", self.end()));
        }
        (self.reported.failure, self.reported.end) = (false, false);
        if extension.expires_at >= extension.max_expires_at {
            self.warn_of_limit();
        }
    }

    fn warn_of_limit(&mut self) {
        if !self.reported.limit {
            self.reported.limit = true;
            say(format_args!(
                "warning: {self} {}, and its lab permits no longer lease: the command should end before that, or an operator \
                 has to extend it",
                self.end()
            ));
        }
    }

    /// Continues with the sandbox that replaced one that is not held any more. Without a replacement it is lost.
    async fn follow_replacements(&mut self) {
        let mut id = self.id().to_owned();
        for _ in 0..MAX_REPLACEMENTS {
            let sandbox = match self.read(&id).await {
                Ok(sandbox) => sandbox,
                Err(error) if is_not_held(&error) => return self.lose(&error.to_string()),
                // The next extension is refused as well, and leads here again.
                Err(_) => return,
            };
            let status = sandbox.status.as_deref().unwrap_or("unknown");
            if let Some(next) = sandbox.replaced_by {
                id = next;
            } else if status != "allocated" {
                let reason = format!("it was released, or an operator took it (status {status})");
                return self.lose(&reason);
            } else if id == self.id() {
                return self.lose("its lease and its grace period are over");
            } else {
                return self.adopt(sandbox);
            }
        }
    }

    /// Continues with the sandbox that replaced the current one.
    fn adopt(&mut self, successor: Sandbox) {
        let replaced = self.to_string();
        self.sandbox = successor;
        self.reported = Reported::default();
        say(format_args!(
            "{replaced} was replaced; the variables of the command still name it. {self} {}",
            self.end()
        ));
    }

    async fn read(&self, id: &str) -> Result<Sandbox, ClientError> {
        let call = self.session.calls.sandbox(id)?;
        let (client, never) = (&self.session.client, CancellationToken::new());
        let answer = client.send_until(&call, READ_WAIT, &never, |_, _| {});
        answer.await?.json()
    }

    fn lose(&mut self, reason: &str) {
        say(format_args!(
            "{self} is not held any more: {reason}; the command goes on without it"
        ));
        self.is_lost = true;
    }
}

/// The name of the sandbox, for messages.
impl fmt::Display for Keeper<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sandbox { name, id, .. } = &self.sandbox;
        write!(f, "the sandbox {name} ({id})")
    }
}
