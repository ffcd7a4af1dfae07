//! The simulated API for the groups and users of the account that a session or an API key concerns.

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Inner, SimulatedAccount, Simulator,
    answer::{Body, error, list},
    filter,
    sessions::unauthorized,
};

/// The names of the groups of a usable account: those to which labs add a student's user.
const GROUPS: [&str; 2] = ["act_admin", "user"];

/// A user of an account. Users are not saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountUser {
    /// The resource id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The e-mail address, unique within the account.
    pub email: String,
    /// The type, such as `interactive`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The resource ids of the groups.
    pub group_ids: Vec<String>,
    /// The resource id of the account.
    #[serde(skip)]
    pub account_id: String,
}

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/v2/groups", get(list_groups))
        .route("/v2/users", get(list_users).post(create_user))
        .route("/v2/users/{uuid}", delete(delete_user))
        .route("/v2/users/{uuid}/password", post(set_password))
}

impl Simulator {
    /// Returns the users that exist in existing accounts.
    #[must_use]
    pub fn users(&self) -> Vec<AccountUser> {
        let inner = self.lock();
        let users = inner.users.iter();
        users
            .filter(|user| inner.accounts.find(&user.account_id).is_some())
            .cloned()
            .collect()
    }
}

impl Inner {
    /// Returns the groups of an account as resource ids and names; none until it is usable.
    fn groups_of(&self, account: &SimulatedAccount) -> Vec<(String, &'static str)> {
        if !self.accounts.is_usable(account, &self.settings) {
            return Vec::new();
        }
        let uuid = account.id.rsplit('/').next().unwrap_or_default();
        let number = Uuid::try_parse(uuid).unwrap_or_default().as_u128();
        let ids = (1..).map(|nth| Uuid::from_u128(number.wrapping_add(nth)));
        ids.zip(GROUPS)
            .map(|(id, name)| (format!("identity/groups/{id}"), name))
            .collect()
    }

    /// Returns the users of existing accounts that have an e-mail address.
    pub(super) fn users_with_email(&self, email: &str) -> impl Iterator<Item = &AccountUser> {
        self.users.iter().filter(move |user| {
            user.email == email && self.accounts.find(&user.account_id).is_some()
        })
    }

    /// Returns the position of a user of an account.
    fn position_of_user(&self, account: &SimulatedAccount, uuid: &str) -> Option<usize> {
        let id = format!("identity/users/{uuid}");
        self.users
            .iter()
            .position(|user| user.id == id && user.account_id == account.id)
    }
}

fn no_such_user() -> Response {
    error(StatusCode::NOT_FOUND, "no such user")
}

async fn list_groups(State(simulator): State<Simulator>, request: Request) -> Response {
    let inner = simulator.lock();
    let Some(account) = inner.account_of_request(request.headers()) else {
        return unauthorized();
    };
    let groups = inner.groups_of(account).into_iter();
    let entries = groups
        .map(|(id, name)| json!({ "id": id, "name": name }))
        .collect();
    list(entries, &request, inner.settings.lists)
}

async fn list_users(State(simulator): State<Simulator>, request: Request) -> Response {
    let email = match filter::wanted(request.uri(), "email") {
        Ok(email) => email,
        Err(message) => return error(StatusCode::BAD_REQUEST, &message),
    };
    let inner = simulator.lock();
    let Some(account) = inner.account_of_request(request.headers()) else {
        return unauthorized();
    };
    let entries: Vec<Value> = inner
        .users
        .iter()
        .filter(|user| user.account_id == account.id)
        .filter(|user| email.as_ref().is_none_or(|email| user.email == *email))
        .map(|user| json!(user))
        .collect();
    list(entries, &request, inner.settings.lists)
}

#[derive(Deserialize)]
struct NewUser {
    name: String,
    email: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    group_ids: Vec<String>,
}

async fn create_user(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    Body(new): Body<NewUser>,
) -> Response {
    let mut inner = simulator.lock();
    let Some(account) = inner.account_of_request(&headers) else {
        return unauthorized();
    };
    let mut of_account = inner
        .users
        .iter()
        .filter(|user| user.account_id == account.id);
    if new.email.is_empty() {
        return error(StatusCode::BAD_REQUEST, "email is required");
    }
    if of_account.any(|user| user.email == new.email) {
        let message = format!("a user with the e-mail address '{}' exists", new.email);
        return error(StatusCode::CONFLICT, &message);
    }
    let groups = inner.groups_of(account);
    let is_known = |id: &String| groups.iter().any(|(known, _)| known == id);
    if let Some(unknown) = new.group_ids.iter().find(|id| !is_known(id)) {
        let message = format!("the account has no group '{unknown}'");
        return error(StatusCode::BAD_REQUEST, &message);
    }
    let user = AccountUser {
        id: format!("identity/users/{}", Uuid::new_v4()),
        name: new.name,
        email: new.email,
        kind: new.kind,
        group_ids: new.group_ids,
        account_id: account.id.clone(),
    };
    inner.users.push(user.clone());
    (inner.success(), Json(json!({ "result": user }))).into_response()
}

#[derive(Deserialize)]
struct NewPassword {
    new_password: SecretString,
}

async fn set_password(
    State(simulator): State<Simulator>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
    Body(body): Body<NewPassword>,
) -> Response {
    let mut inner = simulator.lock();
    let Some(account) = inner.account_of_request(&headers) else {
        return unauthorized();
    };
    let Some(position) = inner.position_of_user(account, &uuid) else {
        return no_such_user();
    };
    if !is_strong(body.new_password.expose_secret()) {
        return error(
            StatusCode::BAD_REQUEST,
            "a password has an upper-case letter, a lower-case letter, a digit and two special characters",
        );
    }
    let id = inner.users[position].id.clone();
    inner.passwords.insert(id, body.new_password);
    Json(json!({})).into_response()
}

fn is_strong(password: &str) -> bool {
    let has = |is_wanted: fn(char) -> bool| password.chars().any(is_wanted);
    let special = |letter: &char| !letter.is_alphanumeric() && !letter.is_whitespace();
    has(char::is_uppercase)
        && has(char::is_lowercase)
        && has(|letter| letter.is_ascii_digit())
        && password.chars().filter(special).count() >= 2
}

async fn delete_user(
    State(simulator): State<Simulator>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut inner = simulator.lock();
    let Some(account) = inner.account_of_request(&headers) else {
        return unauthorized();
    };
    let Some(position) = inner.position_of_user(account, &uuid) else {
        return no_such_user();
    };
    let user = inner.users.remove(position);
    inner.passwords.remove(&user.id);
    inner.api_keys.retain(|key| !key.belongs_to(&user.id));
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strong_password_has_every_kind_of_character_and_two_special_ones() {
        assert!(is_strong("Lab-user-1"));
        for weak in [
            "",
            "lab-user-1",
            "LAB-USER-1",
            "Lab-user-x",
            "Lab-user1",
            "Lab user 1",
        ] {
            assert!(!is_strong(weak), "{weak}");
        }
    }
}
