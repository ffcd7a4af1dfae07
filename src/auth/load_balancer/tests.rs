//! Tests of the verification with keys that are known. `tests/it/single_sign_on.rs` has those over HTTP.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{
    arbitrary::{self, header_value},
    clock::{ManualClock, UnixSeconds},
    domain::Role,
};

#[path = "../../../tests/it/support/signer.rs"]
#[allow(
    missing_docs,
    unreachable_pub,
    reason = "shared with the integration tests"
)]
mod signer;

use self::signer::{CLIENT_ID, ISSUER, SIGNER_ARN, TokenSigner};

const NOW: i64 = 1_795_000_000;

static SIGNER: LazyLock<TokenSigner> = LazyLock::new(TokenSigner::new);

/// The verification, which knows the key of [`SIGNER`] and has the time [`NOW`].
static LOAD_BALANCER: LazyLock<LoadBalancer> = LazyLock::new(|| {
    let entries = |text| RoleEntries::parse(text).unwrap();
    let config = LoadBalancerConfig {
        signer: SIGNER_ARN.to_owned(),
        issuer: Some(ISSUER.to_owned()),
        client_id: Some(CLIENT_ID.to_owned()),
        keys_url: "http://127.0.0.1:9".to_owned(),
        groups_claim: "groups".to_owned(),
        roles: RoleMap {
            admins: entries("email:jo@example.com"),
            operators: entries("group:platform-team"),
            viewers: entries("group:*"),
        },
    };
    let clock = Arc::new(ManualClock::new(UnixSeconds(NOW)));
    let load_balancer = LoadBalancer::new(config, clock, Metrics::new()).unwrap();
    let key = jsonwebtoken::DecodingKey::from_ec_pem(SIGNER.pem().as_bytes()).unwrap();
    let id = Uuid::parse_str(&SIGNER.key_id).unwrap();
    load_balancer.keys.keep(id, key);
    load_balancer
});

fn jo() -> Value {
    json!({"sub": "00u1", "email": "jo@example.com", "name": "Jo", "groups": ["staff"]})
}

fn verified(token: &str) -> Result<Principal, SignInError> {
    let verified = LOAD_BALANCER.verify_with_known_keys(token.as_bytes());
    verified.expect("the key is known")
}

#[test]
fn token_is_accepted_with_and_without_padding() {
    // One of these lengths needs two characters of padding, one needs one, and one none.
    for name in ["J", "Jo", "Jon"] {
        let (fields, mut claims) = (SIGNER.fields(NOW + 120), jo());
        claims["name"] = json!(name);
        for token in [
            SIGNER.token(&fields, &claims),
            SIGNER.token_without_padding(&fields, &claims),
        ] {
            let person = verified(&token).unwrap();
            assert_eq!(&*person.name, "jo@example.com");
            assert_eq!(person.roles, Role::Admin.into());
        }
    }
}

#[test]
fn padding_cannot_be_added_or_removed_after_the_signature() {
    let fields = SIGNER.fields(NOW + 120);
    let padded = SIGNER.token(&fields, &json!({"sub": "12345"}));
    assert!(padded.contains("=."), "{padded}");
    let error = verified(&padded.replace("=.", ".")).unwrap_err();
    assert_eq!(error, SignInError::WrongSignature);
}

#[test]
fn token_is_accepted_for_a_minute_after_its_expiry() {
    let week = 7 * 24 * 3600;
    for (exp, expected) in [
        (NOW - 60, Err(SignInError::Expired)),
        (NOW - 59, Ok(())),
        (NOW + week + 60, Ok(())),
        (NOW + week + 61, Err(SignInError::ExpiresTooLate)),
        (i64::MAX, Err(SignInError::ExpiresTooLate)),
        (i64::MIN, Err(SignInError::Expired)),
    ] {
        let token = SIGNER.token(&SIGNER.fields(exp), &jo());
        assert_eq!(verified(&token).map(drop), expected, "{exp}");
    }
}

