//! Named tokens: the credentials that an admin creates.

use std::{borrow::Borrow, fmt, sync::Arc, time::Duration};

use thiserror::Error;

use super::{Bounds, InvalidText, JobName, LabId, NamePrefix, Role, text::check_printable};
use crate::clock::UnixSeconds;

/// The maximum length of a name, in characters.
const MAX_NAME: usize = 64;
/// The maximum number of labs, and of name prefixes, that one token is bound to.
const MAX_BOUNDS: usize = 50;
/// The longest time for which a token with an expiry can be valid: five years.
const MAX_LIFETIME: Duration = Duration::from_hours(5 * 365 * 24);
/// The beginning of the names of the environment's principals.
const OF_ENVIRONMENT: &str = "env-";

/// The id of a named token. It is part of the token, and no secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Arc<str>);

impl TokenId {
    /// The length of an id, in characters.
    pub const LENGTH: usize = 16;

    /// Creates an id from a random number.
    #[must_use]
    pub fn new(random: u64) -> Self {
        Self(format!("{random:016x}").into())
    }

    /// Returns whether a text has the form of an id: lower-case hexadecimal digits.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        text.len() == Self::LENGTH
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// Parses an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::is_valid(text).then(|| Self(text.into()))
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for TokenId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A named token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The id.
    pub id: TokenId,
    /// The name, role, bounds and expiry.
    pub grant: TokenGrant,
    /// The principal that created it.
    pub created_by: String,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// When it was revoked.
    pub revoked_at: Option<UnixSeconds>,
    /// The principal that revoked it.
    pub revoked_by: Option<String>,
    /// When it was last used, up to an hour late.
    pub last_used_at: Option<UnixSeconds>,
}

impl Token {
    /// Returns whether the token is valid at `now`.
    #[must_use]
    pub fn is_live(&self, now: UnixSeconds) -> bool {
        self.revoked_at.is_none() && self.grant.expires_at.is_none_or(|end| now < end)
    }
}

/// The properties of a token that its creator chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    /// The name of its principal, unique among live tokens.
    pub name: Arc<str>,
    /// The role of its principal.
    pub role: Role,
    /// The bounds of a track token.
    pub bounds: Bounds,
    /// When it expires; `None` for a token without an expiry.
    pub expires_at: Option<UnixSeconds>,
}

/// The reason why a token cannot be created.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidGrant {
    /// The name is no valid text.
    #[error("name {0}")]
    Name(InvalidText),
    /// The name could be mistaken for that of another principal.
    #[error("name must not {must_not}: audit records would not distinguish the two principals")]
    ReservedName {
        /// The rule that it breaks.
        must_not: &'static str,
    },
    /// Bounds of a token that allocates nothing.
    #[error("only tokens with the role track have labs and name_prefixes")]
    BoundsWithoutTrack,
    /// Too many bounds.
    #[error("{field} has {got} entries; at most {MAX_BOUNDS} are allowed")]
    TooManyBounds {
        /// The list.
        field: &'static str,
        /// Its length.
        got: usize,
    },
    /// A bound is no valid text.
    #[error("{field}[{index}] {fault}")]
    Bound {
        /// The list.
        field: &'static str,
        /// The position, counted from 0.
        index: usize,
        /// Its fault.
        fault: InvalidText,
    },
    /// The expiry is not in the future.
    #[error("expires_at is not in the future; it is a time in Unix seconds")]
    Expired,
    /// The expiry is too far ahead.
    #[error(
        "expires_at is more than five years ahead; leave it out for a token that does not expire"
    )]
    TooLong,
}

