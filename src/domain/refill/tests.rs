mod world;

use super::*;
use crate::{
    clock::UnixSeconds,
    domain::{
        Account, Creation, CreationOutcome, CreationState, NamePrefix, PoolCreation, PoolTarget,
        PoolTerms, Sandbox, SandboxId, Status,
    },
};

const NOW: UnixSeconds = UnixSeconds(1_000_000);
const HOUR: i64 = 3600;

fn prefix() -> NamePrefix {
    NamePrefix::parse("lab").unwrap()
}

fn terms(target_available: u32, max_total: Option<u32>) -> PoolTerms {
    PoolTerms {
        name_prefix: prefix(),
        target_available,
        max_total,
        schedules: Vec::new(),
        create: Some(PoolCreation::default()),
    }
}

fn target(goal: u32) -> PoolTarget {
    PoolTarget {
        target: goal,
        goal,
        schedule: None,
    }
}

fn creation(number: u64, state: CreationState) -> Creation {
    let is_created = matches!(state, CreationState::Created | CreationState::Listed);
    Creation {
        state,
        attempts: u32::from(state != CreationState::Intended),
        attempted_at: (state != CreationState::Intended).then_some(NOW),
        created_at: is_created.then_some(NOW),
        external_id: is_created.then(|| format!("identity/accounts/{number}")),
        ..Creation::intended(&prefix(), number, NOW)
    }
}

fn sandbox(name: &str, id: &str, status: Status) -> Sandbox {
    Sandbox {
        status,
        inserted_at: Some(NOW),
        ..Sandbox::available(Account {
            sandbox_id: SandboxId::stored(id),
            name: name.to_owned(),
            external_id: format!("identity/accounts/{id}"),
            sfdc_account_id: None,
            created_at: None,
        })
    }
}

fn plan(pool: (u32, Option<u32>), creations: &[Creation], sandboxes: &[Sandbox]) -> RefillPlan {
    plan_without(&[], pool, creations, sandboxes)
}

/// Returns the plan of a run that knows that these creations without an answer have no account.
fn plan_without(
    absent: &[u64],
    (goal, max_total): (u32, Option<u32>),
    creations: &[Creation],
    sandboxes: &[Sandbox],
) -> RefillPlan {
    let prefix = prefix();
    let mut contents = PoolContents::new(&prefix, creations);
    for sandbox in sandboxes {
        contents.add(sandbox);
    }
    let (terms, target) = (terms(goal, max_total), target(goal));
    let is_absent = |creation: &Creation| absent.contains(&creation.number);
    RefillPlan::new(&terms, &target, (0, creations), &contents, is_absent, NOW)
}

fn others(count: usize, status: Status) -> Vec<Sandbox> {
    let one = |n| sandbox(&format!("lab-{n:04}"), &format!("9{n}"), status);
    (0..count).map(one).collect()
}

#[test]
fn accounts_under_way_are_not_wanted_again() {
    use CreationState::{Attempted, Created, Intended};
    let open = [
        creation(1, Created),
        creation(2, Intended),
        creation(3, Attempted),
    ];
    let sandboxes = [
        others(2, Status::Available),
        others(1, Status::Provisioning),
        others(4, Status::Allocated),
    ];
    let plan = plan((10, None), &open, &sandboxes.concat());
    assert_eq!((plan.under_way, plan.created, plan.new), (3, 2, 4));
    assert_eq!((plan.resume, plan.unanswered), (vec![2], vec![3]));
    assert_eq!((plan.next_number, plan.limit), (4, None));
}

#[test]
fn creation_finds_its_sandbox_by_an_id_without_the_type_of_the_resource() {
    let open = [creation(1, CreationState::Created)];
    let mut short = sandbox("lab-r000001", "1", Status::Available);
    short.account.external_id = "1".to_owned();
    let closed = plan((1, None), &open, &[short.clone()]);
    assert_eq!((closed.closings.len(), closed.under_way), (1, 0));
    short.account.external_id = "2".to_owned();
    let other = plan((2, None), &open, &[short]);
    assert_eq!((other.closings.len(), other.under_way), (0, 1));
}

