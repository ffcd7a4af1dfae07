//! The named tokens of the companion table, in memory: a request is checked without a call to the database.
//!
//! They are read on an interval, and when a request has an unknown token. While the table cannot be read, those last
//! read stay valid for [`KEPT_FOR`].

mod uses;

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::Duration,
};

use secrecy::SecretString;
use serde_json::json;
use subtle::ConstantTimeEq;
use thiserror::Error;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::uses::Uses;
use super::{
    Fingerprint, fingerprint,
    refresh::{RefreshRequest, RefreshSchedule},
    token_format,
};
use crate::{
    clock::Clock,
    domain::{
        AuditAction, AuditRecord, AuditTarget, Author, IssuedToken, Principal, Token, TokenGrant,
        TokenId,
    },
    shared::{read, write},
    store::{PoolStore, StoreError, StoredToken, TokenCreation, UnreadableToken},
    telemetry::{
        chain,
        metrics::{Metrics, gauge},
    },
};

/// The interval of reads: a third of the 30 s within which a revocation is in force on every broker, which thus also
/// holds if one read fails.
const INTERVAL: Duration = Duration::from_secs(10);
/// The time limit of a read, shorter than their interval.
const READ_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the tokens last read stay valid while the table cannot be read.
const KEPT_FOR: Duration = Duration::from_mins(15);
/// The maximum number of live tokens, which bounds the memory and the reads of every broker.
const MAX_LIVE: usize = 1000;
/// The maximum number of tokens, including those that were revoked or have expired and are still listed.
const MAX_LISTED: usize = 5000;

/// The named tokens. Cheap to clone; all clones share them.
#[derive(Clone, Debug)]
pub struct NamedTokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: PoolStore,
    known: RwLock<Known>,
    /// Held by a read until it has replaced `known`, and by a change of `known`: a read that began before the change
    /// must not undo it.
    changing: Mutex<()>,
    schedule: RefreshSchedule,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// The tokens as of the last read.
#[derive(Debug, Default)]
struct Known {
    tokens: HashMap<TokenId, KnownToken>,
    /// The unreadable items, each of which is logged once.
    unreadable: Vec<UnreadableToken>,
    /// When the last successful read began, as a time of [`Clock::monotonic`].
    read_at: Option<Duration>,
}

/// A token that was not revoked.
#[derive(Debug)]
struct KnownToken {
    fingerprint: Fingerprint,
    principal: Principal,
    uses: Arc<Uses>,
}

