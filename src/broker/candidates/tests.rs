use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::RngExt;

use super::*;

fn candidate(name: &str) -> Candidate {
    Candidate {
        name: name.into(),
        id: SandboxId::parse(format!("id-{name}")).unwrap(),
        external_id: "identity/accounts/x".into(),
        sfdc_account_id: None,
    }
}

fn index(capacity: usize, names: &[&str]) -> CandidateIndex {
    let index = CandidateIndex::new(capacity, 7);
    index.add(names.iter().map(|name| candidate(name)).collect());
    index
}

fn prefix(text: &str) -> NamePrefix {
    NamePrefix::parse(text).unwrap()
}

#[test]
fn prefix_reserves_every_match_once_and_nothing_else() {
    let index = index(10, &["a-1", "b-1", "b-2", "b-3", "c-1"]);
    let b = prefix("b-");
    let mut taken = Vec::new();
    while let Some(reservation) = index.reserve(Some(&b)) {
        taken.push(reservation.candidate().name.to_string());
        reservation.end(Outcome::Consumed);
    }
    taken.sort();
    assert_eq!(taken, ["b-1", "b-2", "b-3"]);
    assert_eq!(index.len(), 2);
}

#[test]
fn first_candidate_is_random() {
    let names = ["a", "b", "c", "d"];
    let firsts: HashSet<_> = (0..100)
        .map(|seed| {
            let index = CandidateIndex::new(10, seed);
            index.add(names.iter().map(|name| candidate(name)).collect());
            index.reserve(None).unwrap().candidate().name.to_string()
        })
        .collect();
    assert_eq!(firsts.len(), names.len());
}

/// The number of wasted attempts until every sandbox has a holder. The brokers share the callers evenly, make at most
/// `in_flight` concurrent attempts, which end in random order, and never scan the table again.
fn wasted_attempts(brokers: usize, sandboxes: usize, in_flight: usize, seed: u64) -> usize {
    let mut rng = SmallRng::seed_from_u64(seed);
    let names: Vec<_> = (0..sandboxes).map(|n| format!("{n:05}")).collect();
    let indexes: Vec<_> = (0..brokers)
        .map(|_| {
            let index = CandidateIndex::new(sandboxes, rng.random());
            index.add(names.iter().map(|name| candidate(name)).collect());
            index
        })
        .collect();
    let mut callers = vec![sandboxes / brokers; brokers];
    let mut attempts = Vec::new();
    let mut taken: HashSet<SandboxId> = HashSet::new();
    let begin = |broker: usize| Some((broker, indexes[broker].reserve(None)?));
    for (broker, callers) in callers.iter().enumerate() {
        attempts.extend((0..in_flight.min(*callers)).filter_map(|_| begin(broker)));
    }
    let mut wasted = 0;
    while !attempts.is_empty() {
        let (broker, attempt) = attempts.swap_remove(rng.random_range(0..attempts.len()));
        if taken.insert(attempt.candidate().id.clone()) {
            attempt.end(Outcome::Consumed);
            callers[broker] -= 1;
        } else {
            attempt.end(Outcome::TakenByOther);
            wasted += 1;
        }
        let in_progress = attempts.iter().filter(|(of, _)| *of == broker).count();
        if in_progress < callers[broker] {
            attempts.extend(begin(broker));
        }
    }
    assert_eq!(taken.len(), sandboxes);
    wasted
}

#[test]
fn brokers_that_empty_a_pool_together_rarely_try_the_same_sandbox() {
    // Random choices would waste a median of 933, 2,236 and 3,377 attempts.
    for (brokers, bound) in [(2, 50), (4, 1300), (8, 2400)] {
        let mut wasted: Vec<_> = (0..11)
            .map(|seed| wasted_attempts(brokers, 1000, 64, seed))
            .collect();
        wasted.sort_unstable();
        assert!(wasted[5] <= bound, "{brokers} brokers: {wasted:?}");
    }
}

