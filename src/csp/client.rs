//! The part of the CSP API that the broker uses.

use std::{collections::HashSet, fmt, time::Duration};

use reqwest::{RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::Value;
use thiserror::Error;
use tokio::time::Instant;
use tracing::Instrument;

use crate::{
    clock::UnixSeconds,
    csp::CspConfig,
    domain::{Account, SandboxId},
    shared::Shared,
    telemetry::{
        TRACE,
        metrics::{Metrics, observe_call},
        trace_headers,
    },
    url::is_loopback_url,
};

/// The largest answer that is read, in bytes: a list of some 200,000 accounts.
const MAX_ANSWER: usize = 64 << 20;
/// A longer `Retry-After` is taken for a mistake.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);
/// The longest name or id of an account that is kept, in bytes. The table takes no item of more than 400 KB, and no
/// transaction with one.
const MAX_TEXT: usize = 1024;
/// The longest that one call may take as a whole.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);

/// A CSP call failed.
#[derive(Debug, Error)]
pub enum CspError {
    /// No answer, a broken one, a server error, or something that is not CSP in front of it. May pass.
    #[error("CSP is unavailable: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// The HTTP client's account of it.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// Too many requests.
    #[error("CSP limits the rate of requests")]
    RateLimited {
        /// How long CSP asks to wait, if it says.
        retry_after: Option<Duration>,
    },
    /// The API token is not accepted. Nothing will work until it is replaced.
    #[error(
        "CSP refuses the API token (HTTP {status}); CSP_API_TOKEN must be valid for the account"
    )]
    Unauthorized {
        /// 401 or 403.
        status: u16,
    },
    /// The account's id cannot be part of a URL, so no request was made.
    #[error("the account id {external_id:?} is not of the form identity/accounts/<uuid>")]
    InvalidId {
        /// The id.
        external_id: String,
    },
    /// The request is refused for good.
    #[error("CSP refuses the request (HTTP {status})")]
    Rejected {
        /// The status code.
        status: u16,
    },
}

impl CspError {
    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            source: None,
        }
    }

    /// How long CSP asks to wait, if it says.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// In one word, for metrics.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unauthorized { .. } => "unauthorized",
            Self::InvalidId { .. } | Self::Rejected { .. } => "rejected",
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::RateLimited { .. })
    }
}

/// An HTTP client with time-outs.
///
/// # Errors
/// [`CspError::Unavailable`] if the machine has no usable TLS set-up.
pub(super) fn http_client(
    base_url: &str,
    connect: Duration,
    read: Duration,
) -> Result<reqwest::Client, CspError> {
    let builder = reqwest::Client::builder();
    // A proxy from the environment leads away from this machine.
    let builder = if is_loopback_url(base_url) {
        builder.no_proxy()
    } else {
        builder
    };
    Ok(builder
        .connect_timeout(connect)
        .read_timeout(read)
        .timeout(CALL_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("sandbox-broker/", env!("CARGO_PKG_VERSION")))
        .build()?)
}

impl From<reqwest::Error> for CspError {
    fn from(error: reqwest::Error) -> Self {
        let reason = if error.is_timeout() {
            "no answer in time"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the answer broke off"
        };
        // The URL holds no secret, but it is the operator's, not the reader's of an error.
        Self::Unavailable {
            reason: reason.to_owned(),
            source: Some(error.without_url()),
        }
    }
}

/// What CSP lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountList {
    /// The active sandbox accounts, one for each id.
    pub accounts: Vec<Account>,
    /// Ids of entries that are broken otherwise: they are listed, so their sandboxes are not gone.
    pub broken: HashSet<SandboxId>,
    /// Entries that were skipped because they are broken.
    pub skipped: usize,
    /// Entries that were skipped because their id had been listed before.
    pub duplicates: usize,
}

/// A client of one CSP account.
#[derive(Clone, Debug)]
pub struct CspClient {
    http: reqwest::Client,
    base_url: String,
    token: Shared<SecretString>,
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "read_entries")]
    results: AccountList,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    name: String,
    csp_id: Value,
    account_type: String,
    state: String,
    created_at: Option<String>,
    sfdc_account_id: Option<String>,
}

impl CspClient {
    /// A client for the CSP at `base_url`.
    ///
    /// # Errors
    /// [`CspError::Unavailable`] if the machine has no usable TLS set-up.
    pub fn new(
        config: &CspConfig,
        base_url: &str,
        token: Shared<SecretString>,
        metrics: Metrics,
    ) -> Result<Self, CspError> {
        let http = http_client(base_url, config.connect_timeout, config.read_timeout)?;
        Ok(Self {
            http,
            base_url: base_url.to_owned(),
            token,
            metrics,
        })
    }