impl TokenGrant {
    /// Checks the properties of a new token at `now`. White space around texts is ignored.
    ///
    /// # Errors
    /// [`InvalidGrant`].
    pub fn parse(
        name: &str,
        role: Role,
        labs: &[String],
        name_prefixes: &[String],
        expires_at: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<Self, InvalidGrant> {
        let name = name.trim();
        check_printable(name, MAX_NAME).map_err(InvalidGrant::Name)?;
        if let Some(must_not) = reserved(name) {
            return Err(InvalidGrant::ReservedName { must_not });
        }
        if role != Role::Track && !(labs.is_empty() && name_prefixes.is_empty()) {
            return Err(InvalidGrant::BoundsWithoutTrack);
        }
        let bounds = Bounds {
            labs: parse_bounds("labs", labs, |text| {
                LabId::parse(text).map(|lab| lab.to_string())
            })?,
            name_prefixes: parse_bounds("name_prefixes", name_prefixes, |text| {
                NamePrefix::parse(text).map(|prefix| prefix.to_string())
            })?,
        };
        match expires_at {
            Some(end) if end <= now => return Err(InvalidGrant::Expired),
            Some(end) if end > now + MAX_LIFETIME => return Err(InvalidGrant::TooLong),
            _ => {}
        }
        Ok(Self {
            name: name.into(),
            role,
            bounds,
            expires_at,
        })
    }
}

/// Returns the rule that a name breaks because other principals have such names.
fn reserved(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    if name.starts_with(OF_ENVIRONMENT) {
        Some("begin with env-, as the tokens of the environment do")
    } else if name.contains('@') {
        Some("contain @, as the names of people who sign in do")
    } else if JobName::ALL.iter().any(|job| job.as_str() == name) {
        Some("be the name of a job")
    } else {
        None
    }
}

fn parse_bounds(
    field: &'static str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<String, InvalidText>,
) -> Result<Vec<String>, InvalidGrant> {
    if texts.len() > MAX_BOUNDS {
        let got = texts.len();
        return Err(InvalidGrant::TooManyBounds { field, got });
    }
    let parsed = texts.iter().enumerate().map(|(index, text)| {
        parse(text).map_err(|fault| InvalidGrant::Bound {
            field,
            index,
            fault,
        })
    });
    let mut bounds = parsed.collect::<Result<Vec<_>, _>>()?;
    bounds.sort_unstable();
    bounds.dedup();
    Ok(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_795_000_000);

    fn parse(name: &str, role: Role, labs: &[&str]) -> Result<TokenGrant, InvalidGrant> {
        let labs: Vec<_> = labs.iter().map(|lab| (*lab).to_owned()).collect();
        TokenGrant::parse(name, role, &labs, &[], None, NOW)
    }

    #[test]
    fn name_of_another_principal_is_refused() {
        for name in [
            "env-track",
            "ENV-x",
            "jo@example.com",
            "Auto-Expire",
            "sync",
        ] {
            let parsed = parse(name, Role::Viewer, &[]);
            assert!(
                matches!(parsed, Err(InvalidGrant::ReservedName { .. })),
                "{name}"
            );
        }
        for name in ["environment", "sync 2", "env", "x"] {
            assert!(parse(name, Role::Viewer, &[]).is_ok(), "{name}");
        }
        assert_eq!(&*parse(" ci ", Role::Viewer, &[]).unwrap().name, "ci");
        assert!(parse(&"é".repeat(64), Role::Viewer, &[]).is_ok());
        for name in ["", " ", "a\nb", &"é".repeat(65)] {
            let parsed = parse(name, Role::Viewer, &[]);
            assert!(matches!(parsed, Err(InvalidGrant::Name(_))), "{name}");
        }
    }

    #[test]
    fn only_a_track_token_has_bounds_which_are_distinct_and_few() {
        let bounds = parse("x", Role::Track, &["b", " a ", "b"]).unwrap().bounds;
        assert_eq!(bounds.labs, ["a", "b"]);
        let with_role = parse("x", Role::Admin, &["a"]);
        assert_eq!(with_role, Err(InvalidGrant::BoundsWithoutTrack));
        let fault = parse("x", Role::Track, &["a", ""]).unwrap_err();
        assert_eq!(fault.to_string(), "labs[1] is empty");
        let fault = parse("x", Role::Track, &["a"; 51]).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "labs has 51 entries; at most 50 are allowed"
        );
    }

    #[test]
    fn expiry_is_in_the_future_and_at_most_five_years_ahead() {
        let until = |end| TokenGrant::parse("x", Role::Viewer, &[], &[], Some(end), NOW);
        assert_eq!(until(NOW), Err(InvalidGrant::Expired));
        assert!(until(UnixSeconds(NOW.0 + 1)).is_ok());
        assert!(until(NOW + MAX_LIFETIME).is_ok());
        let later = NOW + MAX_LIFETIME + Duration::from_secs(1);
        assert_eq!(until(later), Err(InvalidGrant::TooLong));
        // Milliseconds in place of seconds.
        assert_eq!(until(UnixSeconds(NOW.0 * 1000)), Err(InvalidGrant::TooLong));
        assert_eq!(until(UnixSeconds(i64::MIN)), Err(InvalidGrant::Expired));
    }

    #[test]
    fn only_lower_case_hexadecimal_digits_are_an_id() {
        let id = TokenId::new(0xf0);
        assert_eq!(id.as_str(), "00000000000000f0");
        assert_eq!(TokenId::parse(id.as_str()), Some(id));
        for text in [
            "",
            "f0",
            "00000000000000F0",
            "00000000000000f0f",
            "../../0000000000",
        ] {
            assert_eq!(TokenId::parse(text), None, "{text}");
        }
    }
}