#[test]
fn unexpected_field_is_refused_with_its_reason() {
    for (field, value, reason) in [
        ("alg", json!("none"), SignInError::WrongAlgorithm),
        ("alg", json!("HS256"), SignInError::WrongAlgorithm),
        ("alg", json!("es256"), SignInError::WrongAlgorithm),
        (
            "signer",
            json!(SIGNER_ARN.replace("broker", "other")),
            SignInError::WrongSigner,
        ),
        (
            "signer",
            json!(format!("{SIGNER_ARN}0")),
            SignInError::WrongSigner,
        ),
        ("iss", json!(format!("{ISSUER}/")), SignInError::WrongIssuer),
        ("client", json!("other"), SignInError::WrongClient),
        (
            "kid",
            json!("../../other-bucket/key"),
            SignInError::Malformed,
        ),
        ("kid", Value::Null, SignInError::Malformed),
        ("exp", json!("2030-01-01"), SignInError::Malformed),
        ("exp", Value::Null, SignInError::Malformed),
        ("crit", json!(["exp"]), SignInError::Malformed),
    ] {
        let mut fields = SIGNER.fields(NOW + 120);
        fields[field] = value;
        let token = SIGNER.token(&fields, &jo());
        assert_eq!(verified(&token).unwrap_err(), reason, "{fields}");
    }
    let unknown = TokenSigner::new();
    let token = unknown.token(&unknown.fields(NOW + 120), &jo());
    assert!(
        LOAD_BALANCER
            .verify_with_known_keys(token.as_bytes())
            .is_none()
    );
}

#[test]
fn header_longer_than_any_of_a_load_balancer_is_refused_unread() {
    let mut claims = jo();
    claims["groups"] = json!(vec!["x".repeat(100); 110]);
    let longest = SIGNER.token(&SIGNER.fields(NOW + 120), &claims);
    assert!(longest.len() > 15_000, "{}", longest.len());
    assert!(verified(&longest).is_ok());
    let longer = format!("{longest}{}", "=".repeat(16 * 1024 + 1 - longest.len()));
    assert_eq!(verified(&longer).unwrap_err(), SignInError::TooLong);
}

/// Texts that resemble tokens: three parts of base64url, some of JSON, some signed.
fn token_like() -> impl Strategy<Value = String> {
    let valid = SIGNER.token(&SIGNER.fields(NOW + 120), &jo());
    let parts: Vec<_> = valid.split('.').map(str::to_owned).collect();
    let (fields, signed) = (parts[0].clone(), valid);
    prop_oneof![
        "[A-Za-z0-9_=-]{0,80}(\\.[A-Za-z0-9_=-]{0,80}){0,4}",
        "[A-Za-z0-9_=-]{0,200}\\.[A-Za-z0-9_=-]{0,90}"
            .prop_map(move |rest| format!("{fields}.{rest}")),
        (any::<prop::sample::Index>(), "[ -~]").prop_map(move |(at, char)| {
            let mut text = signed.clone();
            let at = at.index(text.len());
            text.replace_range(at..=at, &char);
            text
        }),
    ]
}

proptest! {
    #[test]
    fn any_header_is_an_error(value in header_value()) {
        let read = LOAD_BALANCER.verify_with_known_keys(value.as_bytes());
        prop_assert!(matches!(read, Some(Err(_))));
    }

    #[test]
    fn altered_token_is_an_error_or_means_the_same(text in token_like()) {
        let valid = SIGNER.token(&SIGNER.fields(NOW + 120), &jo());
        let message = |text: &str| text.rsplit_once('.').map(|(message, _)| message.to_owned());
        match LOAD_BALANCER.verify_with_known_keys(text.as_bytes()) {
            Some(Ok(person)) => {
                prop_assert_eq!(&*person.name, "jo@example.com");
                prop_assert_eq!(message(&text), message(&valid));
            }
            Some(Err(_)) => {}
            // A character of the key's id was changed.
            None => prop_assert_ne!(message(&text), message(&valid)),
        }
    }

    #[test]
    fn any_signed_claims_are_a_safe_principal_or_an_error(
        mut claims in arbitrary::json(),
        sub in arbitrary::json(),
        email in arbitrary::json(),
        groups in arbitrary::json(),
    ) {
        if let Value::Object(fields) = &mut claims {
            fields.extend([("sub".to_owned(), sub), ("email".to_owned(), email), ("groups".to_owned(), groups)]);
        }
        let token = SIGNER.token(&SIGNER.fields(NOW + 120), &claims);
        if let Some(Ok(person)) = LOAD_BALANCER.verify_with_known_keys(token.as_bytes()) {
            prop_assert!((1..=256).contains(&person.name.len()) && person.name.contains('@'));
            prop_assert!(person.name.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert!(!person.roles.include(Role::Track));
        }
    }

    #[test]
    fn any_signed_fields_are_read_without_a_panic(fields in arbitrary::json()) {
        let token = SIGNER.token(&fields, &jo());
        let read = LOAD_BALANCER.verify_with_known_keys(token.as_bytes());
        prop_assert!(matches!(read, Some(Err(_))));
    }
}
