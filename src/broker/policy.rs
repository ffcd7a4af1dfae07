//! The policy: a [copy](super::polling) of the version in force, which requests and jobs read, and the changes of it.

mod summary;

use std::sync::Arc;

use serde_json::json;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use self::summary::summary;
use super::polling::{OutageMessages, PolledCopy};
use crate::{
    clock::Clock,
    domain::{
        AuditAction, AuditRecord, AuditTarget, Author, LeaseTerms, NO_POLICY, Policy, PolicyChange,
        PolicyDocument, PolicyVersion, Reason,
    },
    store::{HistoryPosition, PolicyHistory, PolicyReadError, PoolStore, StoreError, StoredPolicy},
};

const OUTAGE: OutageMessages = OutageMessages {
    begin: "policy could not be read; the last known version stays in force",
    end: "policy can be read again",
};

/// The policy in force, and its changes. Cheap to clone; clones share the copy.
#[derive(Clone, Debug)]
pub struct PolicyWatch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: PoolStore,
    clock: Arc<dyn Clock>,
    environment: LeaseTerms,
    copy: PolledCopy<Known>,
    /// One change at a time in a process, so that only processes compete for the item.
    changing: Mutex<()>,
}

#[derive(Debug)]
struct Known {
    /// `None` without a document.
    version: Option<PolicyVersion>,
    policy: Arc<Policy>,
    /// How many other policies this process has had in force before.
    number: u64,
}

/// A version of the policy and its document. Without a version, there is no document: it is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyState {
    /// The version.
    pub version: Option<PolicyVersion>,
    /// The document.
    pub document: PolicyDocument,
}

impl PolicyState {
    /// Returns the number of the version.
    #[must_use]
    pub fn number(&self) -> u32 {
        number(self.version.as_ref())
    }
}

/// The policy of this process, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyStatus {
    /// The version in force in this process; `None` if it is the terms of the environment.
    pub version: Option<PolicyVersion>,
    /// Why the last poll could not read the policy. The version in force may then be an old one.
    pub fault: Option<String>,
}

impl PolicyStatus {
    /// Returns the number of the version in force.
    #[must_use]
    pub fn number(&self) -> u32 {
        number(self.version.as_ref())
    }
}

/// The reason why the policy was not read or changed.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// Another version than the request expects is in force.
    #[error("version {in_force} of the policy is in force")]
    Changed {
        /// Its number.
        in_force: u32,
    },
    /// The version does not exist, or is no longer retained.
    #[error("no such version of the policy")]
    NotFound,
    /// The policy could not be read or written. Whether it was changed is then unknown.
    #[error(transparent)]
    Read(#[from] PolicyReadError),
}

impl From<StoreError> for PolicyError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

fn number(version: Option<&PolicyVersion>) -> u32 {
    version.map_or(NO_POLICY, |version| version.number)
}

impl PolicyWatch {
    /// Reads the policy for the first time. [`run`](Self::run) keeps it up to date. If it cannot be read now, the terms of
    /// the environment are in force until it can.
    pub async fn open(store: PoolStore, clock: Arc<dyn Clock>, environment: LeaseTerms) -> Self {
        let known = Known {
            version: None,
            policy: Arc::new(Policy::of_environment(environment)),
            number: 0,
        };
        let watch = Self(Arc::new(Inner {
            store,
            clock,
            environment,
            copy: PolledCopy::new(known, OUTAGE),
            changing: Mutex::default(),
        }));
        watch.0.copy.record_poll(watch.refresh().await);
        if let Some(fault) = watch.0.copy.fault() {
            tracing::error!(
                fault,
                "policy is unreadable at the start; the terms of the environment are in force"
            );
        }
        watch
    }

