//! Promise F under races: an allocation is never retired before its end plus grace, and an extension that was answered
//! holds, whatever two brokers write to the sandbox at the same time.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::{join, join_all};
use reqwest::Method;
use sandbox_broker::{
    clock::UnixSeconds,
    domain::{Sandbox, Status},
    store::Item,
};
use serde_json::json;

use super::{END, GRACE, HOUR, allocate, claims, whole};
use crate::support::{Answer, Pool, START, TestBroker};

/// The sandboxes that each race is about.
const SANDBOXES: usize = 8;
/// The minutes of the extension in each race, and the end that it wants.
const MINUTES: u64 = 180;
const EXTENDED: i64 = END + 3 * HOUR;

/// A writer that is at the same sandboxes as an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    /// The holder extends by as many minutes.
    Extend(u64),
    /// The holder releases.
    Release,
    /// The holder repeats its allocation, which expires an overdue one.
    Replay,
    /// The job expires overdue allocations.
    Expiry,
    /// The holder has the sandbox replaced.
    Replace,
    /// An operator acts.
    Operator(&'static str),
}

/// The answers about one sandbox, and what the race has left of it.
struct Result {
    id: String,
    /// The answers to extensions by the holder.
    extensions: Vec<Answer>,
    /// The answer to the other writer; `None` for a job.
    other: Option<Answer>,
    sandbox: Sandbox,
    claim: Option<Item>,
}

impl Result {
    fn end(&self) -> i64 {
        self.sandbox.expires_at.unwrap().0
    }

    fn describe(&self) -> String {
        let answers = self.extensions.iter().chain(&self.other);
        let answers = answers.map(|answer| (answer.status.as_u16(), &answer.text));
        let answers: Vec<_> = answers.collect();
        format!("{answers:?}, then {:#?}", self.sandbox)
    }

    /// Returns the end that an extension was answered with; `None` if it was refused because the allocation was over.
    fn answered(&self, at: usize) -> Option<i64> {
        let answer = &self.extensions[at];
        if answer.status == 200 {
            return Some(answer.json()["expires_at"].as_i64().unwrap());
        }
        assert_eq!(answer.code(), "ALLOCATION_EXPIRED", "{}", self.describe());
        None
    }

    /// Checks promise F, and that the claim outlives the allocation.
    fn check(&self) {
        for at in 0..self.extensions.len() {
            let answered = self.answered(at);
            assert!(answered <= Some(self.end()), "{}", self.describe());
        }
        let by = self.sandbox.released_by.as_deref();
        if by == Some("auto-expire") {
            let ended = self.sandbox.deletion_requested_at.unwrap().0;
            assert!(ended > self.end() + GRACE, "{}", self.describe());
        }
        if self.sandbox.status == Status::Allocated {
            let claim = self.claim.as_ref().unwrap();
            super::assert_outlives(claim, self.end());
            assert_eq!(whole(claim, "allocated_at"), START.0);
        }
    }
}

/// Two brokers, the sandboxes that callers hold, and as many that are free.
struct Arena {
    pool: Pool,
    brokers: [TestBroker; 2],
    ids: Vec<String>,
}

impl Arena {
    /// The first broker is in the grace period of the allocations, and the second one at `later` after it.
    async fn new(later: Duration) -> Self {
        let pool = Pool::of(SANDBOXES * 2).await;
        let limits = [
            ("RATE_LIMIT_PER_SEC", "10000"),
            ("RATE_LIMIT_BURST", "10000"),
        ];
        let first = Box::pin(pool.broker_with(&limits)).await;
        let terms = json!({ "duration_minutes": 60, "max_duration_minutes": 480 });
        let policy = json!({ "defaults": terms });
        first.client.set_policy(0, &policy).await;
        let second = Box::pin(pool.broker_with(&limits)).await;
        let brokers = [first, second];
        let client = &brokers[0].client;
        let allocations =
            (0..SANDBOXES).map(|number| async move { allocate(client, &caller(number)).await });
        let ids = join_all(allocations).await;
        brokers[0].clock.set(UnixSeconds(END));
        brokers[1].clock.set(UnixSeconds(END) + later);
        Self { pool, brokers, ids }
    }

