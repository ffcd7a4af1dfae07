//! The calls of the API that the simulator distinguishes, for faults and counters.

use axum::http::Method;
use serde::{Deserialize, Serialize};

/// A kind of call, to which a fault can be limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// All calls.
    #[default]
    Any,
    /// `GET /current_user/accounts`.
    List,
    /// `POST /sandbox/accounts`.
    Create,
    /// `GET /sandbox/accounts`.
    Find,
    /// `DELETE /sandbox/accounts/<uuid>`.
    Delete,
    /// `POST /session/users/sign_in`.
    SignIn,
    /// `POST /session/account_switch`.
    Switch,
    /// `GET /groups`.
    Groups,
    /// Every call below `/users`.
    Users,
    /// Every call below `/api_keys`, and `POST /current_api_keys`.
    ApiKeys,
    /// Every call below `/atlas-host-activation` and `/host-activation`.
    JoinTokens,
    /// The calls of the NIOSXaaS client: sign in, switch, list and delete services.
    Niosxaas,
}

impl Call {
    /// Returns the call of a request; `None` if the simulator does not know it. `path` is without the key.
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["v2", "current_user", "accounts"]) => Some(Self::List),
            ("POST", ["v2", "sandbox", "accounts"]) => Some(Self::Create),
            ("GET", ["v2", "sandbox", "accounts"]) => Some(Self::Find),
            ("DELETE", ["v2", "sandbox", "accounts", _]) => Some(Self::Delete),
            ("POST", ["v2", "session", "users", "sign_in"]) => Some(Self::SignIn),
            ("POST", ["v2", "session", "account_switch"]) => Some(Self::Switch),
            ("GET", ["v2", "groups"]) => Some(Self::Groups),
            (_, ["v2", "users", ..]) => Some(Self::Users),
            (_, ["v2", "api_keys" | "current_api_keys", ..]) => Some(Self::ApiKeys),
            (_, ["atlas-host-activation" | "host-activation", ..]) => Some(Self::JoinTokens),
            (_, ["api", "universalinfra", ..]) => Some(Self::Niosxaas),
            _ => None,
        }
    }

    /// Returns whether a fault on `self` applies to `call`.
    pub(super) fn includes(self, call: Self) -> bool {
        match self {
            Self::Any => true,
            Self::Niosxaas => matches!(call, Self::SignIn | Self::Switch | Self::Niosxaas),
            _ => self == call,
        }
    }

    /// Returns whether the call is authorized by an API token, and not by a session.
    pub(super) fn needs_api_token(self) -> bool {
        matches!(self, Self::List | Self::Create | Self::Find | Self::Delete)
    }
}

/// The numbers of calls that the simulator received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Lists of accounts.
    pub list: u64,
    /// Creations of accounts.
    pub create: u64,
    /// Searches for an account by its name.
    pub find: u64,
    /// Deletions of accounts.
    pub delete: u64,
    /// Sign-ins.
    pub sign_ins: u64,
    /// Switches of a session to an account.
    pub switches: u64,
    /// Lists of groups.
    pub groups: u64,
    /// Calls that concern users.
    pub users: u64,
    /// Calls that concern API keys.
    pub api_keys: u64,
    /// Calls that concern join tokens.
    pub join_tokens: u64,
    /// NIOSXaaS calls, with all sign-ins and switches.
    pub niosxaas: u64,
    /// Calls of any kind to which a fault applied.
    pub faulty: u64,
}

impl Calls {
    pub(super) fn count(&mut self, call: Call) {
        let counter = match call {
            Call::List => &mut self.list,
            Call::Create => &mut self.create,
            Call::Find => &mut self.find,
            Call::Delete => &mut self.delete,
            Call::SignIn => &mut self.sign_ins,
            Call::Switch => &mut self.switches,
            Call::Groups => &mut self.groups,
            Call::Users => &mut self.users,
            Call::ApiKeys => &mut self.api_keys,
            Call::JoinTokens => &mut self.join_tokens,
            Call::Niosxaas | Call::Any => &mut self.niosxaas,
        };
        *counter += 1;
        if matches!(call, Call::SignIn | Call::Switch) {
            self.niosxaas += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_on_niosxaas_includes_the_session_that_its_client_opens() {
        for call in [Call::SignIn, Call::Switch, Call::Niosxaas] {
            assert!(Call::Niosxaas.includes(call) && Call::Any.includes(call));
        }
        assert!(!Call::Niosxaas.includes(Call::Groups));
        assert!(Call::Create.includes(Call::Create) && !Call::Create.includes(Call::Find));
    }

    #[test]
    fn call_is_determined_by_method_and_path() {
        let call = |method: Method, path| Call::of(&method, path);
        assert_eq!(
            call(Method::POST, "/v2/sandbox/accounts"),
            Some(Call::Create)
        );
        assert_eq!(call(Method::GET, "/v2/sandbox/accounts"), Some(Call::Find));
        assert_eq!(
            call(Method::DELETE, "/v2/sandbox/accounts/1"),
            Some(Call::Delete)
        );
        assert_eq!(call(Method::DELETE, "/v2/sandbox/accounts"), None);
        assert_eq!(
            call(Method::POST, "/v2/users/1/password"),
            Some(Call::Users)
        );
        assert_eq!(
            call(Method::POST, "/v2/current_api_keys"),
            Some(Call::ApiKeys)
        );
        assert_eq!(
            call(Method::DELETE, "/atlas-host-activation/v1/jointoken/1"),
            Some(Call::JoinTokens)
        );
        assert_eq!(call(Method::GET, "/simulator/calls"), None);
    }
}
