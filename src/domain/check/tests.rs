use proptest::prelude::*;

use super::*;
use crate::domain::{Account, SandboxId};

const NOW: UnixSeconds = UnixSeconds(1_774_000_000);
const MINUTE: Duration = Duration::from_mins(1);
const RULES: CheckRules = CheckRules {
    interval: MINUTE,
    provision_timeout: Duration::from_mins(30),
    max_failures: 5,
    recheck_after: Duration::from_hours(24),
};

fn sandbox(status: Status, readiness: Readiness) -> Sandbox {
    let account = Account {
        sandbox_id: SandboxId::stored("2009521"),
        name: "lab".to_owned(),
        external_id: "identity/accounts/1".to_owned(),
        sfdc_account_id: None,
        created_at: None,
    };
    Sandbox {
        status,
        readiness,
        ..Sandbox::available(account)
    }
}

fn new() -> Sandbox {
    sandbox(Status::Provisioning, Readiness::default())
}

fn not_yet() -> Observation {
    Observation::NotYet("it has no groups yet".to_owned())
}

fn broken() -> Observation {
    Observation::Broken("CSP denies access to this account (HTTP 403)".to_owned())
}

/// Makes the observation at each of these times, in seconds from now. Returns the verdicts and the sandbox after them.
fn observe(sandbox: Sandbox, observation: &Observation, at: &[i64]) -> (Vec<Verdict>, Sandbox) {
    let mut sandbox = sandbox;
    let verdicts = at.iter().map(|seconds| {
        let now = UnixSeconds(NOW.0 + seconds);
        let (verdict, readiness) = sandbox.judge(observation, now, &RULES);
        sandbox.readiness = readiness;
        verdict
    });
    (verdicts.collect(), sandbox)
}

#[test]
fn account_that_is_never_usable_is_set_aside_after_the_timeout() {
    let minutes: Vec<i64> = (0..=30).map(|minute| minute * 60).collect();
    let (verdicts, after) = observe(new(), &not_yet(), &minutes);
    let (last, before) = verdicts.split_last().unwrap();
    assert!(before.iter().all(|verdict| *verdict == Verdict::NotYet));
    assert_eq!(*last, Verdict::Quarantine);
    assert_eq!(
        after.reason_of_check(&after.readiness, &RULES).as_str(),
        "checks have found the account not usable for 30 minutes, until 2026-03-20T10:16:40Z: it has no groups yet"
    );
}

#[test]
fn time_in_the_reason_of_a_quarantine_is_singular_for_one_minute() {
    let (_, after) = observe(new(), &not_yet(), &[0, 60]);
    let reason = after.reason_of_check(&after.readiness, &RULES);
    assert!(
        reason.as_str().contains("not usable for 1 minute, until"),
        "{}",
        reason.as_str()
    );
}

#[test]
fn time_without_answers_counts_for_no_more_than_two_intervals() {
    let (verdicts, after) = observe(new(), &not_yet(), &[0, 86_400, -86_400, -86_340]);
    assert_eq!(verdicts, [Verdict::NotYet; 4]);
    assert_eq!(after.readiness.unusable_sec, 120 + 60);
}

#[test]
fn first_answer_that_an_account_is_not_usable_counts_for_no_time() {
    let checked = Readiness {
        checked_at: Some(UnixSeconds(NOW.0 - 60)),
        ..Readiness::default()
    };
    let (_, after) = observe(sandbox(Status::Provisioning, checked), &not_yet(), &[0]);
    assert_eq!(after.readiness.unusable_sec, 0);
}