/// The reason why a token is not created or revoked.
#[derive(Debug, Error)]
pub enum TokenError {
    /// A live token has the name.
    #[error("a live token has this name")]
    NameTaken,
    /// There are too many tokens.
    #[error("there are too many tokens")]
    TooMany,
    /// There is no such token.
    #[error("no such token")]
    NotFound,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A token that was just created. Only now its secret is known.
#[derive(Clone, Debug)]
pub struct CreatedToken {
    /// The token.
    pub token: Token,
    /// The text that its holder sends.
    pub secret: SecretString,
}

impl NamedTokens {
    /// Creates the registry without any token. [`refresh`](Self::refresh) and [`run`](Self::run) read them.
    #[must_use]
    pub fn new(store: PoolStore, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            store,
            known: RwLock::default(),
            changing: Mutex::default(),
            schedule: RefreshSchedule::default(),
            clock,
            metrics,
        }))
    }

    /// Returns the principal of the token with this id and fingerprint, if it is known to be valid.
    pub(super) fn principal_of(&self, id: &str, presented: &Fingerprint) -> Option<Principal> {
        let clock = &self.0.clock;
        let known = read(&self.0.known);
        let token = known.tokens.get(id)?;
        let is_same = bool::from(token.fingerprint.ct_eq(presented));
        let is_recent = |at: Duration| clock.monotonic().saturating_sub(at) < KEPT_FOR;
        let now = clock.now();
        let expires_at = token.principal.token.as_ref()?.expires_at;
        let is_live = expires_at.is_none_or(|end| now < end);
        if !(is_same && is_live && known.read_at.is_some_and(is_recent)) {
            return None;
        }
        token.uses.note(now);
        Some(token.principal.clone())
    }

    /// Returns a handle that requests reads of the tokens.
    #[must_use]
    pub(super) fn refresh_request(&self) -> RefreshRequest {
        self.0.schedule.handle()
    }

    /// Reads the tokens. If that fails, those last read stay valid for a while; the failure is logged.
    pub async fn refresh(&self) {
        let inner = &*self.0;
        let _turn = inner.changing.lock().await;
        let (began, read_at) = (Instant::now(), inner.clock.monotonic());
        let tokens = timeout(READ_TIMEOUT, inner.store.tokens())
            .await
            .unwrap_or_else(|_| Err(StoreError::timed_out("Query")));
        let outcome = match tokens {
            Ok(tokens) => {
                self.replace(tokens, read_at);
                let now = inner.clock.now();
                inner.metrics.tokens_read.set(gauge(now.0));
                "success"
            }
            Err(error) => {
                tracing::warn!(
                    cause = chain(&error),
                    "named tokens could not be read; those last read stay valid for 15 minutes"
                );
                "error"
            }
        };
        let refreshes = &inner.metrics.token_refreshes;
        refreshes.with_label_values(&[outcome]).inc();
        inner.schedule.complete(began);
    }

    fn replace(&self, tokens: Vec<Result<StoredToken, UnreadableToken>>, read_at: Duration) {
        let mut next = Known {
            read_at: Some(read_at),
            ..Known::default()
        };
        let known = read(&self.0.known);
        for token in tokens {
            match token {
                Ok(stored) if stored.token.revoked_at.is_none() => {
                    let before = known.tokens.get(&stored.token.id);
                    let uses = before.map(|token| Arc::clone(&token.uses));
                    let token = KnownToken::new(&stored, uses.unwrap_or_default());
                    next.tokens.insert(stored.token.id, token);
                }
                Ok(_) => {}
                Err(item) => {
                    if !known.unreadable.contains(&item) {
                        tracing::warn!(
                            token = item.id,
                            fault = item.fault,
                            "unreadable token is not valid"
                        );
                    }
                    next.unreadable.push(item);
                }
            }
        }
        drop(known);
        let before = std::mem::replace(&mut *write(&self.0.known), next);
        // Not while requests wait for the lock.
        drop(before);
    }

    /// Reads the tokens on their interval and on request, and records their uses, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let refreshes = async {
            let mut last = Instant::now();
            loop {
                self.0.schedule.due(last, INTERVAL).await;
                last = Instant::now();
                self.refresh().await;
            }
        };
        // Apart from the reads, which must not wait for a write.
        let uses = async {
            loop {
                sleep(INTERVAL).await;
                Box::pin(self.record_uses()).await;
            }
        };
        stop.run_until_cancelled(async {
            tokio::join!(refreshes, uses);
        })
        .await;
    }

    /// Records the uses of tokens since the last call.
    async fn record_uses(&self) {
        let used: Vec<_> = {
            let known = read(&self.0.known);
            let tokens = known.tokens.iter();
            tokens
                .filter(|(_, token)| token.uses.is_pending())
                .map(|(id, token)| (id.clone(), Arc::clone(&token.uses)))
                .collect()
        };
        for (id, uses) in used {
            let Some(at) = uses.take() else { continue };
            if let Err(error) = self.0.store.record_token_use(&id, at).await {
                tracing::warn!(
                    token = id.as_str(),
                    cause = chain(&error),
                    "use of a token could not be recorded"
                );
                // The others are recorded later.
                return;
            }
        }
    }

    /// Returns every token, newest first, also revoked and expired ones. Unreadable items are left out; they are logged.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self) -> Result<Vec<Token>, StoreError> {
        let stored = self.0.store.admit_read()?.tokens().await?;
        let mut tokens: Vec<_> = stored
            .into_iter()
            .filter_map(|stored| Some(stored.ok()?.token))
            .collect();
        tokens.sort_by(|a, b| {
            let newest_first = b.created_at.cmp(&a.created_at);
            newest_first.then_with(|| a.grant.name.cmp(&b.grant.name))
        });
        Ok(tokens)
    }

    /// Creates a token. It is valid on this broker at once, and on others from the first request that has it.
    ///
    /// # Errors
    /// [`TokenError::NameTaken`], [`TokenError::TooMany`], [`TokenError::Store`].
    pub async fn create(
        &self,
        grant: TokenGrant,
        author: &Author,
    ) -> Result<CreatedToken, TokenError> {
        let inner = &*self.0;
        let now = inner.clock.now();
        let stored = inner.store.tokens().await?;
        let is_live =
            |stored: &Result<StoredToken, _>| stored.as_ref().is_ok_and(|it| it.token.is_live(now));
        // Each concurrent creation may exceed the limits by one.
        let live = stored.iter().filter(|stored| is_live(stored)).count();
        if live >= MAX_LIVE || stored.len() >= MAX_LISTED {
            return Err(TokenError::TooMany);
        }
        let id = TokenId::new(rand::random());
        let secret = token_format::generate(&id);
        let stored = StoredToken {
            fingerprint: fingerprint(&secret),
            token: Token {
                id,
                grant,
                created_by: author.name.to_string(),
                created_at: now,
                revoked_at: None,
                revoked_by: None,
                last_used_at: None,
            },
        };
        let record = self.record(AuditAction::CreateToken, &stored.token, author);
        match inner.store.create_token(&stored, &record, now).await? {
            TokenCreation::NameTaken => Err(TokenError::NameTaken),
            TokenCreation::Created => {
                let known = KnownToken::new(&stored, Arc::default());
                let _turn = inner.changing.lock().await;
                let mut registry = write(&inner.known);
                registry.tokens.insert(stored.token.id.clone(), known);
                Ok(CreatedToken {
                    token: stored.token,
                    secret: secret.into(),
                })
            }
        }
    }

    /// Revokes a token and returns it. Revoking it again changes nothing. It is refused by this broker at once, by others
    /// after their next read.
    ///
    /// # Errors
    /// [`TokenError::NotFound`], [`TokenError::Store`].
    pub async fn revoke(&self, id: &TokenId, author: &Author) -> Result<Token, TokenError> {
        let inner = &*self.0;
        let token = inner.store.token(id).await?.ok_or(TokenError::NotFound)?;
        let now = inner.clock.now();
        let revoked = Token {
            revoked_at: Some(now),
            revoked_by: Some(author.name.to_string()),
            ..token.clone()
        };
        let record = AuditRecord {
            before: Some(described(&token)),
            ..self.record(AuditAction::RevokeToken, &revoked, author)
        };
        let is_revoked_now = token.revoked_at.is_none()
            && inner
                .store
                .revoke_token(&token, &author.name, &record, now)
                .await?;
        {
            let _turn = inner.changing.lock().await;
            write(&inner.known).tokens.remove(id);
        }
        if is_revoked_now {
            return Ok(revoked);
        }
        inner.store.token(id).await?.ok_or(TokenError::NotFound)
    }

    fn record(&self, action: AuditAction, token: &Token, author: &Author) -> AuditRecord {
        let target = AuditTarget::Token(token.id.to_string());
        AuditRecord {
            after: Some(described(token)),
            ..AuditRecord::done(self.0.clock.now_ms(), author.clone(), action, target)
        }
    }
}

impl KnownToken {
    fn new(stored: &StoredToken, uses: Arc<Uses>) -> Self {
        let StoredToken { token, fingerprint } = stored;
        if let Some(at) = token.last_used_at {
            uses.note_recorded(at);
        }
        Self {
            fingerprint: *fingerprint,
            principal: Principal {
                name: Arc::clone(&token.grant.name),
                roles: token.grant.role.into(),
                bounds: Arc::new(token.grant.bounds.clone()),
                token: Some(IssuedToken {
                    id: token.id.clone(),
                    expires_at: token.grant.expires_at,
                }),
            },
            uses,
        }
    }
}

/// Returns the state of a token for an audit record.
fn described(token: &Token) -> serde_json::Value {
    let TokenGrant {
        name,
        role,
        bounds,
        expires_at,
    } = &token.grant;
    json!({
        "name": &**name,
        "role": role,
        "labs": bounds.labs,
        "name_prefixes": bounds.name_prefixes,
        "expires_at": expires_at,
        "revoked_at": token.revoked_at,
    })
}