#[test]
fn creation_whose_account_csp_lists_under_another_name_is_under_way() {
    use CreationState::{Created, Listed};
    let open = [creation(1, Created), creation(2, Listed)];
    let prefix = prefix();
    let mut contents = PoolContents::new(&prefix, &open);
    contents.add_other(&sandbox("LAB-R000001", "1", Status::Available));
    contents.add_other(&sandbox("LAB-R000002", "2", Status::Available));
    contents.add_other(&sandbox("LAB-R000003", "3", Status::Available));
    let of = |contents: &_, later| {
        let (terms, target) = (terms(2, None), target(2));
        RefillPlan::new(&terms, &target, (2, &open), contents, |_| false, later)
    };
    let plan = of(&contents, UnixSeconds(NOW.0 + 2 * HOUR));
    assert_eq!((plan.under_way, plan.new), (2, 0));
    assert_eq!((plan.closings.len(), plan.look_up.len()), (0, 0));
    let mut contents = PoolContents::new(&prefix, &open);
    contents.add_other(&sandbox("LAB-R000002", "2", Status::Stale));
    assert_eq!(of(&contents, NOW).closings.len(), 1);
}

#[test]
fn pool_never_has_more_than_its_maximum() {
    let sandboxes = [others(2, Status::Available), others(5, Status::Allocated)].concat();
    let stale = others(9, Status::Stale);
    let of = |max| plan((10, Some(max)), &[], &[&sandboxes[..], &stale].concat());
    assert_eq!((of(9).new, of(9).limit), (2, Some(RefillLimit::MaxTotal)));
    assert_eq!((of(7).new, of(7).limit), (0, Some(RefillLimit::MaxTotal)));
    assert_eq!((of(3).new, of(3).limit), (0, Some(RefillLimit::MaxTotal)));
}

#[test]
fn creation_without_an_answer_counts_as_an_account_until_it_is_known_to_have_none() {
    use CreationState::{Attempted, Created, Intended};
    let open = [
        creation(1, Intended),
        creation(2, Attempted),
        creation(3, Attempted),
        creation(4, Created),
    ];
    for (absent, goal, resume, surplus) in [
        (&[][..], 4, &[1][..], &[][..]),
        (&[], 3, &[], &[1]),
        (&[2], 3, &[1], &[2]),
        (&[2], 2, &[], &[1, 2]),
        (&[2, 3], 4, &[1, 2, 3], &[]),
        (&[2, 3], 1, &[], &[1, 2, 3]),
    ] {
        let plan = plan_without(absent, (goal, None), &open, &[]);
        assert_eq!((plan.new, plan.under_way), (0, 4), "{absent:?} {goal}");
        assert_eq!(
            (&*plan.resume, &*plan.surplus),
            (resume, surplus),
            "{absent:?} {goal}"
        );
        assert_eq!(plan.unanswered.len(), 2 - absent.len());
    }
    assert_eq!(plan((0, None), &open, &[]).limit, Some(RefillLimit::Full));
}

#[test]
fn creation_with_a_sandbox_is_counted_once() {
    let open = [creation(1, CreationState::Created)];
    let both = [
        sandbox("lab-r000001", "1", Status::Provisioning),
        sandbox("lab-r000001", "another", Status::Available),
    ];
    let one = plan((3, None), &open, &both[..1]);
    assert_eq!((one.under_way, one.new, one.closings.len()), (0, 2, 0));
    let other = plan((3, None), &open, &both[1..]);
    assert_eq!((other.under_way, other.new), (1, 1), "the id decides");
    let two = plan((3, None), &open, &both);
    assert_eq!((two.under_way, two.new), (0, 1), "both accounts exist");
}

#[test]
fn creation_without_an_id_is_recognised_by_its_name() {
    for state in [CreationState::Intended, CreationState::Attempted] {
        let open = [creation(1, state)];
        let found = sandbox("lab-r000001", "1", Status::Available);
        let plan = plan((3, None), &open, &[found]);
        assert_eq!((plan.resume.len(), plan.under_way, plan.new), (0, 0, 2));
        assert_eq!(plan.closings[0].available_at, Some(NOW));
    }
}

