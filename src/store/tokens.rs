//! Named tokens: one item for each, and one for the name of each, which keeps names unique among live tokens.
//!
//! A token and its audit record are written in one transaction. Revoked and expired tokens are listed for a while.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{
        CancellationReason, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
        Update,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{
    PoolStore, StoreError,
    error::{is_failed_check, is_failed_condition},
    item::{self, Item, ItemFault, number, string},
    scan::ITEMS_PER_PAGE,
    transaction::{OPERATION, Transaction},
};
use crate::{
    clock::UnixSeconds,
    domain::{AuditRecord, Bounds, Role, Token, TokenGrant, TokenId},
};

const PARTITION: &str = "TOKENS";
const NAMES: &str = "TOKEN_NAMES";
/// How long tokens are listed after their revocation or expiry.
const LISTED_AFTER_END: Duration = Duration::from_hours(30 * 24);

/// The SHA-256 of a token.
pub type TokenFingerprint = [u8; 32];

/// A token with its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// The token, without its secret.
    pub token: Token,
    /// The fingerprint of the whole token, including the secret.
    pub fingerprint: TokenFingerprint,
}

/// An item of a token that is no valid one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnreadableToken {
    /// The id in its key.
    pub id: String,
    /// Its fault.
    pub fault: String,
}

/// The outcome of the creation of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenCreation {
    /// The token was created.
    Created,
    /// A live token has its name.
    NameTaken,
}

/// The attributes of a token. The bounds are always present, so that none get lost unnoticed.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    name: String,
    /// In base64url.
    sha256: String,
    role: Role,
    labs: Vec<String>,
    name_prefixes: Vec<String>,
    created_by: String,
    created_at: UnixSeconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<UnixSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<UnixSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<UnixSeconds>,
}

impl From<&StoredToken> for Row {
    fn from(stored: &StoredToken) -> Self {
        let StoredToken { token, fingerprint } = stored;
        Self {
            name: token.grant.name.to_string(),
            sha256: URL_SAFE_NO_PAD.encode(fingerprint),
            role: token.grant.role,
            labs: token.grant.bounds.labs.clone(),
            name_prefixes: token.grant.bounds.name_prefixes.clone(),
            created_by: token.created_by.clone(),
            created_at: token.created_at,
            expires_at: token.grant.expires_at,
            revoked_at: token.revoked_at,
            revoked_by: token.revoked_by.clone(),
            last_used_at: token.last_used_at,
        }
    }
}

fn token_key(id: &TokenId) -> Item {
    item::key(PARTITION.to_owned(), id.as_str())
}

fn name_key(name: &str) -> Item {
    item::key(NAMES.to_owned(), name)
}

fn read_token(item: Item) -> Result<StoredToken, UnreadableToken> {
    let key = item.get("SK").and_then(|key| key.as_s().ok()).cloned();
    let id = key.unwrap_or_default();
    let unreadable = |fault: ItemFault| UnreadableToken {
        id: id.clone(),
        fault: fault.to_string(),
    };
    let row: Row = serde_dynamo::aws_sdk_dynamodb_1::from_item(item)
        .map_err(|fault| unreadable(fault.into()))?;
    let fingerprint = URL_SAFE_NO_PAD.decode(&row.sha256).ok();
    let fingerprint = fingerprint
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| unreadable(ItemFault::value("sha256", "is not a SHA-256 in base64url")))?;
    let token_id = TokenId::parse(&id)
        .ok_or_else(|| unreadable(ItemFault::value("SK", "is not the id of a token")))?;
    Ok(StoredToken {
        token: Token {
            id: token_id,
            grant: TokenGrant {
                name: row.name.into(),
                role: row.role,
                bounds: Bounds {
                    labs: row.labs,
                    name_prefixes: row.name_prefixes,
                },
                expires_at: row.expires_at,
            },
            created_by: row.created_by,
            created_at: row.created_at,
            revoked_at: row.revoked_at,
            revoked_by: row.revoked_by,
            last_used_at: row.last_used_at,
        },
        fingerprint,
    })
}