    /// The accounts that the token's owner may use: active sandboxes only.
    ///
    /// # Errors
    /// [`CspError`].
    pub async fn list_accounts(&self) -> Result<AccountList, CspError> {
        observed(&self.metrics, "list", async {
            let request = self
                .http
                .get(format!("{}/current_user/accounts", self.base_url));
            let body = read_body(checked(self.send(request).await?)?).await?;
            let answer: Answer = serde_json::from_slice(&body).map_err(|fault| {
                CspError::unavailable(format!(
                    "the account list is no JSON of the agreed form: {fault}"
                ))
            })?;
            Ok(answer.results)
        })
        .await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CspError> {
        let request = request
            .header(header::AUTHORIZATION, self.authorization()?)
            .header(header::ACCEPT, "application/json")
            .headers(trace_headers());
        Ok(request.send().await?)
    }

    /// Deletes an account; one that is gone already counts as deleted.
    ///
    /// # Errors
    /// [`CspError`].
    pub async fn delete_account(&self, external_id: &str) -> Result<(), CspError> {
        let uuid = uuid_of(external_id)?;
        observed(&self.metrics, "delete", async {
            let request = self
                .http
                .delete(format!("{}/sandbox/accounts/{uuid}", self.base_url));
            let answer = self.send(request).await?;
            if answer.status() == StatusCode::NOT_FOUND {
                return Ok(());
            }
            // A 200 with a web page comes from something in front of CSP, which has not deleted anything.
            let body = read_body(checked(answer)?).await?;
            if body.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
                Ok(())
            } else {
                Err(CspError::unavailable("the answer to a deletion is no JSON"))
            }
        })
        .await
    }

