//! The creation of accounts, and the search for one by its name.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    CspClient, CspError,
    error::Credentials,
    http::{checked, observed, read_json, uuid_of},
    json::Page,
    list::{Entries, read_pages},
};
use crate::domain::{AdminUser, MAX_REASON, PoolCreation, one_line};

/// The time-out of a creation as a whole. Nothing is repeated within it.
const CREATION_TIMEOUT: Duration = Duration::from_secs(30);
/// The time-out of a search for a name, with all its pages.
const FIND_TIMEOUT: Duration = Duration::from_secs(30);
/// The most pages of a search for a name. Few accounts have the same one.
const FIND_PAGES: u32 = 5;
/// The beginning of the ids of accounts.
const ID_PREFIX: &str = "identity/accounts/";
/// The longest id of an account that is accepted, in bytes.
const MAX_ID: usize = 256;
/// The status by which some gateways say that they no longer wait for CSP.
const CLIENT_CLOSED: u16 = 499;
/// The largest answer that is read for an error message, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// The request to create an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewAccount<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    state: &'static str,
    /// Its tags.
    pub tags: &'a BTreeMap<String, String>,
    /// Its administrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_user: Option<&'a AdminUser>,
}

impl<'a> NewAccount<'a> {
    /// Returns the request for an active account of a pool.
    #[must_use]
    pub fn new(name: &'a str, creation: &'a PoolCreation) -> Self {
        Self {
            name,
            description: creation.description.as_deref(),
            state: "active",
            tags: &creation.tags,
            admin_user: creation.admin_user.as_ref(),
        }
    }
}

/// An account that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedAccount {
    /// Its id, `identity/accounts/<uuid>`.
    pub external_id: String,
}

impl CspClient {
    /// Creates an account. The request is sent once: whether the account may exist after an error is
    /// [`CspError::may_have_created`].
    ///
    /// # Errors
    /// [`CspError`].
    pub async fn create_account(
        &self,
        account: &NewAccount<'_>,
    ) -> Result<CreatedAccount, CspError> {
        observed(&self.metrics, "create", async {
            let url = format!("{}/sandbox/accounts", self.base_url);
            let request = self.http.post(url).json(account).timeout(CREATION_TIMEOUT);
            let answer = checked_with_message(self.send(request).await?).await?;
            let created: Created = read_json(answer, |body| serde_json::from_str(body)).await?;
            created.account()
        })
        .await
    }

    /// Returns the accounts with exactly this name, on all pages. CSP shows an account here before it lists it.
    ///
    /// # Errors
    /// [`CspError`]: nothing is then known about the account, as after too many pages or too long a time.
    /// [`CspError::InvalidId`] if one exists whose id cannot be used, and [`CspError::Refused`] if CSP answers with
    /// accounts of other names.
    pub async fn find_accounts(&self, name: &str) -> Result<Vec<CreatedAccount>, CspError> {
        let (url, deadline) = (self.search_url(name)?, Instant::now() + FIND_TIMEOUT);
        let Entries {
            entries,
            incomplete,
        } = read_pages(FIND_PAGES, |query| {
            let page = query.trim_start_matches('?');
            let url = if page.is_empty() {
                url.to_string()
            } else {
                format!("{url}&{page}")
            };
            observed(&self.metrics, "find", async move {
                let left = deadline.saturating_duration_since(Instant::now());
                let answer = self.send(self.http.get(url).timeout(left)).await?;
                read_json(checked_with_message(answer).await?, Page::parse).await
            })
        })
        .await?;
        let (mut found, mut has_others) = (Vec::new(), false);
        for entry in entries {
            let entry: Value = serde_json::from_str(entry.get()).unwrap_or_default();
            if entry["name"].as_str() == Some(name) {
                found.push(account(entry["id"].as_str())?);
            } else {
                has_others = true;
            }
        }
        // A search that ignores the name, or answers with something else, proves no absence.
        if found.is_empty() && has_others {
            return Err(CspError::Refused {
                status: StatusCode::OK.as_u16(),
                message: "the answer to the search for a name has other accounts".to_owned(),
            });
        }
        if let Some(reason) = incomplete {
            return Err(CspError::unavailable(reason));
        }
        Ok(found)
    }

