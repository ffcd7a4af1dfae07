//! The form of named tokens: `sbt_{id}_{secret}{checksum}`.
//!
//! Scanners of repositories and logs recognise it by its prefix and its checksum, and the broker rejects a text that
//! only looks like a token without a look-up.

use rand::distr::{Alphanumeric, SampleString};

use crate::domain::TokenId;

const PREFIX: &str = "sbt_";
/// The length of the secret. Each character is one of 62, so that these have 256 bits.
const SECRET: usize = 43;
/// The length of a CRC-32 in base62.
const CHECKSUM: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Creates a token with this id and a random secret.
#[must_use]
pub(super) fn generate(id: &TokenId) -> String {
    // The generator of a thread is cryptographically secure, and seeded by the operating system.
    let secret = Alphanumeric.sample_string(&mut rand::rng(), SECRET);
    let text = format!("{PREFIX}{id}_{secret}");
    let checksum = checksum(&text);
    text + &checksum
}

/// Returns whether a text begins as a named token does.
#[must_use]
pub(crate) fn is_named(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// Returns the id in a token, unless its form or its checksum is wrong.
#[must_use]
pub(super) fn id_of(token: &str) -> Option<&str> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    let is_whole = TokenId::is_valid(id)
        && secret.len() == SECRET + CHECKSUM
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_whole {
        return None;
    }
    let (text, stated) = token.split_at_checked(token.len() - CHECKSUM)?;
    (checksum(text) == stated).then_some(id)
}

/// Returns the CRC-32 of a text in base62.
fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        // The remainder is smaller than the number of digits.
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text;

    #[test]
    fn generated_token_has_its_id_and_a_secret_of_its_own() {
        let id = TokenId::new(7);
        let (one, other) = (generate(&id), generate(&id));
        assert_ne!(one, other);
        assert_eq!(id_of(&one), Some(id.as_str()));
        assert_eq!(one.len(), 4 + 16 + 1 + 43 + 6);
        assert!(is_named(&one));
    }

    #[test]
    fn checksum_is_the_crc_32_in_base62() {
        // 0xCBF43926, the check value of CRC-32.
        assert_eq!(checksum("123456789"), "3jZRME");
        assert_eq!(checksum(""), "000000");
    }

    proptest! {
        #[test]
        fn token_with_one_wrong_character_has_no_id(at in 0_usize..70, character in "[!-~]", number in any::<u64>()) {
            let token = generate(&TokenId::new(number));
            let wrong = [&token[..at], &character, &token[at + 1..]].concat();
            prop_assert_eq!(id_of(&wrong).is_some(), wrong == token);
        }

        #[test]
        fn any_text_is_a_token_or_not(text in text()) {
            prop_assert_eq!(id_of(&text), None);
            for beginning in ["sbt_", "sbt_00000000000000f0_"] {
                let text = format!("{beginning}{text}");
                prop_assert!(id_of(&text).is_none());
            }
        }
    }
}