    async fn write(&self, other: Other, number: usize) -> Option<Answer> {
        let (client, id) = (&self.brokers[1].client, &self.ids[number]);
        let caller = caller(number);
        match other {
            Other::Extend(minutes) => Some(client.extend(id, &caller, minutes).await),
            Other::Release => Some(client.release(id, &caller).await),
            Other::Replay => Some(client.allocate(&caller).await),
            Other::Expiry => None,
            Other::Replace => Some(client.replace(id, &caller).await),
            Other::Operator(action) => {
                let body = match action {
                    "extend" => json!({ "minutes": 600, "reason": "test" }),
                    _ => json!({ "reason": "test" }),
                };
                Some(client.act(id, action, &body).await)
            }
        }
    }

    async fn results(
        &self,
        answers: Vec<(Vec<Answer>, Option<Answer>)>,
    ) -> impl Iterator<Item = Result> + use<> {
        let sandboxes = self.pool.sandboxes().await.into_iter();
        let mut sandboxes: BTreeMap<_, _> = sandboxes
            .map(|sandbox| (sandbox.id().to_string(), sandbox))
            .collect();
        let mut claims = claims(&self.pool).await;
        let results = self.ids.clone().into_iter().zip(answers);
        results.map(move |(id, (extensions, other))| {
            let result = Result {
                extensions,
                other,
                sandbox: sandboxes.remove(&id).unwrap(),
                claim: claims.remove(&id),
                id,
            };
            result.check();
            result
        })
    }

    /// Runs extensions on the first broker and the other writer on the second one, for all sandboxes at once.
    async fn race(&self, other: Other) -> impl Iterator<Item = Result> + use<> {
        let requests = (0..SANDBOXES).map(|number| async move {
            let client = &self.brokers[0].client;
            let caller = caller(number);
            let extension = client.extend(&self.ids[number], &caller, MINUTES);
            let (extension, other) = join(extension, self.write(other, number)).await;
            (vec![extension], other)
        });
        let job = async {
            if other == Other::Expiry {
                self.brokers[1].client.job("auto-expire?force=true").await;
            }
        };
        let (answers, ()) = Box::pin(join(join_all(requests), job)).await;
        self.results(answers).await
    }
}

fn caller(number: usize) -> String {
    format!("play-{number}")
}

/// The second broker finds the allocations overdue, unless they have been extended.
const AHEAD: Duration = Duration::from_hours(1);
/// Both brokers have the same time.
const EQUAL: Duration = Duration::ZERO;

