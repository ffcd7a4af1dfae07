//! Replacements on two brokers at once, and beside every other writer.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::{join, join_all};
use sandbox_broker::{
    clock::ManualClock,
    csp::simulator::Simulator,
    domain::{Sandbox, Status},
};
use serde_json::json;

use super::HOUR;
use crate::support::{
    Answer, BrokerClient, Pool, START, TestBroker, assert_each_has_one, simulated_csp,
};

/// Plays that hold a sandbox; as many more are available.
const PLAYS: usize = 8;

/// Another writer at the sandboxes whose holders replace them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// The holder replaces it, too.
    Replace,
    /// The holder allocates again.
    Allocate,
    /// The holder releases it.
    Release,
    /// An operator acts on it.
    Operator(&'static str),
    /// A run of a job.
    Job(&'static str),
}

/// Two brokers on one pool, with the accounts of its sandboxes in CSP.
struct Arena {
    pool: Pool,
    simulator: Simulator,
    brokers: [TestBroker; 2],
    /// The sandbox of each play.
    old: Vec<String>,
}

impl Arena {
    async fn new() -> Self {
        let pool = Pool::new().await;
        let (simulator, base_url) = simulated_csp(u64::try_from(2 * PLAYS).unwrap()).await;
        let variables = pool.variables(&[
            ("CSP_BASE_URL", &base_url),
            ("CLEANUP_BATCH_DELAY_SEC", "0"),
            ("RATE_LIMIT_PER_SEC", "10000"),
            ("RATE_LIMIT_BURST", "10000"),
        ]);
        let clocks = [(); 2].map(|()| Arc::new(ManualClock::new(START)));
        let first = TestBroker::boot_at(variables.clone(), Arc::clone(&clocks[0])).await;
        let second = TestBroker::boot_at(variables, Arc::clone(&clocks[1])).await;
        first.client.job("sync").await;
        let client = &first.client;
        let plays = (0..PLAYS).map(|n| async move { client.allocate(&play(n)).await.sandbox_id() });
        let old = join_all(plays).await;
        // The first broker is in the grace period; the second one finds that it is over.
        first.clock.advance(HOUR * 4);
        second.clock.advance(HOUR * 5);
        Self {
            pool,
            simulator,
            brokers: [first, second],
            old,
        }
    }

    async fn write(&self, writer: Writer, n: usize) -> Option<Answer> {
        let (client, id) = (&self.brokers[1].client, &self.old[n]);
        match writer {
            Writer::Replace => Some(client.replace(id, &play(n)).await),
            Writer::Allocate => Some(client.allocate(&play(n)).await),
            Writer::Release => Some(client.release(id, &play(n)).await),
            Writer::Operator(action) => {
                let body = match action {
                    "extend" => json!({ "minutes": 720, "reason": "test" }),
                    _ => json!({ "reason": "test" }),
                };
                Some(client.act(id, action, &body).await)
            }
            Writer::Job(_) => None,
        }
    }

    /// Replaces the sandboxes of all plays at once on the first broker, beside the writer on the second one. Returns the
    /// answers to both.
    async fn race(&self, writer: Writer) -> Vec<(Answer, Option<Answer>)> {
        let job = async {
            if let Writer::Job(job) = writer {
                self.brokers[1].client.job(job).await;
            }
        };
        let requests = (0..PLAYS).map(|n| {
            let replace = async move {
                let client = &self.brokers[0].client;
                client.replace(&self.old[n], &play(n)).await
            };
            join(replace, self.write(writer, n))
        });
        join(job, join_all(requests)).await.1
    }

    async fn by_id(&self) -> BTreeMap<String, Sandbox> {
        let sandboxes = self.pool.sandboxes().await.into_iter();
        sandboxes
            .map(|sandbox| (sandbox.id().to_string(), sandbox))
            .collect()
    }
}

fn play(number: usize) -> String {
    format!("play-{number}")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replacements_of_one_sandbox_one_wins_and_both_answers_name_the_new_one() {
    let arena = Arena::new().await;
    arena.brokers[1].clock.set(START);
    let mut held = BTreeMap::new();
    for (n, (first, second)) in arena.race(Writer::Replace).await.into_iter().enumerate() {
        let second = second.unwrap();
        assert_eq!(
            first.status.as_u16() + second.status.as_u16(),
            401,
            "one 201 and one 200: {first:?}, {second:?}"
        );
        assert_eq!(first.json(), second.json());
        held.insert(play(n), vec![first.sandbox_id()]);
    }
    assert_eq!(assert_each_has_one(&held), PLAYS);
    assert_eq!(arena.pool.holdings().await, held);
    for old in &arena.old {
        assert_eq!(arena.by_id().await[old].status, Status::PendingDeletion);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replacement_beside_another_writer_leaves_one_sandbox_or_what_the_other_left() {
    for writer in [
        Writer::Allocate,
        Writer::Release,
        Writer::Operator("release"),
        Writer::Operator("quarantine"),
        Writer::Operator("extend"),
        Writer::Job("auto-expire?force=true"),
        Writer::Job("sync?force=true"),
        Writer::Job("cleanup"),
    ] {
        let arena = Arena::new().await;
        if matches!(writer, Writer::Allocate | Writer::Release) {
            arena.brokers[1].clock.set(START);
        }
        if writer == Writer::Job("sync?force=true") {
            for account in arena.simulator.accounts() {
                arena.simulator.hide(account.csp_id, true);
            }
        }
        let answers = arena.race(writer).await;
        let (sandboxes, holdings) = (arena.by_id().await, arena.pool.holdings().await);
        for (n, (replaced, other)) in answers.into_iter().enumerate() {
            let fault = format!("{writer:?}: {replaced:?}, {other:?}, {holdings:?}");
            let holds = holdings.get(&play(n)).cloned().unwrap_or_default();
            let old = sandboxes.get(&arena.old[n]);
            let old_status = old.map(|old| old.status);
            assert_ne!(old_status, Some(Status::Available), "{fault}");
            match (replaced.status.as_u16(), &*code(&replaced)) {
                (201, _) => {
                    assert_eq!(holds, [replaced.sandbox_id()], "{fault}");
                    assert_ne!(old_status, Some(Status::Allocated), "{fault}");
                }
                // The other writer has ended the allocation before.
                (403, "ALLOCATION_EXPIRED") => {
                    assert!(holds.is_empty(), "{fault}");
                    assert!(!matches!(
                        writer,
                        Writer::Allocate | Writer::Operator("extend")
                    ));
                }
                (409, "NO_SANDBOXES_AVAILABLE") => {
                    assert_eq!(holds, [arena.old[n].clone()], "{fault}");
                    assert_eq!(writer, Writer::Job("sync?force=true"));
                }
                _ => panic!("{fault}"),
            }
            let Some(other) = other else { continue };
            match writer {
                Writer::Allocate => {
                    let is_one = [&arena.old[n], &holds[0]].contains(&&other.sandbox_id());
                    assert!(other.status == 200 && is_one, "{fault}");
                }
                Writer::Operator("extend") if other.status == 200 => {
                    let end = |answer: &Answer| answer.json()["expires_at"].as_i64();
                    assert!(end(&replaced) >= end(&other), "{fault}");
                }
                Writer::Release => {
                    let names = &other.json()["replaced_by"];
                    let is_named = holds.first().is_none_or(|new| names == new);
                    assert!(other.status == 200 && is_named, "{fault}");
                }
                _ => {}
            }
        }
    }
}

fn code(answer: &Answer) -> String {
    if answer.status.is_success() {
        String::new()
    } else {
        answer.code()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_sandbox_goes_to_an_allocation_or_to_a_replacement() {
    for _ in 0..4 {
        let pool = Pool::of(2).await;
        let (a, b) = (pool.broker().await, pool.broker().await);
        let old = a.client.allocate("play-1").await.sandbox_id();
        let (allocated, replaced) = join(
            a.client.allocate("play-2"),
            b.client.replace(&old, "play-1"),
        )
        .await;
        let won = [&allocated, &replaced].map(|answer| answer.status.as_u16());
        let lost = if won[0] == 201 { &replaced } else { &allocated };
        assert!(won.contains(&201), "{allocated:?}, {replaced:?}");
        assert_eq!(lost.code(), "NO_SANDBOXES_AVAILABLE");
        let holdings = pool.holdings().await;
        let is_replaced = replaced.status == 201;
        let new = if is_replaced {
            replaced.sandbox_id()
        } else {
            old
        };
        assert_eq!(holdings["play-1"], [new]);
        assert_eq!(holdings.contains_key("play-2"), !is_replaced);
    }
}

/// The second broker has begun before the allocation, so its index still has the sandbox.
#[tokio::test(flavor = "multi_thread")]
async fn sandbox_in_an_outdated_index_is_not_its_own_replacement() {
    let pool = Pool::of(1).await;
    let (a, b) = (pool.broker().await, pool.broker().await);
    let old = a.client.allocate("play-1").await.sandbox_id();
    let refused = b.client.replace(&old, "play-1").await;
    assert_eq!(refused.code(), "NO_SANDBOXES_AVAILABLE", "{refused:?}");
    assert_eq!(pool.holdings().await["play-1"], [old]);
}

#[tokio::test(flavor = "multi_thread")]
async fn holder_with_many_concurrent_requests_has_its_sandbox_replaced_as_often_as_permitted() {
    let pool = Pool::of(20).await;
    let (a, b) = (pool.broker().await, pool.broker().await);
    let first = a.client.allocate("play-1").await.sandbox_id();
    let requests = (0..12).map(|n| {
        let client: &BrokerClient = [&a.client, &b.client][n % 2];
        let mut current = first.clone();
        async move {
            let mut made = 0;
            loop {
                let answer = client.replace(&current, "play-1").await;
                match answer.status.as_u16() {
                    201 => made += 1,
                    200 => {}
                    _ => {
                        assert_eq!(answer.code(), "REPLACEMENT_LIMIT_REACHED");
                        return (made, current);
                    }
                }
                current = answer.sandbox_id();
            }
        }
    });
    let ended = join_all(requests).await;
    assert_eq!(
        ended.iter().map(|(made, _)| made).sum::<usize>(),
        3,
        "{ended:?}"
    );
    let held = &pool.holdings().await["play-1"];
    assert!(
        ended.iter().all(|(_, last)| [last.clone()] == **held),
        "{ended:?}"
    );
    let sandboxes = pool.sandboxes().await;
    let replaced = sandboxes
        .iter()
        .filter(|one| one.lease.replaced_by.is_some());
    assert_eq!(replaced.count(), 3);
}