#[test]
fn creation_ends_with_the_first_state_of_its_sandbox_after_provisioning() {
    use CreationOutcome::{Available, Gone, Quarantined};
    let open = [creation(1, CreationState::Listed)];
    for (status, usable_at, outcome, available_at) in [
        (Status::Available, Some(5), Available, Some(5)),
        (Status::Available, None, Available, Some(NOW.0)),
        (Status::Allocated, Some(5), Available, Some(5)),
        (Status::Quarantined, None, Quarantined, None),
        (Status::Quarantined, Some(5), Available, Some(5)),
        (Status::Stale, None, Gone, None),
    ] {
        let mut found = sandbox("lab-r000001", "1", status);
        found.readiness.usable_at = usable_at.map(UnixSeconds);
        let closing = Closing {
            number: 1,
            outcome,
            available_at: available_at.map(UnixSeconds),
        };
        assert_eq!(
            plan((3, None), &open, &[found]).closings,
            [closing],
            "{status}"
        );
    }
    let gone = plan((3, None), &open, &[]);
    assert_eq!((gone.closings[0].outcome, gone.under_way), (Gone, 0));
}

#[test]
fn account_that_no_sync_lists_is_looked_up_every_hour() {
    let at = |seconds| Some(UnixSeconds(NOW.0 + seconds));
    for (created_at, looked_up_at, is_due) in [
        (at(-HOUR + 1), None, false),
        (at(-HOUR), None, true),
        (at(-9 * HOUR), at(-HOUR + 1), false),
        (at(-9 * HOUR), at(-HOUR), true),
        (at(9 * HOUR), at(-1), false),
        (at(9 * HOUR), at(9 * HOUR), true),
    ] {
        let mut missing = creation(1, CreationState::Created);
        (missing.created_at, missing.looked_up_at) = (created_at, looked_up_at);
        let plan = plan((3, None), &[missing], &[]);
        let expected: &[u64] = if is_due { &[1] } else { &[] };
        assert_eq!(plan.look_up, expected, "{created_at:?} {looked_up_at:?}");
        assert_eq!(plan.under_way, 1);
    }
}

#[test]
fn number_follows_the_counter_the_creations_and_the_names_of_sandboxes() {
    let number =
        |open: &[Creation], sandboxes: &[Sandbox]| plan((9, None), open, sandboxes).next_number;
    assert_eq!(number(&[], &[]), 1);
    assert_eq!(number(&[creation(7, CreationState::Intended)], &[]), 8);
    let named = sandbox("lab-r000030", "x", Status::PendingDeletion);
    assert_eq!(number(&[], &[named]), 31);
}

#[test]
fn percentile_needs_some_times_and_is_one_of_them() {
    let state = |times: &[u64]| RefillState {
        times: times
            .iter()
            .copied()
            .map(std::time::Duration::from_secs)
            .collect(),
        ..RefillState::default()
    };
    let seconds = |times: &[u64]| state(times).time_to_available().map(|time| time.as_secs());
    assert_eq!(seconds(&[]), None);
    assert_eq!(seconds(&[1, 2, 3, 4]), None);
    assert_eq!(seconds(&[5, 1, 4, 2, 3]), Some(5));
    let all: Vec<u64> = (1..=100).rev().collect();
    assert_eq!(seconds(&all), Some(95));
    assert_eq!(seconds(&all[..20]), Some(99));
}

#[test]
fn pool_is_below_its_target_since_the_first_run_that_found_it_so() {
    let state = |below_since| RefillState {
        below_since,
        ..RefillState::default()
    };
    let (earlier, ahead) = (
        Some(UnixSeconds(NOW.0 - 60)),
        Some(UnixSeconds(NOW.0 + HOUR)),
    );
    assert_eq!(state(None).below_since(true, NOW), Some(NOW));
    assert_eq!(state(earlier).below_since(true, NOW), earlier);
    assert_eq!(
        state(ahead).below_since(true, NOW),
        Some(NOW),
        "the clock was wrong"
    );
    assert_eq!(state(earlier).below_since(false, NOW), None);
}

#[test]
fn stopped_pool_is_probed_after_a_pause_and_under_another_policy() {
    let stop = RefillStop::new("quota".to_owned(), NOW, 3);
    let later = |minutes: i64| UnixSeconds(NOW.0 + minutes * 60);
    assert!(!stop.admits_probe(later(14), 3));
    assert!(stop.admits_probe(later(15), 3) && stop.admits_probe(NOW, 4));
    assert!(stop.admits_probe(later(-1000), 3), "the clock was wrong");
}

#[test]
fn reason_of_a_stop_says_when_creation_is_attempted_again() {
    let stop = RefillStop::new("HTTP 403".to_owned(), UnixSeconds(1_774_000_000), 1);
    assert_eq!(
        stop.report_reason(),
        "HTTP 403; the next attempt is after 2026-03-20T10:01:40Z, or at once when an operator starts the job"
    );
}