    /// Polls the table until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        self.0.copy.run(|| self.refresh(), stop).await;
    }

    /// Returns the policy in force. Makes no call to the database.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        self.0.copy.with(|known| Arc::clone(&known.policy))
    }

    /// Returns the policy in force, and how many others this process has had in force before it: a number that grows with
    /// each change that the process has seen.
    #[must_use]
    pub fn current_numbered(&self) -> (Arc<Policy>, u64) {
        let copy = &self.0.copy;
        copy.with(|known| (Arc::clone(&known.policy), known.number))
    }

    /// Returns the version in force, and why a newer one may not be. Makes no call to the database.
    #[must_use]
    pub fn status(&self) -> PolicyStatus {
        PolicyStatus {
            version: self.0.copy.with(|known| known.version.clone()),
            fault: self.0.copy.fault(),
        }
    }

    /// Reads the policy from the table.
    ///
    /// # Errors
    /// [`PolicyReadError`]; the last known version stays in force.
    pub async fn refresh(&self) -> Result<(), PolicyReadError> {
        let copy = &self.0.copy;
        let known = copy.with(|known| known.version.clone());
        let update = |known: &mut Known, newer: Option<Known>| {
            let Some(mut newer) = newer else {
                return false;
            };
            newer.number = known.number + 1;
            if let Some(version) = &newer.version {
                tracing::info!(
                    version = version.number,
                    author = &*version.author,
                    at = version.at.0,
                    "policy in force"
                );
            }
            *known = newer;
            true
        };
        copy.refresh(self.read_unless(known), update).await
    }

    /// Reads the policy, unless its version is the known one.
    async fn read_unless(
        &self,
        known: Option<PolicyVersion>,
    ) -> Result<Option<Known>, PolicyReadError> {
        let version = self.0.store.policy_in_force().await?;
        if version == known {
            return Ok(None);
        }
        // The terms of the environment would end the extensions and quotas that labs rely on.
        let version = version.ok_or_else(PolicyReadError::no_version_in_force)?;
        let stored = self.stored(version.number).await?;
        let stored = stored.ok_or_else(|| PolicyReadError::no_document(version.number))?;
        let policy = Policy::new(&stored.document, self.0.environment);
        Ok(Some(Known {
            version: Some(version),
            policy: Arc::new(policy),
            number: 0,
        }))
    }

    async fn stored(&self, number: u32) -> Result<Option<StoredPolicy>, PolicyReadError> {
        self.0.store.policy(number).await
    }

    /// Returns a version of the policy from the table; that in force if no number is given. Number 0 is the empty
    /// document before the first version.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn state(&self, number: Option<u32>) -> Result<PolicyState, PolicyError> {
        match number {
            Some(NO_POLICY) => Ok(PolicyState::default()),
            Some(number) => {
                let stored = self.stored(number).await?;
                Ok(stored.ok_or(PolicyError::NotFound)?.into())
            }
            None => {
                let (version, document) = self.in_force().await?;
                let document = document?;
                Ok(PolicyState { version, document })
            }
        }
    }

    /// Reads the version in force, and its document, which may be unreadable.
    async fn in_force(
        &self,
    ) -> Result<
        (
            Option<PolicyVersion>,
            Result<PolicyDocument, PolicyReadError>,
        ),
        PolicyReadError,
    > {
        let Some(version) = self.0.store.policy_in_force().await? else {
            return Ok((None, Ok(PolicyDocument::default())));
        };
        let document = match self.stored(version.number).await {
            Ok(Some(stored)) => Ok(stored.document),
            Ok(None) => Err(PolicyReadError::no_document(version.number)),
            Err(PolicyReadError::Store(error)) => return Err(error.into()),
            Err(unreadable) => Err(unreadable),
        };
        Ok((Some(version), document))
    }

    /// Returns the changes between two versions.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn difference(&self, from: u32, to: u32) -> Result<Vec<PolicyChange>, PolicyError> {
        let (from, to) = tokio::try_join!(self.state(Some(from)), self.state(Some(to)))?;
        Ok(PolicyDocument::difference(&from.document, &to.document))
    }

    /// Returns the number of the version in force, and the changes that `document` would make to it.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn check(
        &self,
        document: &PolicyDocument,
    ) -> Result<(u32, Vec<PolicyChange>), PolicyError> {
        let state = self.state(None).await?;
        let changes = PolicyDocument::difference(&state.document, document);
        Ok((state.number(), changes))
    }

    /// Returns a page of at most `limit` versions from `start` on, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(
        &self,
        limit: usize,
        start: Option<HistoryPosition>,
    ) -> Result<PolicyHistory, StoreError> {
        let store = self.0.store.admit_read()?;
        store.policy_history(limit, start).await
    }

    /// Puts a document in force as a new version, if the version in force is `expected`. A document equal to the one in
    /// force makes no new version, whatever is expected: a repeated request, whose first answer was lost, succeeds.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub async fn set(
        &self,
        document: PolicyDocument,
        expected: u32,
        reason: Option<Reason>,
        author: &Author,
    ) -> Result<PolicyState, PolicyError> {
        let Inner {
            store,
            clock,
            changing,
            ..
        } = &*self.0;
        let _turn = changing.lock().await;
        loop {
            let (before, old) = self.in_force().await?;
            // An unreadable version is replaced by any document.
            let changes = old.map(|old| PolicyDocument::difference(&old, &document));
            if changes.as_ref().is_ok_and(Vec::is_empty) {
                let version = before;
                return Ok(PolicyState { version, document });
            }
            let in_force = number(before.as_ref());
            if in_force != expected {
                return Err(PolicyError::Changed { in_force });
            }
            let after = StoredPolicy {
                version: PolicyVersion {
                    number: in_force.saturating_add(1),
                    author: Arc::clone(&author.name),
                    at: clock.now(),
                    reason: reason.clone(),
                },
                document: document.clone(),
            };
            let record = AuditRecord {
                reason: reason.clone(),
                before: Some(json!({ "version": in_force })),
                after: Some(summary(after.version.number, changes.ok().as_deref())),
                ..AuditRecord::done(
                    clock.now_ms(),
                    author.clone(),
                    AuditAction::SetPolicy,
                    AuditTarget::Policy,
                )
            };
            let write = store.change_policy(before.as_ref(), &after, &record);
            if write.await? {
                // If it fails, the next poll shows the change.
                let _ = self.refresh().await;
                return Ok(after.into());
            }
            // Another process was faster. Its version is in force now, which ends the loop.
        }
    }
}

impl From<StoredPolicy> for PolicyState {
    fn from(stored: StoredPolicy) -> Self {
        Self {
            version: Some(stored.version),
            document: stored.document,
        }
    }
}