    fn authorization(&self) -> Result<header::HeaderValue, CspError> {
        let mut value =
            header::HeaderValue::try_from(format!("Token {}", self.token.get().expose_secret()))
                .map_err(|_| CspError::Unauthorized {
                    status: StatusCode::UNAUTHORIZED.as_u16(),
                })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// The last part of a resource id, if it can be part of a URL and lead nowhere else.
pub(super) fn uuid_of(resource: &str) -> Result<&str, CspError> {
    let uuid = resource.rsplit('/').next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if uuid.is_empty() || !uuid.bytes().all(is_plain) {
        return Err(CspError::InvalidId {
            external_id: resource.to_owned(),
        });
    }
    Ok(uuid)
}

/// Counts, times and traces a call.
pub(super) async fn observed<T>(
    metrics: &Metrics,
    operation: &'static str,
    call: impl Future<Output = Result<T, CspError>>,
) -> Result<T, CspError> {
    let span = tracing::info_span!(
        target: TRACE, "csp", otel.name = operation, otel.kind = "client", outcome = tracing::field::Empty
    );
    let began = Instant::now();
    let result = call.instrument(span.clone()).await;
    let outcome = result.as_ref().err().map_or("success", CspError::outcome);
    span.record("outcome", outcome);
    metrics
        .csp_calls
        .with_label_values(&[operation, outcome])
        .inc();
    observe_call(
        &metrics.csp_call_duration,
        operation,
        outcome,
        began.elapsed(),
    );
    result
}

/// Sorts an answer by its status code.
pub(super) fn checked(answer: Response) -> Result<Response, CspError> {
    let status = answer.status();
    match status {
        _ if status.is_success() => Ok(answer),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(CspError::Unauthorized {
            status: status.as_u16(),
        }),
        StatusCode::TOO_MANY_REQUESTS => Err(CspError::RateLimited {
            retry_after: retry_after(&answer),
        }),
        StatusCode::REQUEST_TIMEOUT => Err(CspError::unavailable("HTTP 408")),
        _ if status.is_server_error() || status.is_redirection() => {
            Err(CspError::unavailable(format!("HTTP {}", status.as_u16())))
        }
        _ => Err(CspError::Rejected {
            status: status.as_u16(),
        }),
    }
}

/// `Retry-After` in seconds; CSP does not send the form with a date.
fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim()
        .parse()
        .ok()
        .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

pub(super) async fn read_body(mut answer: Response) -> Result<Vec<u8>, CspError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(CspError::unavailable(format!(
                "the answer is larger than {MAX_ANSWER} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Sorts the entries one after the other: all of them as JSON would take several times the memory of the answer.
fn read_entries<'de, D: Deserializer<'de>>(answer: D) -> Result<AccountList, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = AccountList;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of accounts")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<AccountList, A::Error> {
            let mut list = AccountList::default();
            let mut seen = HashSet::new();
            while let Some(entry) = entries.next_element()? {
                list.take(entry, &mut seen);
            }
            Ok(list)
        }
    }

    answer.deserialize_seq(Entries)
}

impl AccountList {
    fn take(&mut self, entry: Value, seen: &mut HashSet<SandboxId>) {
        let id = entry.get("csp_id").and_then(read_id);
        match read_entry(entry) {
            Ok(None) => {}
            Ok(Some(account)) if seen.insert(account.sandbox_id.clone()) => {
                self.accounts.push(account);
            }
            Ok(Some(_)) => self.duplicates += 1,
            Err(fault) => {
                tracing::warn!(
                    csp_id = id.as_ref().map(SandboxId::as_str),
                    fault,
                    "skipped a broken CSP account"
                );
                self.skipped += 1;
                self.broken.extend(id);
            }
        }
    }
}

/// `None` for an account that is no active sandbox.
fn read_entry(entry: Value) -> Result<Option<Account>, String> {
    let entry: Entry = serde_json::from_value(entry).map_err(|fault| fault.to_string())?;
    if entry.account_type != "sandbox" || entry.state != "active" {
        return Ok(None);
    }
    let name = entry.name.trim();
    if name.is_empty() || entry.id.trim().is_empty() {
        return Err("the name or the id is empty".to_owned());
    }
    if name.len() > MAX_TEXT || entry.id.len() > MAX_TEXT {
        return Err(format!(
            "the name or the id is longer than {MAX_TEXT} bytes"
        ));
    }
    let sfdc = entry.sfdc_account_id.filter(|sfdc| !sfdc.is_empty());
    if sfdc.as_ref().is_some_and(|sfdc| sfdc.len() > MAX_TEXT) {
        return Err(format!(
            "the Salesforce account's id is longer than {MAX_TEXT} bytes"
        ));
    }
    Ok(Some(Account {
        sandbox_id: read_id(&entry.csp_id)
            .ok_or("csp_id is neither a number nor a text that can be an id")?,
        name: name.to_owned(),
        external_id: entry.id.trim().to_owned(),
        sfdc_account_id: sfdc,
        created_at: entry
            .created_at
            .and_then(|at| at.parse().ok())
            .map(|at: jiff::Timestamp| UnixSeconds(at.as_second())),
    }))
}

fn read_id(csp_id: &Value) -> Option<SandboxId> {
    match csp_id {
        Value::Number(number) => SandboxId::parse(number.to_string()).ok(),
        Value::String(text) => SandboxId::parse(text).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use serde_json::json;

    use super::*;
    use crate::arbitrary::json;

    fn read(entries: Vec<Value>) -> AccountList {
        read_entries(Value::from(entries)).unwrap()
    }

    fn entry(csp_id: impl Into<Value>) -> Value {
        let csp_id = csp_id.into();
        json!({
            "id": "identity/accounts/3f2a", "name": "lab-adventure-0087", "csp_id": csp_id,
            "account_type": "sandbox", "state": "active", "created_at": "2025-03-27T16:53:47.605459Z",
        })
    }

    fn with(mut entry: Value, name: &str, value: Value) -> Value {
        entry[name] = value;
        entry
    }

    #[test]
    fn an_account_becomes_a_sandbox_named_by_its_csp_id() {
        let list = read(vec![entry(2_009_521), entry("2009522")]);
        let ids: Vec<_> = list
            .accounts
            .iter()
            .map(|account| account.sandbox_id.as_str())
            .collect();
        assert_eq!(ids, ["2009521", "2009522"]);
        assert_eq!(list.accounts[0].external_id, "identity/accounts/3f2a");
        assert_eq!(
            list.accounts[0].created_at,
            Some(UnixSeconds(1_743_094_427))
        );
    }

    #[test]
    fn only_active_sandboxes_count() {
        let list = read(vec![
            with(entry(1), "state", json!("disabled")),
            with(entry(2), "account_type", json!("standard")),
        ]);
        assert_eq!(list, AccountList::default());
    }

    #[test]
    fn broken_and_repeated_entries_are_skipped_and_counted() {
        let list = read(vec![
            entry(1),
            entry(1),
            json!("nonsense"),
            json!(null),
            with(entry(2), "name", json!(null)),
            with(entry(3), "name", json!("  ")),
            with(entry(4), "sfdc_account_id", json!("x".repeat(1025))),
            entry(json!({"no": "id"})),
            entry("an id with spaces"),
        ]);
        assert_eq!(
            (list.accounts.len(), list.duplicates, list.skipped),
            (1, 1, 7)
        );
        let mut broken: Vec<_> = list.broken.iter().map(SandboxId::as_str).collect();
        broken.sort_unstable();
        assert_eq!(broken, ["2", "3", "4"]);
    }

    #[test]
    fn a_creation_time_that_cannot_be_read_costs_nothing_else() {
        let list = read(vec![with(entry(1), "created_at", json!("yesterday"))]);
        assert_eq!(list.accounts[0].created_at, None);
    }

    /// An entry as CSP sends it, with some of its values gone or of another kind.
    fn spoilt_entry() -> impl Strategy<Value = Value> {
        let names = [
            "id",
            "name",
            "csp_id",
            "account_type",
            "state",
            "created_at",
            "sfdc_account_id",
        ];
        let value = prop_oneof![
            json(),
            (0_usize..3000).prop_map(|length| "x".repeat(length).into())
        ];
        let change = (proptest::sample::select(names.to_vec()), value);
        (0_u32..20, proptest::collection::vec(change, 0..3)).prop_map(|(id, changes)| {
            let mut entry = entry(id);
            for (name, value) in changes {
                entry[name] = value;
            }
            entry
        })
    }

    proptest! {
        #[test]
        fn any_list_becomes_sandboxes_that_the_table_can_hold(
            entries in proptest::collection::vec(prop_oneof![4 => spoilt_entry(), 1 => json()], 0..30)
        ) {
            let count = entries.len();
            let list = read_entries(Value::from(entries)).unwrap();
            prop_assert!(list.accounts.len() + list.skipped + list.duplicates <= count);
            prop_assert!(list.broken.len() <= list.skipped);
            let ids: HashSet<_> = list.accounts.iter().map(|account| &account.sandbox_id).collect();
            prop_assert_eq!(ids.len(), list.accounts.len(), "each id is there once");
            for account in &list.accounts {
                prop_assert!((1..=MAX_TEXT).contains(&account.name.len()));
                prop_assert!((1..=MAX_TEXT).contains(&account.external_id.len()));
                prop_assert_eq!(account.name.trim(), &account.name);
                if let Some(sfdc) = &account.sfdc_account_id {
                    prop_assert!((1..=MAX_TEXT).contains(&sfdc.len()));
                }
            }
        }

        #[test]
        fn any_answer_is_a_list_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let text = String::from_utf8_lossy(&bytes);
            for answer in [text.to_string(), format!(r#"{{"results": [{text}]}}"#)] {
                if let Ok(answer) = serde_json::from_str::<Answer>(&answer) {
                    prop_assert!(answer.results.broken.len() <= answer.results.skipped);
                }
            }
        }

        #[test]
        fn a_uuid_leads_nowhere_else(resource in prop_oneof![crate::arbitrary::text(), "[a-z/.%?#-]{0,20}"]) {
            if let Ok(uuid) = uuid_of(&resource) {
                let path = format!("/v2/sandbox/accounts/{uuid}");
                let url = reqwest::Url::parse(&format!("http://csp{path}")).unwrap();
                prop_assert_eq!(url.path(), path);
                prop_assert!(resource.ends_with(uuid) && !uuid.is_empty());
            }
        }

        #[test]
        fn any_status_is_sorted_and_no_pause_is_longer_than_an_hour(
            status in 100_u16..1000,
            after in proptest::option::of(prop_oneof![
                crate::arbitrary::header_value(),
                any::<u64>().prop_map(header::HeaderValue::from),
            ]),
        ) {
            let mut answer = axum::http::Response::new("");
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            answer.headers_mut().extend(after.map(|after| (header::RETRY_AFTER, after)));
            match checked(Response::from(answer)) {
                Ok(_) => prop_assert!((200..300).contains(&status)),
                Err(error) => {
                    prop_assert!(!(200..300).contains(&status));
                    prop_assert!(error.retry_after().is_none_or(|pause| pause <= LONGEST_RETRY_AFTER));
                    let may_pass = matches!(status, 300..400 | 408 | 429 | 500..600);
                    prop_assert_eq!(error.is_transient(), may_pass, "{}", status);
                }
            }
        }
    }

    #[test]
    fn an_answer_as_deep_as_it_is_long_is_an_error() {
        let deep = format!(r#"{{"results": {}"#, "[".repeat(1 << 20));
        assert!(serde_json::from_str::<Answer>(&deep).is_err());
    }
}