#[tokio::test(flavor = "multi_thread")]
async fn of_an_extension_and_an_expiry_exactly_one_happens() {
    for other in [Other::Expiry, Other::Replay] {
        for result in Arena::new(AHEAD).await.race(other).await {
            let status = result.sandbox.status;
            let answered = result.answered(0);
            let (expected, end) = match answered {
                Some(_) => (Status::Allocated, EXTENDED),
                None => (Status::PendingDeletion, END),
            };
            assert_eq!(
                (status, result.end()),
                (expected, end),
                "{}",
                result.describe()
            );
            if let Some(replay) = &result.other {
                // A caller whose allocation was extended holds it still, and no second one.
                let is_same = replay.sandbox_id() == result.id;
                assert_eq!(is_same, answered.is_some(), "{}", result.describe());
                let status = if is_same { 200 } else { 201 };
                assert_eq!(replay.status, status, "{}", result.describe());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_beside_the_end_of_an_allocation_is_before_it_or_refused() {
    for (other, status) in [
        (Other::Release, Status::PendingDeletion),
        (Other::Operator("release"), Status::PendingDeletion),
        (Other::Operator("quarantine"), Status::Quarantined),
    ] {
        for result in Arena::new(EQUAL).await.race(other).await {
            assert_eq!(result.other.as_ref().unwrap().status, 200);
            assert_eq!(result.sandbox.status, status, "{}", result.describe());
            let end = result.answered(0).unwrap_or(END);
            assert_eq!(result.end(), end, "{}", result.describe());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_beside_a_replacement_holds_for_the_new_sandbox_or_is_refused() {
    let arena = Arena::new(EQUAL).await;
    for result in arena.race(Other::Replace).await {
        let replacement = result.other.as_ref().unwrap();
        assert_eq!(replacement.status, 201, "{}", result.describe());
        let status = result.sandbox.status;
        assert_eq!(status, Status::PendingDeletion, "{}", result.describe());
        // The new sandbox has an hour, or the end of the old one if that is later.
        let answered = result.answered(0);
        let end = answered.unwrap_or(END + HOUR);
        let new = replacement.sandbox_id();
        let expires_at = super::stored(&arena.pool, &new).await.expires_at;
        assert_eq!(expires_at.unwrap().0, end, "{}", result.describe());
        super::assert_outlives(&claims(&arena.pool).await[&new], end);
        if answered.is_none() {
            let refusal = result.extensions[0].message();
            assert!(refusal.contains(&new), "{refusal}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_extensions_the_later_end_holds_and_both_count() {
    for (other, later) in [
        (Other::Extend(240), END + 4 * HOUR),
        (Other::Operator("extend"), END + 10 * HOUR),
        (Other::Extend(60), EXTENDED),
    ] {
        for result in Arena::new(EQUAL).await.race(other).await {
            let description = result.describe();
            let other = result.other.as_ref().unwrap();
            assert_eq!(other.status, 200, "{description}");
            assert_eq!(result.end(), later, "{description}");
            let ends = [
                result.answered(0).unwrap(),
                other.json()["expires_at"].as_i64().unwrap(),
            ];
            // Both have moved the end if one was answered with an earlier one.
            let moves = if ends == [later; 2] { 1 } else { 2 };
            assert_eq!(result.sandbox.lease.extensions, moves, "{description}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_for_the_same_end_have_the_same_answer_and_count_once() {
    let arena = Arena::new(EQUAL).await;
    let (arena, caller) = (&arena, &caller(0));
    let answers = join_all((0..40).map(|n| {
        let client = &arena.brokers[n % 2].client;
        client.extend(&arena.ids[0], caller, MINUTES)
    }));
    for answer in answers.await {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["expires_at"], EXTENDED);
    }
    let extended = super::stored(&arena.pool, &arena.ids[0]).await;
    assert_eq!(extended.lease.extensions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_that_was_answered_holds_beside_everything_at_once() {
    let arena = Arena::new(AHEAD).await;
    let arena = &arena;
    let requests = (0..SANDBOXES).map(|number| async move {
        let extensions = (0..6).map(|n| {
            let client = &arena.brokers[n % 2].client;
            let minutes = 60 + 30 * u64::try_from(n).unwrap();
            async move {
                client
                    .extend(&arena.ids[number], &caller(number), minutes)
                    .await
            }
        });
        let others = [
            Other::Replay,
            Other::Operator("extend"),
            if number % 2 == 0 {
                Other::Release
            } else {
                Other::Replay
            },
        ];
        let others = others.map(|other| arena.write(other, number));
        let (extensions, _) = join(join_all(extensions), join_all(others)).await;
        (extensions, None)
    });
    let jobs = arena.brokers.iter().map(|broker| async {
        let path = "/v1/admin/auto-expire?force=true";
        // A run of the other broker may be in progress.
        broker.client.admin(Method::POST, path).await;
    });
    let (answers, _) = join(join_all(requests), join_all(jobs)).await;
    let answered = arena
        .results(answers)
        .await
        .flat_map(|result| (0..result.extensions.len()).filter_map(move |at| result.answered(at)))
        .count();
    println!("{answered} extensions were answered");
    for (caller, held) in arena.pool.holdings().await {
        assert_eq!(held.len(), 1, "{caller} holds {held:?}");
    }
}