    /// Returns the URL of the search for a name, which may have any characters. In a text of CSP's filters, a quote is
    /// doubled.
    fn search_url(&self, name: &str) -> Result<Url, CspError> {
        let filter = format!(r#"name=="{}""#, name.replace('"', r#""""#));
        let url = format!("{}/sandbox/accounts", self.base_url);
        Url::parse_with_params(&url, [("_filter", filter)])
            .map_err(|fault| CspError::unavailable(format!("CSP_BASE_URL: {fault}")))
    }
}

/// The answer to a creation, as far as it is used.
#[derive(Debug, Deserialize)]
struct Created {
    result: CreatedFields,
}

#[derive(Debug, Deserialize)]
struct CreatedFields {
    id: Option<String>,
    admin_user: Option<Value>,
}

impl Created {
    fn account(self) -> Result<CreatedAccount, CspError> {
        let admin_user = self.result.admin_user.unwrap_or_default();
        let id = self.result.id.as_deref();
        account(id.or_else(|| admin_user["account_id"].as_str()))
    }
}

/// Returns the account with an id of the form `identity/accounts/<uuid>`.
///
/// # Errors
/// [`CspError::InvalidId`] if it has another form: the account exists, but cannot be used.
fn account(id: Option<&str>) -> Result<CreatedAccount, CspError> {
    let id = id.unwrap_or_default();
    let is_of_form = id
        .strip_prefix(ID_PREFIX)
        .is_some_and(|uuid| uuid_of(id).is_ok_and(|last| last == uuid));
    if !is_of_form || id.len() > MAX_ID {
        return Err(CspError::InvalidId {
            external_id: one_line(id, MAX_ID),
        });
    }
    Ok(CreatedAccount {
        external_id: id.to_owned(),
    })
}

/// Returns `answer` if its status code is a success. The error of one that says that CSP refuses has its message.
async fn checked_with_message(answer: Response) -> Result<Response, CspError> {
    let status = answer.status();
    let is_refusal = status.is_client_error()
        && !matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::CONFLICT
                | StatusCode::LOCKED
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        );
    if status.as_u16() == CLIENT_CLOSED {
        return Err(CspError::unavailable("HTTP 499"));
    }
    if !is_refusal {
        return checked(answer, Credentials::ApiToken);
    }
    Err(CspError::Refused {
        status: status.as_u16(),
        message: error_message(answer).await,
    })
}

/// Returns the message in an error of CSP, printable and bounded.
async fn error_message(mut answer: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ERROR {
            break;
        }
    }
    let error: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = message_in(&error).map(|message| one_line(message, MAX_REASON));
    message
        .filter(|message| !message.is_empty())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Returns the first message of an error: CSP answers `{"error": [{"message": ...}]}`, its gateway other forms.
