//! Generated accounts, each of which is a function of the seed and its number.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::SimulatedAccount;

/// The prefix of the resource ids of accounts.
pub(super) const ID_PREFIX: &str = "identity/accounts/";
/// The `csp_id` of account 0.
pub(super) const FIRST_CSP_ID: u64 = 2_000_001;
const ADJECTIVES: [&str; 8] = [
    "lab", "demo", "cloud", "edge", "core", "test", "field", "north",
];
const NOUNS: [&str; 8] = [
    "adventure",
    "harbor",
    "meadow",
    "summit",
    "canyon",
    "orchard",
    "lagoon",
    "prairie",
];

/// Generates account `number` of the simulator with this seed.
pub(super) fn account(seed: u64, number: u64) -> SimulatedAccount {
    let mut rng = SmallRng::seed_from_u64(
        seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(number),
    );
    let uuid = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
    let adjective = ADJECTIVES[rng.random_range(0..ADJECTIVES.len())];
    let noun = NOUNS[rng.random_range(0..NOUNS.len())];
    SimulatedAccount {
        id: format!("{ID_PREFIX}{uuid}"),
        name: format!("{adjective}-{noun}-{number:04}"),
        csp_id: FIRST_CSP_ID + number,
        account_type: "sandbox",
        state: "active".to_owned(),
        created_at: format!(
            "2026-01-{:02}T{:02}:53:47.605459Z",
            1 + number % 28,
            number % 24
        ),
        sfdc_account_id: number
            .is_multiple_of(3)
            .then(|| format!("001SIM{number:09}")),
        created_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_generates_the_same_accounts() {
        let accounts = |seed| (0..100).map(move |number| account(seed, number));
        assert!(accounts(7).eq(accounts(7)));
        assert!(
            accounts(7)
                .zip(accounts(8))
                .all(|(one, other)| one.id != other.id)
        );
        let name = account(7, 87).name;
        assert!(
            name.ends_with("-0087") && name.split('-').count() == 3,
            "{name}"
        );
    }
}