fn build_error(fault: BuildError) -> StoreError {
    StoreError::unexpected(OPERATION, fault)
}

impl PoolStore {
    /// Reads every token, also revoked and expired ones, strongly consistent. An unreadable item does not affect the
    /// others.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tokens(&self) -> Result<Vec<Result<StoredToken, UnreadableToken>>, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table.companion)
            .limit(self.reads.page_of(ITEMS_PER_PAGE))
            .consistent_read(true)
            .key_condition_expression("PK = :tokens")
            .expression_attribute_values(":tokens", string(PARTITION));
        self.collect(query, |item| Some(read_token(item))).await
    }

    /// Reads a token, strongly consistent. `None` if it does not exist or its item is unreadable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn token(&self, id: &TokenId) -> Result<Option<Token>, StoreError> {
        let item = self.get_item(&self.table.companion, token_key(id)).await?;
        Ok(item.and_then(|item| Some(read_token(item).ok()?.token)))
    }

    /// Creates a token with its audit record, unless a live token has its name.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the token was created is then unknown.
    pub async fn create_token(
        &self,
        stored: &StoredToken,
        record: &AuditRecord,
        now: UnixSeconds,
    ) -> Result<TokenCreation, StoreError> {
        let put_token = self.put_token(stored)?;
        let put_name = self.put_name(&stored.token, now).map_err(build_error)?;
        let mut actions = vec![
            TransactWriteItem::builder().put(put_token).build(),
            TransactWriteItem::builder().put(put_name).build(),
        ];
        actions.extend(self.audit_actions(record)?);
        let reasons = match self.transact(actions).await? {
            Transaction::Done => return Ok(TokenCreation::Created),
            Transaction::Refused(reasons) => reasons,
        };
        // If the answer to the SDK's first attempt was lost, its retry finds the name of this very token.
        match reasons.get(1).filter(|reason| is_failed_check(reason)) {
            Some(name) if names_token(name, &stored.token.id) => Ok(TokenCreation::Created),
            Some(_) => Ok(TokenCreation::NameTaken),
            None => Err(StoreError::unexpected(
                OPERATION,
                "the id of the new token is taken",
            )),
        }
    }

    fn put_token(&self, stored: &StoredToken) -> Result<Put, StoreError> {
        let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(Row::from(stored))
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        item.extend(token_key(&stored.token.id));
        item.extend(ttl_after(stored.token.grant.expires_at));
        Put::builder()
            .table_name(&self.table.companion)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(PK)")
            .build()
            .map_err(build_error)
    }

    /// The name of an expired token is free for another one. A revocation removes the name.
    fn put_name(&self, token: &Token, now: UnixSeconds) -> Result<Put, BuildError> {
        let mut item = name_key(&token.grant.name);
        item.insert("token_id".to_owned(), string(token.id.as_str()));
        if let Some(end) = token.grant.expires_at {
            item.insert("expires_at".to_owned(), number(end.0));
        }
        item.extend(ttl_after(token.grant.expires_at));
        Put::builder()
            .table_name(&self.table.companion)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(PK) OR expires_at <= :now")
            .expression_attribute_values(":now", number(now.0))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
    }

    /// Revokes a token with its audit record, and frees its name. Returns whether this call revoked it: not if it was
    /// revoked before, or no longer exists.
    ///
    /// # Errors
    /// [`StoreError`]. Whether the token was revoked is then unknown; a retry is safe.
    pub async fn revoke_token(
        &self,
        token: &Token,
        by: &str,
        record: &AuditRecord,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        for frees_name in [true, false] {
            let revoke = self.revocation(&token.id, by, now).map_err(build_error)?;
            let mut actions = vec![TransactWriteItem::builder().update(revoke).build()];
            if frees_name {
                let delete = self.removal_of_name(token).map_err(build_error)?;
                actions.push(TransactWriteItem::builder().delete(delete).build());
            }
            actions.extend(self.audit_actions(record)?);
            match self.transact(actions).await? {
                Transaction::Done => return Ok(true),
                Transaction::Refused(reasons) if reasons.first().is_some_and(is_failed_check) => {
                    return Ok(false);
                }
                // The token has expired, and its name is free or belongs to another token.
                Transaction::Refused(_) => {}
            }
        }
        Err(StoreError::unexpected(
            OPERATION,
            "a condition of the revocation failed that it does not have",
        ))
    }

    fn revocation(&self, id: &TokenId, by: &str, now: UnixSeconds) -> Result<Update, BuildError> {
        Update::builder()
            .table_name(&self.table.companion)
            .set_key(Some(token_key(id)))
            .update_expression("SET revoked_at = :now, revoked_by = :by, #ttl = :ttl")
            .condition_expression("attribute_exists(PK) AND attribute_not_exists(revoked_at)")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":by", string(by))
            .expression_attribute_values(":ttl", number((now + LISTED_AFTER_END).0))
            .build()
    }

    fn removal_of_name(&self, token: &Token) -> Result<Delete, BuildError> {
        Delete::builder()
            .table_name(&self.table.companion)
            .set_key(Some(name_key(&token.grant.name)))
            .condition_expression("token_id = :id")
            .expression_attribute_values(":id", string(token.id.as_str()))
            .build()
    }

    /// Records that a token was used. A token that no longer exists is not recreated.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_token_use(&self, id: &TokenId, at: UnixSeconds) -> Result<(), StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table.companion)
            .set_key(Some(token_key(id)))
            .update_expression("SET last_used_at = :at")
            .condition_expression("attribute_exists(PK)")
            .expression_attribute_values(":at", number(at.0));
        match self.update_item(update).await {
            Err(error) if !is_failed_condition(&error) => {
                Err(StoreError::from_sdk("UpdateItem", error))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the TTL of an item that is kept for a while after `end`; none without an end.
fn ttl_after(end: Option<UnixSeconds>) -> Item {
    let ttl = end.map(|end| ("ttl".to_owned(), number((end + LISTED_AFTER_END).0)));
    ttl.into_iter().collect()
}

/// Returns whether the stored item of a name, which a failed check returned, names this token.
fn names_token(reason: &CancellationReason, id: &TokenId) -> bool {
    reason
        .item()
        .and_then(|item| item.get("token_id"))
        .and_then(|value| value.as_s().ok())
        .is_some_and(|stored| stored == id.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::corrupted;

    fn stored() -> StoredToken {
        StoredToken {
            token: Token {
                id: TokenId::new(7),
                grant: TokenGrant {
                    name: "lab-team".into(),
                    role: Role::Track,
                    bounds: Bounds {
                        labs: vec!["cloud-security-101".into()],
                        name_prefixes: vec!["lab-".into()],
                    },
                    expires_at: Some(UnixSeconds(9)),
                },
                created_by: "env-admin".into(),
                created_at: UnixSeconds(1),
                revoked_at: Some(UnixSeconds(2)),
                revoked_by: Some("env-admin".into()),
                last_used_at: Some(UnixSeconds(3)),
            },
            fingerprint: [5; 32],
        }
    }

    fn item(stored: &StoredToken) -> Item {
        let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(Row::from(stored)).unwrap();
        item.extend(token_key(&stored.token.id));
        item
    }

    #[test]
    fn token_reads_back() {
        assert_eq!(read_token(item(&stored())), Ok(stored()));
    }

    #[test]
    fn token_that_has_lost_its_bounds_is_unreadable() {
        for attribute in ["labs", "name_prefixes", "role", "sha256"] {
            let mut item = item(&stored());
            item.remove(attribute);
            let fault = read_token(item).unwrap_err();
            assert_eq!(fault.id, TokenId::new(7).as_str());
            assert!(fault.fault.contains(attribute), "{}", fault.fault);
        }
    }

    proptest! {
        #[test]
        fn any_item_is_a_token_or_unreadable(item in corrupted(item(&stored()))) {
            if let Ok(read) = read_token(item) {
                prop_assert!(TokenId::is_valid(read.token.id.as_str()));
            }
        }
    }
}