#[test]
fn sandboxes_of_one_name_are_used_up_no_faster_than_others() {
    let names: Vec<_> = (0..700)
        .map(|n| format!("a-{n:03}"))
        .chain((0..100).map(|n| format!("b-{n:03}")))
        .collect();
    for seed in 0..20 {
        let index = CandidateIndex::new(1000, seed);
        index.add(names.iter().map(|name| candidate(name)).collect());
        for _ in 0..400 {
            index.reserve(None).unwrap().end(Outcome::Consumed);
        }
        let left = index.count_matches(Some(&prefix("b-")));
        assert!((25..75).contains(&left), "{left} of 100");
    }
}

#[test]
fn sandboxes_of_one_name_are_used_up_no_faster_in_a_large_index() {
    let names: Vec<_> = (0..2100)
        .map(|n| format!("a-{n:04}"))
        .chain((0..700).map(|n| format!("b-{n:04}")))
        .collect();
    let index = CandidateIndex::new(5000, 1);
    index.add(names.iter().map(|name| candidate(name)).collect());
    for _ in 0..1400 {
        index.reserve(None).unwrap().end(Outcome::Consumed);
    }
    let left = index.count_matches(Some(&prefix("b-")));
    assert!((250..450).contains(&left), "{left} of 700");
}

#[test]
fn contended_candidate_is_not_proposed_next() {
    let names: Vec<_> = (0..100).map(|n| format!("{n:03}")).collect();
    for seed in 0..20 {
        let index = CandidateIndex::new(1000, seed);
        index.add(names.iter().map(|name| candidate(name)).collect());
        let reservation = index.reserve(None).unwrap();
        let id = reservation.candidate().id.clone();
        reservation.end(Outcome::Contended);
        assert_eq!(index.len(), names.len(), "it stays for a later attempt");
        assert_ne!(index.reserve(None).unwrap().candidate().id, id);
    }
}

#[test]
fn bad_candidates_that_always_return_delay_few_requests() {
    let names: Vec<_> = (0..200).map(|n| format!("{n:03}")).collect();
    for (seed, bad_count) in (0..20).flat_map(|seed| [(seed, 1), (seed, 3)]) {
        let index = CandidateIndex::new(1000, seed);
        index.add(names.iter().map(|name| candidate(name)).collect());
        let bad: HashSet<_> = ["007", "077", "177"][..bad_count]
            .iter()
            .map(|name| candidate(name).id)
            .collect();
        let mut attempts_at_bad = 0;
        for _ in 0..150 {
            let reservation = index.reserve(None).unwrap();
            if bad.contains(&reservation.candidate().id) {
                attempts_at_bad += 1;
                let again = reservation.candidate().clone();
                drop(reservation);
                index.add(vec![again]);
            } else {
                reservation.end(Outcome::Consumed);
            }
        }
        assert!(attempts_at_bad <= 20, "{attempts_at_bad} of 150");
    }
}

#[test]
fn reserved_candidate_is_counted_but_not_added_again() {
    let index = index(10, &["a"]);
    let reservation = index.reserve(None).unwrap();
    let scan = index.begin_scan();
    assert_eq!(
        index.add_page(vec![candidate("a")], scan, None),
        PageMatches {
            free: 0,
            reserved: 1
        }
    );
    assert!(index.reserve(None).is_none());
    reservation.end(Outcome::Unused);
    assert!(index.has_match(None));
    index.finish_scan(scan, true);
    assert!(
        index.has_match(None),
        "the scan keeps a candidate that returned while it ran"
    );
}

#[test]
fn consumed_candidate_is_never_added_again() {
    let index = index(10, &["a", "b"]);
    index.reserve(None).unwrap().end(Outcome::Consumed);
    index.reserve(None).unwrap().end(Outcome::TakenByOther);
    assert_eq!(index.stale_hits(), 1);
    let scan = index.begin_scan();
    assert_eq!(
        index.add_page(vec![candidate("a"), candidate("b")], scan, None),
        PageMatches::default()
    );
    assert_eq!(index.stale_hits(), 0);
}

#[test]
fn candidate_of_a_cancelled_request_returns_with_the_next_scan() {
    let index = index(10, &["a"]);
    drop(index.reserve(None));
    assert!(index.is_empty());
    let scan = index.begin_scan();
    assert_eq!(index.add_page(vec![candidate("a")], scan, None).free, 1);
}

