//! Refused requests, for the audit: those of a principal without the required role or lab, and changes by operators that
//! do not apply.
//!
//! A request without a valid token has no principal: the request log has it, and the metric of requests counts it.

use axum::{
    body::Bytes,
    extract::{MatchedPath, Query, Request},
    http::{Method, StatusCode, Uri},
    response::Response,
};
use serde::Deserialize;

use super::client::ClientAddress;
use crate::{
    broker::{Refusal, RefusalLog},
    domain::{
        Activity, AuditAction, AuditTarget, Author, JobName, Principal, Reason, SandboxId, TokenId,
    },
    http::{
        error::ErrorCode,
        request_context::{self, Outcome},
    },
};

/// The parts of a request that the record of its refusal needs. Cheap to create: most requests are not refused.
#[derive(Debug)]
pub(super) struct Attempt {
    principal: Option<Principal>,
    address: Option<ClientAddress>,
    route: Option<MatchedPath>,
    method: Method,
    uri: Uri,
    body: Bytes,
}

/// The attributes of a request body, or of a query, that a record has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stated {
    reason: Option<Reason>,
    /// The name of a new token.
    name: Option<Reason>,
}

impl Attempt {
    pub(super) fn of(request: &Request, body: Bytes) -> Self {
        let extensions = request.extensions();
        Self {
            principal: extensions.get().cloned(),
            address: extensions.get().copied(),
            route: extensions.get().cloned(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            body,
        }
    }

    /// Records the attempt if `answer` refuses it.
    pub(super) fn record_refusal(&self, answer: &Response, log: &RefusalLog) {
        let (Some(principal), Some(Outcome(code))) = (&self.principal, answer.extensions().get())
        else {
            return;
        };
        if self.is_refused(answer.status(), code) {
            log.record(&principal.name, || self.refusal(principal, code));
        }
    }

    fn is_refused(&self, status: StatusCode, code: &str) -> bool {
        let lacks_permission =
            [ErrorCode::Forbidden, ErrorCode::LabNotAllowed].map(ErrorCode::as_str);
        let refusals = [
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
            StatusCode::CONFLICT,
            StatusCode::PRECONDITION_FAILED,
        ];
        let is_change = !self.method.is_safe() && self.uri.path().starts_with("/admin/");
        lacks_permission.contains(&code) || is_change && refusals.contains(&status)
    }

    fn refusal(&self, principal: &Principal, code: &'static str) -> Refusal {
        // Texts that are too long or not printable count as absent.
        let mut stated: Stated = serde_json::from_slice(&self.body).unwrap_or_default();
        if let Ok(Query(in_query)) = Query::<Stated>::try_from_uri(&self.uri) {
            stated.reason = stated.reason.or(in_query.reason);
        }
        let (action, target) = self.action(stated.name.as_ref()).unwrap_or_else(|| {
            let route = self.route.as_ref().map_or("", MatchedPath::as_str);
            let route = format!("{} {route}", self.method);
            (AuditAction::Request, AuditTarget::Route(route))
        });
        Refusal {
            author: Author::of_request(
                principal,
                request_context::request_id(),
                self.address.map(|address| address.0.to_string()),
            ),
            action,
            target,
            reason: stated.reason,
            code,
        }
    }

    /// Returns the action that the request asked for, and its target. `None` if there is none for the route, and if the
    /// path does not name a target plainly: it may hold anything, such as a token.
    fn action(&self, token_name: Option<&Reason>) -> Option<(AuditAction, AuditTarget)> {
        use AuditAction as A;
        let path = self.uri.path().strip_prefix("/admin/")?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-./".contains(&byte);
        if !path.bytes().all(is_plain) {
            return None;
        }
        let segments: Vec<_> = path.split('/').collect();
        Some(match (self.method.as_str(), segments.as_slice()) {
            ("POST", ["sandboxes", id, action]) => {
                let action = match *action {
                    "release" => A::Release,
                    "extend" => A::Extend,
                    "quarantine" => A::Quarantine,
                    "restore" => A::Restore,
                    "delete" => A::Delete,
                    _ => return None,
                };
                (action, AuditTarget::Sandbox(SandboxId::parse(*id).ok()?))
            }
            ("PUT", ["policy"]) => (A::SetPolicy, AuditTarget::Policy),
            ("PUT", ["pauses", activity]) => (A::Pause, pause(activity)?),
            ("DELETE", ["pauses", activity]) => (A::Resume, pause(activity)?),
            ("POST", ["tokens"]) => (
                A::CreateToken,
                AuditTarget::Token(token_name?.as_str().to_owned()),
            ),
            ("DELETE", ["tokens", id]) => {
                let id = TokenId::parse(id)?;
                (A::RevokeToken, AuditTarget::Token(id.to_string()))
            }
            ("POST", [job]) => {
                let job = JobName::ALL
                    .into_iter()
                    .find(|name| name.as_str() == *job)?;
                (A::StartJob, AuditTarget::Job(job))
            }
            _ => return None,
        })
    }
}

fn pause(activity: &str) -> Option<AuditTarget> {
    activity.parse::<Activity>().ok().map(AuditTarget::Pause)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(method: &str, path: &str) -> Attempt {
        Attempt {
            principal: None,
            address: None,
            route: None,
            method: method.parse().unwrap(),
            uri: path.parse().unwrap(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn action_and_target_are_those_of_the_path() {
        let name = Reason::parse("ci").unwrap();
        for (method, path, expected) in [
            (
                "POST",
                "/admin/sandboxes/2009521/release",
                "sandbox.release sandbox/2009521",
            ),
            (
                "POST",
                "/admin/sandboxes/a-1/extend",
                "sandbox.extend sandbox/a-1",
            ),
            (
                "POST",
                "/admin/sandboxes/1/quarantine",
                "sandbox.quarantine sandbox/1",
            ),
            (
                "POST",
                "/admin/sandboxes/1/restore",
                "sandbox.restore sandbox/1",
            ),
            (
                "POST",
                "/admin/sandboxes/1/delete",
                "sandbox.delete sandbox/1",
            ),
            (
                "PUT",
                "/admin/pauses/deletions",
                "pause.set pause/deletions",
            ),
            ("DELETE", "/admin/pauses/sync", "pause.end pause/sync"),
            ("PUT", "/admin/policy?reason=exams", "policy.set policy"),
            ("POST", "/admin/tokens?name=x", "token.create token/ci"),
            (
                "DELETE",
                "/admin/tokens/3f2a6c1e8f0b4a7e",
                "token.revoke token/3f2a6c1e8f0b4a7e",
            ),
            (
                "POST",
                "/admin/auto-expire?force=true",
                "job.start job/auto-expire",
            ),
        ] {
            let (action, target) = attempt(method, path).action(Some(&name)).unwrap();
            assert_eq!(format!("{action} {target}"), expected);
        }
        for (method, path) in [
            ("GET", "/admin/sandboxes"),
            ("GET", "/admin/pauses"),
            ("PUT", "/admin/pauses/everything"),
            ("POST", "/admin/sandboxes/1/explode"),
            ("POST", "/admin/sandboxes/a%20b/release"),
            ("DELETE", "/admin/tokens/sbt_3f2a_secret"),
            ("DELETE", "/admin/tokens/s3cr3t"),
            ("POST", "/allocate"),
        ] {
            assert_eq!(attempt(method, path).action(Some(&name)), None, "{path}");
        }
        assert_eq!(attempt("POST", "/admin/tokens").action(None), None);
    }

    #[test]
    fn refusals_are_those_for_lack_of_permission_and_of_changes() {
        for (method, path, code, is_refused) in [
            ("GET", "/admin/stats", ErrorCode::Forbidden, true),
            ("POST", "/allocate", ErrorCode::LabNotAllowed, true),
            ("POST", "/allocate", ErrorCode::NoSandboxesAvailable, false),
            ("GET", "/sandboxes/1", ErrorCode::NotSandboxOwner, false),
            (
                "GET",
                "/admin/sandboxes/1",
                ErrorCode::SandboxNotFound,
                false,
            ),
            (
                "POST",
                "/admin/sandboxes/1/release",
                ErrorCode::SandboxNotFound,
                true,
            ),
            (
                "POST",
                "/admin/sandboxes/1/release",
                ErrorCode::SandboxAvailable,
                true,
            ),
            (
                "POST",
                "/admin/sandboxes/1/release",
                ErrorCode::InvalidBody,
                false,
            ),
            ("PUT", "/admin/policy", ErrorCode::PolicyChanged, true),
            ("PUT", "/admin/policy", ErrorCode::InvalidPolicy, false),
            ("POST", "/admin/sync", ErrorCode::JobRunning, true),
            ("POST", "/admin/sync", ErrorCode::StoreUnavailable, false),
            ("DELETE", "/admin/tokens/1", ErrorCode::TokenNotFound, true),
        ] {
            let found = attempt(method, path).is_refused(code.status(), code.as_str());
            assert_eq!(found, is_refused, "{method} {path} {code:?}");
        }
    }

    proptest! {
        #[test]
        fn any_body_states_a_valid_reason_or_none(body in prop_oneof![
            crate::arbitrary::json().prop_map(|json| json.to_string()),
            crate::arbitrary::text().prop_map(|reason| serde_json::json!({ "reason": reason }).to_string()),
        ]) {
            let stated: Stated = serde_json::from_str(&body).unwrap_or_default();
            if let Some(reason) = stated.reason {
                prop_assert!(Reason::parse(reason.as_str()).is_ok());
            }
        }
    }
}
