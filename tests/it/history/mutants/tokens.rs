//! Named tokens that are created, revoked and used with outdated knowledge.

use futures_util::FutureExt;
use sandbox_broker::{
    clock::UnixSeconds,
    domain::{
        AuditAction, AuditRecord, AuditTarget, Author, Bounds, Role, Token, TokenGrant, TokenId,
    },
    store::{PoolStore, StoreError, StoredToken, TokenCreation},
};

use super::stage::{HOUR, Outcome, Scenario, Stage, must, scenario};
use crate::support::{START, key};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        scenario("a new token overwrites no other one", |stage| {
            new(stage).boxed()
        }),
        scenario("a name belongs to one live token", |stage| {
            named(stage).boxed()
        }),
        scenario("a token is revoked once", |stage| once(stage).boxed()),
        scenario("a removed token is not revoked", |stage| {
            removed(stage).boxed()
        }),
        scenario(
            "a revocation frees no name that is another token's by now",
            |stage| expired(stage).boxed(),
        ),
        scenario("a use does not create a token", |stage| used(stage).boxed()),
    ]
}

fn token(id: u64, name: &str) -> Token {
    Token {
        id: TokenId::new(id),
        grant: TokenGrant {
            name: name.into(),
            role: Role::Viewer,
            bounds: Bounds::default(),
            expires_at: None,
        },
        created_by: "admin".to_owned(),
        created_at: START,
        revoked_at: None,
        revoked_by: None,
        last_used_at: None,
    }
}

fn record(token: &Token) -> AuditRecord {
    let author = Author {
        name: "admin".into(),
        role: Some(Role::Admin),
        request_id: "request".to_owned(),
        address: None,
    };
    let target = AuditTarget::Token(token.id.to_string());
    AuditRecord::done(START.0 * 1000, author, AuditAction::CreateToken, target)
}

async fn create(
    store: &PoolStore,
    token: &Token,
    now: UnixSeconds,
) -> Result<TokenCreation, StoreError> {
    let stored = StoredToken {
        token: token.clone(),
        fingerprint: [0; 32],
    };
    store.create_token(&stored, &record(token), now).await
}

async fn revoke(stage: &Stage, token: &Token, by: &str) -> bool {
    let record = record(token);
    let revoked = stage.store.revoke_token(token, by, &record, START);
    revoked.await.unwrap()
}

async fn new(stage: Stage) -> Outcome {
    let first = token(1, "first");
    create(&stage.store, &first, START).await.unwrap();
    let second = create(&stage.store, &token(1, "second"), START).await;
    must(second.is_err(), "a token was overwritten")?;
    let stored = stage.pool.store.token(&first.id).await.unwrap();
    must(stored == Some(first), "the first token is gone")
}

async fn named(stage: Stage) -> Outcome {
    create(&stage.store, &token(1, "team"), START)
        .await
        .unwrap();
    let second = create(&stage.store, &token(2, "team"), START).await;
    must(
        second.unwrap() == TokenCreation::NameTaken,
        "two live tokens have one name",
    )
}

async fn once(stage: Stage) -> Outcome {
    let token = token(1, "team");
    create(&stage.pool.store, &token, START).await.unwrap();
    must(revoke(&stage, &token, "first").await, "not revoked")?;
    must(!revoke(&stage, &token, "second").await, "revoked twice")?;
    let stored = stage.pool.store.token(&token.id).await.unwrap().unwrap();
    must(
        stored.revoked_by.as_deref() == Some("first"),
        "the record of the revocation was overwritten",
    )
}

async fn removed(stage: Stage) -> Outcome {
    let token = token(1, "team");
    create(&stage.pool.store, &token, START).await.unwrap();
    let delete = stage.pool.client.delete_item();
    let delete = delete.table_name(&stage.pool.companion);
    let delete = delete.set_key(Some(key("TOKENS", token.id.as_str())));
    delete.send().await.unwrap();
    must(
        !revoke(&stage, &token, "admin").await,
        "a removed token was revoked",
    )
}

async fn expired(stage: Stage) -> Outcome {
    let mut first = token(1, "team");
    first.grant.expires_at = Some(START + HOUR);
    for (token, now) in [(&first, START), (&token(2, "team"), START + HOUR)] {
        let created = create(&stage.pool.store, token, now).await.unwrap();
        assert_eq!(created, TokenCreation::Created);
    }
    must(revoke(&stage, &first, "admin").await, "not revoked")?;
    let third = create(&stage.pool.store, &token(3, "team"), START + HOUR).await;
    must(
        third.unwrap() == TokenCreation::NameTaken,
        "the name of a live token was freed",
    )
}

async fn used(stage: Stage) -> Outcome {
    let unknown = TokenId::new(1);
    let noted = stage.store.record_token_use(&unknown, START).await;
    noted.unwrap();
    let tokens = stage.pool.store.tokens().await.unwrap();
    must(tokens.is_empty(), "a use created a token")
}