#[test]
fn full_index_makes_room_for_the_requested_prefix() {
    let index = index(3, &["a", "b", "c"]);
    let scan = index.begin_scan();
    index.add_page(
        vec![candidate("z-1"), candidate("z-2")],
        scan,
        Some(&prefix("z-")),
    );
    assert_eq!(index.len(), 3);
    assert_eq!(index.count_matches(Some(&prefix("z-"))), 2);
}

#[test]
fn scan_removes_candidates_it_did_not_return_except_new_ones() {
    let index = index(10, &["a", "b"]);
    let names = || -> Vec<_> {
        let inner = index.lock();
        inner.free.names().map(str::to_owned).collect()
    };
    let lagging = index.begin_scan();
    index.add_page(vec![candidate("b")], lagging, None);
    index.finish_scan(lagging, true);
    assert_eq!(names(), ["a", "b"]);
    let next = index.begin_scan();
    index.add_page(vec![candidate("b")], next, None);
    index.add(vec![candidate("new")]);
    index.finish_scan(next, true);
    assert_eq!(names(), ["b", "new"]);
}

#[test]
fn search_for_an_absent_prefix_leaves_a_full_index_unchanged() {
    let names = ["a", "b", "c", "d", "e"];
    let index = index(3, &names);
    for _ in 0..3 {
        let scan = index.begin_scan();
        let page = names.iter().map(|name| candidate(name)).collect();
        assert_eq!(
            index.add_page(page, scan, Some(&prefix("z-"))),
            PageMatches::default()
        );
        index.finish_scan(scan, true);
        assert_eq!(index.len(), 3);
    }
}

/// Performs a complete scan without a prefix, which returns these names.
fn scan_all(index: &CandidateIndex, names: &[&str]) {
    let scan = index.begin_scan();
    index.add_page(
        names.iter().map(|name| candidate(name)).collect(),
        scan,
        None,
    );
    index.finish_scan(scan, true);
}

fn rules_out(index: &CandidateIndex, text: &str) -> bool {
    index.no_match_since(Some(&prefix(text))).is_some()
}

#[test]
fn complete_scan_rules_out_every_absent_prefix() {
    let index = CandidateIndex::new(10, 7);
    assert!(!rules_out(&index, "a-"), "nothing is known before a scan");
    let before = Instant::now();
    scan_all(&index, &["b-1"]);
    assert!(index.no_match_since(Some(&prefix("a-"))).unwrap() >= before);
    assert!(rules_out(&index, "c-"));
    assert!(!rules_out(&index, "b-"));
    assert!(index.no_match_since(None).is_none());
    let scan = index.begin_scan();
    assert!(!rules_out(&index, "a-"), "the new scan may return one");
    index.finish_scan(scan, false);
    assert!(!rules_out(&index, "a-"), "it did not read the last page");
}

#[test]
fn reserved_match_is_not_ruled_out_until_it_is_consumed() {
    let index = CandidateIndex::new(10, 7);
    scan_all(&index, &["a-1", "b-1"]);
    let reservation = index.reserve(Some(&prefix("b-"))).unwrap();
    assert!(!rules_out(&index, "b-"));
    reservation.end(Outcome::Unused);
    assert!(!rules_out(&index, "b-"));
    index
        .reserve(Some(&prefix("b-")))
        .unwrap()
        .end(Outcome::Consumed);
    assert!(rules_out(&index, "b-"));
}

#[test]
fn candidate_with_an_unknown_outcome_may_match_until_the_next_scan() {
    let index = CandidateIndex::new(10, 7);
    for outcome in [None, Some(Outcome::Stale)] {
        scan_all(&index, &["a-1"]);
        let reservation = index.reserve(None).unwrap();
        match outcome {
            Some(outcome) => reservation.end(outcome),
            None => drop(reservation),
        }
        assert!(!rules_out(&index, "a-"));
    }
    scan_all(&index, &[]);
    assert!(rules_out(&index, "a-"));
}