#[test]
fn broken_account_is_set_aside_after_answers_in_a_row_with_growing_pauses() {
    let mut at = vec![0];
    let mut sandbox = new();
    let mut verdicts = Vec::new();
    for _ in 0..5 {
        let now = UnixSeconds(NOW.0 + at.last().unwrap());
        let (verdict, readiness) = sandbox.judge(&broken(), now, &RULES);
        at.push(readiness.next_check_at.unwrap().0 - NOW.0);
        sandbox.readiness = readiness;
        verdicts.push(verdict);
    }
    assert_eq!(at, [0, 30, 90, 210, 450, 930]);
    assert_eq!(verdicts[..4], [Verdict::Failed; 4]);
    assert_eq!(verdicts[4], Verdict::Quarantine);
    assert_eq!(
        sandbox.reason_of_check(&sandbox.readiness, &RULES).as_str(),
        "5 checks in a row found the account broken, the last one at 2026-03-20T09:54:10Z: \
         CSP denies access to this account (HTTP 403)"
    );
}

#[test]
fn another_answer_ends_a_row_of_broken_ones() {
    let (_, failing) = observe(new(), &broken(), &[0, 60, 120, 180]);
    assert_eq!(failing.readiness.failures, 4);
    let (verdicts, waiting) = observe(failing.clone(), &not_yet(), &[240]);
    assert_eq!(verdicts, [Verdict::NotYet]);
    assert_eq!(waiting.readiness.failures, 0);
    let (verdicts, usable) = observe(failing, &Observation::Usable, &[240]);
    assert_eq!(verdicts, [Verdict::Usable]);
    let at = Some(UnixSeconds(NOW.0 + 240));
    let expected = Readiness {
        usable_at: at,
        checked_at: at,
        ..Readiness::default()
    };
    assert_eq!(usable.readiness, expected);
}

#[test]
fn available_account_that_lost_its_groups_is_broken() {
    let usable = Readiness {
        usable_at: Some(NOW),
        ..Readiness::default()
    };
    let available = sandbox(Status::Available, usable);
    let (verdicts, after) = observe(available, &not_yet(), &[0, 30, 90, 210, 450]);
    assert_eq!(verdicts[..4], [Verdict::Failed; 4]);
    assert_eq!(verdicts[4], Verdict::Quarantine);
    assert_eq!(after.readiness.usable_at, Some(NOW));
}

#[test]
fn available_account_is_rechecked_after_its_time_and_a_new_one_at_once() {
    assert!(new().is_check_due(NOW, &RULES));
    assert!(sandbox(Status::Available, Readiness::default()).is_check_due(NOW, &RULES));
    assert!(!sandbox(Status::Quarantined, Readiness::default()).is_check_due(NOW, &RULES));
    let checked = |at: i64| Readiness {
        usable_at: Some(UnixSeconds(1)),
        checked_at: Some(UnixSeconds(at)),
        ..Readiness::default()
    };
    for (at, is_due) in [
        (NOW.0 - 24 * 3600, true),
        (NOW.0 - 18 * 3600 + 1, false),
        (NOW.0 + 60, false),
        // A clock that was an hour ahead has checked it.
        (NOW.0 + 3600, true),
    ] {
        let available = sandbox(Status::Available, checked(at));
        assert_eq!(available.is_check_due(NOW, &RULES), is_due, "{at}");
    }
    for (next, is_due) in [(0, true), (60, false), (7200, true)] {
        let postponed = Readiness {
            next_check_at: Some(UnixSeconds(NOW.0 + next)),
            ..Readiness::default()
        };
        let sandbox = sandbox(Status::Provisioning, postponed);
        assert_eq!(sandbox.is_check_due(NOW, &RULES), is_due, "{next}");
    }
}

#[test]
fn rechecks_of_a_pool_are_spread() {
    let times: std::collections::BTreeSet<_> = (0..100)
        .map(|number| {
            let mut sandbox = new();
            sandbox.account.sandbox_id = SandboxId::stored(number.to_string());
            let after = sandbox.recheck_after(&RULES);
            assert!(after >= Duration::from_hours(18) && after <= RULES.recheck_after);
            after
        })
        .collect();
    let (first, last) = (*times.first().unwrap(), *times.last().unwrap());
    let span = last.saturating_sub(first);
    assert!(
        times.len() > 90 && span > Duration::from_hours(4),
        "{span:?}"
    );
}