fn message_in(error: &Value) -> Option<&str> {
    match error {
        Value::String(text) => Some(text),
        Value::Array(errors) => errors.iter().find_map(message_in),
        Value::Object(fields) => ["error", "errors", "message", "detail"]
            .into_iter()
            .find_map(|name| message_in(fields.get(name)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use serde_json::json;

    use super::*;

    fn created(answer: &Value) -> Result<CreatedAccount, CspError> {
        let created: Created = serde_json::from_value(answer.clone())
            .map_err(|fault| CspError::unavailable(fault.to_string()))?;
        created.account()
    }

    #[test]
    fn id_is_that_of_the_account_or_of_its_administrator() {
        let id = "identity/accounts/3f2a-b1";
        for answer in [
            json!({"result": {"id": id, "admin_user": {"account_id": "identity/accounts/other"}}}),
            json!({"result": {"admin_user": {"account_id": id}}, "page": null}),
        ] {
            assert_eq!(created(&answer).unwrap().external_id, id, "{answer}");
        }
    }

    #[test]
    fn answer_without_a_usable_id_leaves_open_whether_the_account_exists() {
        for id in [
            json!(null),
            json!(""),
            json!("3f2a"),
            json!("identity/accounts/"),
            json!("identity/accounts/.."),
            json!("identity/accounts/a/b"),
            json!("identity/users/3f2a"),
            json!("identity/accounts/a?b"),
            json!(format!("identity/accounts/{}", "a".repeat(300))),
        ] {
            let fault = created(&json!({"result": {"id": id}})).unwrap_err();
            assert!(fault.may_have_created(), "{id}: {fault}");
        }
        for answer in [
            json!({}),
            json!([]),
            json!({"result": []}),
            json!({"result": {"id": 7}}),
        ] {
            assert!(created(&answer).unwrap_err().may_have_created(), "{answer}");
        }
    }

    #[test]
    fn message_of_an_error_is_found_in_every_form() {
        for error in [
            json!({"error": [{"message": "quota exceeded"}]}),
            json!({"error": {"message": "quota exceeded", "code": 7}}),
            json!({"message": "quota exceeded"}),
            json!({"error": "quota exceeded"}),
            json!({"errors": [{"code": 1}, {"detail": "quota exceeded"}]}),
        ] {
            assert_eq!(message_in(&error), Some("quota exceeded"), "{error}");
        }
        assert_eq!(message_in(&json!({"code": 7})), None);
    }

    async fn check(status: u16, body: String) -> Result<Response, CspError> {
        let mut answer = axum::http::Response::new(body);
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        checked_with_message(Response::from(answer)).await
    }

    #[tokio::test]
    async fn only_a_clear_refusal_proves_that_nothing_was_created() {
        for status in 100_u16..1000 {
            let Err(error) = check(status, String::new()).await else {
                assert!((200..300).contains(&status));
                continue;
            };
            let is_clear = (400..500).contains(&status)
                && !matches!(status, 408 | 409 | 423 | 425 | 429 | 499);
            assert_eq!(!error.may_have_created(), is_clear, "{status}: {error}");
        }
    }

    #[tokio::test]
    async fn any_message_is_one_short_line() {
        let message = format!(
            "{{\"message\": \"no\\n\\u0007way \\u202e{}\"}}",
            "x".repeat(900)
        );
        let error = check(403, message).await.unwrap_err().to_string();
        assert!(
            error.starts_with("CSP refuses the request (HTTP 403): no way x"),
            "{error}"
        );
        assert!(error.len() < 600);
        let page = check(403, "<html>".to_owned())
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(page, "CSP refuses the request (HTTP 403): no message");
    }

    fn client() -> CspClient {
        client_of("http://csp/v2")
    }

    fn client_of(base_url: &str) -> CspClient {
        let config = super::super::CspConfig {
            mode: super::super::CspMode::Live,
            base_url: String::new(),
            token: None,
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(1),
            simulated_accounts: 0,
        };
        let token = crate::shared::Shared::new("token".to_owned().into());
        CspClient::new(
            &config,
            base_url,
            token,
            crate::telemetry::metrics::Metrics::new(),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn search_without_an_end_is_an_error_after_a_few_pages() {
        let pages = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&pages);
        let answer = move || {
            let page = count.fetch_add(1, Ordering::SeqCst);
            let account = json!({"name": "lab-1", "id": format!("{ID_PREFIX}{page}")});
            async move { axum::Json(json!({"results": [account], "page": {"total_size": "9999"}})) }
        };
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { axum::serve(server, router).await });
        let error = client_of(&url).find_accounts("lab-1").await.unwrap_err();
        assert!(error.is_outage(), "nothing is known: {error}");
        assert_eq!(pages.load(Ordering::SeqCst), FIND_PAGES);
    }

    proptest! {
        #[test]
        fn any_id_of_an_account_stays_one_path_segment(id in prop_oneof![
            crate::arbitrary::text(), "identity/accounts/[a-z/.%?#-]{0,20}", any::<String>().prop_map(|id| format!("{ID_PREFIX}{id}")),
        ]) {
            if let Ok(account) = account(Some(&id)) {
                prop_assert_eq!(&account.external_id, &id);
                prop_assert_eq!(format!("{ID_PREFIX}{}", uuid_of(&id).unwrap()), id);
            }
        }

        #[test]
        fn any_name_is_one_text_of_the_filter(name in crate::arbitrary::text()) {
            let url = client().search_url(&name).unwrap();
            prop_assert_eq!(url.path(), "/v2/sandbox/accounts");
            let parameters: Vec<_> = url.query_pairs().collect();
            prop_assert_eq!(parameters.len(), 1);
            let text = parameters[0].1.strip_prefix("name==\"").unwrap().strip_suffix('"').unwrap();
            prop_assert!(!text.replace("\"\"", "").contains('"'));
            prop_assert_eq!(text.replace("\"\"", "\""), name);
        }
    }
}
