//! The faults of CSP.

use rand::{RngExt, rngs::SmallRng};
use sandbox_broker::csp::simulator::{Call, Fault, FaultKind};

/// Returns a fault of deletions or lists, and whether it leaves an account out of lists.
pub(super) fn of_lists_and_deletions(rng: &mut SmallRng) -> (Vec<Fault>, bool) {
    let number = rng.random_range(0..8);
    let faults = vec![match number {
        0..2 => fault(Call::Delete, FaultKind::Status { code: 500 }, 2),
        2 => fault(Call::Delete, FaultKind::Status { code: 400 }, 3),
        3 => fault(Call::Delete, FaultKind::Forget, 2),
        4 => fault(Call::Any, FaultKind::Reset, 3),
        5 => fault(Call::List, FaultKind::Duplicates, 2),
        6 => fault(Call::List, FaultKind::Broken, 2),
        _ => fault(Call::List, FaultKind::Slow { delay_ms: 60 }, 2),
    }];
    (faults, number == 6)
}

/// Returns faults of creations, of the search for accounts, and of checks.
pub(super) fn of_creations_and_checks(rng: &mut SmallRng) -> Vec<Fault> {
    let limited = FaultKind::RateLimit {
        retry_after_sec: None,
    };
    let refused = FaultKind::Refuse {
        code: 403,
        message: "the quota of accounts is used".to_owned(),
    };
    match rng.random_range(0..9) {
        // The account is created, but the answer is lost.
        0..2 => vec![fault(Call::Create, FaultKind::LostAnswer { code: 502 }, 2)],
        2 => vec![fault(Call::Create, FaultKind::Reset, 2)],
        // Long enough for a kill before the account is created.
        3 => vec![fault(Call::Create, FaultKind::Slow { delay_ms: 500 }, 1)],
        4 => vec![
            fault(Call::Create, FaultKind::Status { code: 503 }, 2),
            fault(Call::Find, FaultKind::Status { code: 500 }, 3),
        ],
        5 => vec![fault(Call::Create, refused, 3)],
        6 => vec![fault(Call::Create, limited, 3)],
        7 => vec![fault(Call::Groups, FaultKind::Status { code: 500 }, 3)],
        _ => vec![fault(Call::Switch, FaultKind::Reset, 4)],
    }
}

fn fault(on: Call, kind: FaultKind, every: u64) -> Fault {
    Fault {
        on,
        every: Some(every),
        ..Fault::always(kind)
    }
}