#[test]
fn new_accounts_come_first_and_failing_ones_last() {
    let checked = |at| Readiness {
        checked_at: Some(UnixSeconds(at)),
        ..Readiness::default()
    };
    let failing = Readiness {
        next_check_at: Some(NOW),
        ..Readiness::default()
    };
    let in_order = [
        new(),
        sandbox(Status::Provisioning, checked(1)),
        sandbox(Status::Provisioning, checked(2)),
        sandbox(Status::Provisioning, failing.clone()),
        sandbox(Status::Available, Readiness::default()),
        sandbox(Status::Available, checked(1)),
        sandbox(Status::Available, failing),
    ];
    assert!(in_order.is_sorted_by(|one, next| one.check_order() < next.check_order()));
}

#[test]
fn check_without_an_answer_is_postponed_and_changes_nothing_else() {
    let (_, failing) = observe(new(), &broken(), &[0]);
    for (retry_after, expected) in [
        (None, 30),
        (Some(Duration::from_secs(90)), 90),
        (Some(Duration::from_hours(9)), 3600),
    ] {
        let postponed = failing.postponed(retry_after, NOW, &RULES);
        let expected = Readiness {
            next_check_at: Some(UnixSeconds(NOW.0 + expected)),
            ..failing.readiness.clone()
        };
        assert_eq!(postponed, expected);
    }
}

fn observation() -> impl Strategy<Value = Observation> {
    prop_oneof![
        Just(Observation::Usable),
        crate::arbitrary::text().prop_map(Observation::NotYet),
        crate::arbitrary::text().prop_map(Observation::Broken),
    ]
}

proptest! {
    /// For all answers of CSP and jumps of the clock: an account is set aside only after enough answers, it never
    /// ceases to count as once usable, and what is written fits into an item.
    #[test]
    fn account_is_set_aside_only_after_enough_answers(
        is_new in any::<bool>(),
        answers in proptest::collection::vec((observation(), -100_000_i64..100_000), 1..60),
    ) {
        let status = if is_new { Status::Provisioning } else { Status::Available };
        let mut sandbox = sandbox(status, Readiness::default());
        let (mut unusable, mut broken) = (0_u32, 0_u32);
        for (observation, at) in answers {
            let now = UnixSeconds(NOW.0 + at);
            let before = sandbox.readiness.clone();
            let (verdict, after) = sandbox.judge(&observation, now, &RULES);
            prop_assert_eq!(after.checked_at, Some(now));
            prop_assert!(before.usable_at.is_none() || after.usable_at == before.usable_at);
            match &observation {
                Observation::Usable => (unusable, broken) = (0, 0),
                Observation::NotYet(_) if is_new => (unusable, broken) = (unusable + 1, 0),
                _ => (unusable, broken) = (unusable + 1, broken + 1),
            }
            prop_assert_eq!(verdict == Verdict::Usable, observation == Observation::Usable);
            // 30 minutes take at least 15 pairs of answers, two minutes each.
            let is_possible = broken >= RULES.max_failures || (is_new && unusable > 15);
            prop_assert!(verdict != Verdict::Quarantine || is_possible);
            prop_assert!(verdict == Verdict::Quarantine || broken < RULES.max_failures);
            let reason = sandbox.reason_of_check(&after, &RULES);
            prop_assert_eq!(Reason::parse(reason.as_str()).map(|_| ()), Ok(()));
            prop_assert!(after.error.as_ref().is_none_or(|error| error.len() <= MAX_ERROR));
            sandbox.readiness = after;
        }
    }

    /// With answers every minute, an account that is not usable ends in quarantine within the time-out.
    #[test]
    fn account_that_is_not_usable_ends_in_quarantine(kinds in proptest::collection::vec(any::<bool>(), 31)) {
        let mut sandbox = new();
        let mut ended = false;
        for (minute, is_broken) in (0..).zip(kinds) {
            let observation = if is_broken { broken() } else { not_yet() };
            let now = UnixSeconds(NOW.0 + minute * 60);
            let (verdict, after) = sandbox.judge(&observation, now, &RULES);
            ended |= verdict == Verdict::Quarantine;
            sandbox.readiness = after;
        }
        prop_assert!(ended);
    }
}