#[test]
fn older_page_does_not_undo_a_rename() {
    let index = CandidateIndex::new(10, 7);
    let scan = index.begin_scan();
    // A sync adds the new name while a page with the old one is being read.
    let mut renamed = candidate("a-1");
    renamed.name = "b-1".into();
    index.add(vec![renamed]);
    index.add_page(vec![candidate("a-1")], scan, None);
    index.finish_scan(scan, true);
    assert!(index.has_match(Some(&prefix("b-"))));
    assert!(!index.has_match(Some(&prefix("a-"))));
}

#[test]
fn removed_candidate_is_not_ruled_out_until_the_next_scan() {
    let index = CandidateIndex::new(10, 7);
    scan_all(&index, &["a-1"]);
    index.remove(&HashSet::from([candidate("a-1").id]));
    assert!(!rules_out(&index, "a-"));
}

#[test]
fn scan_of_more_sandboxes_than_the_index_holds_rules_out_nothing() {
    let index = CandidateIndex::new(2, 7);
    scan_all(&index, &["a", "b", "c"]);
    assert!(!rules_out(&index, "z-"));
    let scan = index.begin_scan();
    let page = ["a", "b", "c"].map(candidate).into();
    index.add_page(page, scan, Some(&prefix("z-")));
    index.finish_scan(scan, true);
    assert!(!rules_out(&index, "c"));
}

#[test]
fn sandbox_renamed_while_it_is_reserved_is_not_ruled_out_under_its_new_name() {
    let index = CandidateIndex::new(10, 7);
    scan_all(&index, &["a-1"]);
    let reservation = index.reserve(None).unwrap();
    let scan = index.begin_scan();
    let mut renamed = candidate("a-1");
    renamed.name = "b-1".into();
    index.add_page(vec![renamed], scan, Some(&prefix("c-")));
    index.finish_scan(scan, true);
    assert!(!rules_out(&index, "b-"));
    drop(reservation);
}

#[derive(Clone, Debug)]
enum Step {
    Insert { id: u8, name: u8, seen: u64 },
    Remove(u8),
    RemoveUnseenSince(u64),
    Evict { capacity: usize, prefix: u8 },
    Conflict(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..100_u8, 0..40_u8, 0..5_u64).prop_map(|(id, name, seen)| Step::Insert { id, name, seen }),
        5 => (0..100_u8).prop_map(Step::Remove),
        1 => (0..5_u64).prop_map(Step::RemoveUnseenSince),
        1 => (0..60_usize, 0..6_u8).prop_map(|(capacity, prefix)| Step::Evict { capacity, prefix }),
        3 => (0..100_u8).prop_map(Step::Conflict),
    ]
}

proptest! {
    #[test]
    fn nearest_match_is_the_one_that_the_anchor_prefers(steps in prop::collection::vec(step(), 0..300)) {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut anchor = Anchor::new(&mut rng);
        let mut free = FreeCandidates::default();
        let id = |id: u8| SandboxId::parse(id.to_string()).unwrap();
        let position = |n: u8| RingPosition::of(&id(n));
        let prefixes: Vec<_> = (0..40).map(|n| prefix(&n.to_string())).collect();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert { id: n, name, seen } => {
                    let candidate = Candidate { id: id(n), ..candidate(&name.to_string()) };
                    free.insert(Arc::new(candidate), seen);
                }
                Step::Remove(n) => drop(free.remove(position(n))),
                Step::RemoveUnseenSince(scan) => free.remove_unseen_since(scan),
                Step::Evict { capacity, prefix } => {
                    let prefix = Some(&prefixes[usize::from(prefix)]);
                    let kept = free.matches(prefix).count().min(capacity);
                    free.evict(capacity, prefix, &mut rng);
                    prop_assert!(free.len() <= capacity);
                    prop_assert_eq!(free.matches(prefix).count(), kept);
                }
                Step::Conflict(n) => anchor.record_conflict(anchor.begin_attempt(position(n)), &mut rng),
            }
            prop_assert_eq!(free.matches(None).collect::<BTreeSet<_>>().len(), free.len());
            for prefix in [None, Some(&prefixes[number % 40]), Some(&prefixes[number % 3])] {
                let preferred = free.matches(prefix).min_by_key(|position| anchor.preference(*position));
                prop_assert_eq!(free.nearest(&anchor, prefix), preferred);
            }
        }
    }
}
