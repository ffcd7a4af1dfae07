//! Two brokers act on the same sandboxes at the same time, for every pair of actions, and crashes between any two steps:
//! one of them wins, and exactly one record says so if an operator has won.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::{join, join_all};
use sandbox_broker::{
    clock::ManualClock,
    csp::simulator::Simulator,
    domain::Status,
    store::{Change, Item},
};
use serde_json::{Value, json};

use crate::support::{
    Answer, BrokerClient, BrokerProcess, Pool, Proxy, START, TestBroker, audit,
    proxy::{Fault, Script},
    simulated_csp,
};

/// The sandboxes that each pair races for.
const SANDBOXES: usize = 8;
const HOUR: Duration = Duration::from_hours(1);

/// One of two writers that are at the same sandboxes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// The holder allocates the sandbox.
    Allocate,
    /// The holder releases it.
    Holder,
    /// An operator acts on it.
    Operator(&'static str),
    /// A run of a job.
    Job(&'static str),
}

const RELEASE: Writer = Writer::Operator("release");
const EXTEND: Writer = Writer::Operator("extend");
const QUARANTINE: Writer = Writer::Operator("quarantine");
const RESTORE: Writer = Writer::Operator("restore");
const DELETE: Writer = Writer::Operator("delete");
const EXPIRY: Writer = Writer::Job("auto-expire?force=true");
const CLEANUP: Writer = Writer::Job("cleanup");
const SYNC: Writer = Writer::Job("sync?force=true");

/// The state of the sandboxes before a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Available,
    /// Held, and overdue for the second broker only, whose clock is ahead.
    Held,
    Quarantined,
    DeletionFailed,
}

/// The answers, the state and the audit records of one sandbox after a race.
struct RaceOutcome {
    id: String,
    /// The answers to the two writers, in their order; `None` for a job.
    answers: [Option<Answer>; 2],
    /// The item afterwards, or the tombstone of a deleted one.
    item: Item,
    records: Vec<Value>,
}

impl RaceOutcome {
    fn text(&self, name: &str) -> &str {
        let text = self.item.get(name).and_then(|value| value.as_s().ok());
        text.map_or("", String::as_str)
    }

    /// Returns whether the writer has won: whether an operator or an allocation was answered so, else whether the
    /// sandbox names the writer as the one that released it.
    fn has_won(&self, at: usize, writer: Writer) -> bool {
        let is_success = self.answers[at]
            .as_ref()
            .is_some_and(|answer| answer.status.is_success());
        match writer {
            Writer::Allocate => {
                is_success && self.answers[at].as_ref().unwrap().sandbox_id() == self.id
            }
            Writer::Operator(_) => is_success,
            Writer::Holder => self.text("released_by") == "env-track",
            Writer::Job("auto-expire?force=true") => self.text("released_by") == "auto-expire",
            Writer::Job(_) => false,
        }
    }

    fn describe(&self) -> String {
        let codes = self.answers.iter().map(|answer| {
            let answer = answer.as_ref()?;
            Some((answer.status.as_u16(), answer.text.clone()))
        });
        format!(
            "{}: {:?}, then {} by {:?}, records {:#?}",
            self.id,
            codes.collect::<Vec<_>>(),
            self.text("status"),
            self.text("released_by"),
            self.records
        )
    }
}

/// Two brokers on one pool, with the accounts of its sandboxes in CSP.
struct Arena {
    pool: Pool,
    simulator: Simulator,
    brokers: [TestBroker; 2],
    ids: Vec<String>,
}

impl Arena {
    async fn new(before: Before) -> Self {
        let pool = Pool::new().await;
        let (simulator, base_url) = simulated_csp(SANDBOXES.try_into().unwrap()).await;
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
        let sandboxes = pool.sandboxes().await;
        let mut arena = Self {
            pool,
            simulator,
            brokers: [first, second],
            ids: sandboxes
                .iter()
                .map(|sandbox| sandbox.id().to_string())
                .collect(),
        };
        arena.prepare(before).await;
        arena
    }

    async fn prepare(&mut self, before: Before) {
        let client = &self.brokers[0].client;
        match before {
            Before::Available => {}
            Before::Quarantined => {
                for id in &self.ids {
                    let answer = client
                        .act(id, "quarantine", &json!({ "reason": "before" }))
                        .await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                }
            }
            Before::Held | Before::DeletionFailed => {
                let plays = (0..SANDBOXES).map(|n| async move {
                    client.allocate(&format!("play-{n}")).await.sandbox_id()
                });
                // The sandbox at each position is held by the caller with that number.
                self.ids = join_all(plays).await;
            }
        }
        if before == Before::Held {
            // The first broker is in the grace period; the second one finds that it is over.
            self.brokers[0].clock.advance(HOUR * 4);
            self.brokers[1].clock.advance(HOUR * 5);
        }
        if before == Before::DeletionFailed {
            for (n, id) in self.ids.iter().enumerate() {
                client.release(id, &format!("play-{n}")).await;
            }
            for sandbox in self.pool.sandboxes().await {
                let error = "rejected".to_owned();
                let outcome = sandbox_broker::store::DeletionOutcome::GivenUp { error };
                let change = Change::Deletion(Box::new(sandbox), outcome, None);
                self.pool.apply(vec![change]).await;
            }
        }
    }

    async fn write(&self, writer: Writer, broker: usize, number: usize) -> Option<Answer> {
        let client = &self.brokers[broker].client;
        let (id, caller) = (&self.ids[number], format!("play-{number}"));
        match writer {
            Writer::Allocate => Some(client.allocate(&caller).await),
            Writer::Holder => Some(client.release(id, &caller).await),
            Writer::Operator(action) => {
                let reason = format!("broker {broker}");
                let body = match action {
                    "extend" => json!({ "minutes": 180, "reason": reason }),
                    _ => json!({ "reason": reason }),
                };
                Some(client.act(id, action, &body).await)
            }
            Writer::Job(_) => None,
        }
    }

    /// Runs both writers, the first on the first broker and the second on the second one, for all sandboxes at once.
    async fn race(&self, writers: [Writer; 2]) -> Vec<RaceOutcome> {
        let jobs = writers
            .iter()
            .enumerate()
            .map(|(broker, writer)| async move {
                if let Writer::Job(job) = writer {
                    self.brokers[broker].client.job(job).await;
                }
            });
        let requests = (0..SANDBOXES).map(|number| async move {
            let first = self.write(writers[0], 0, number);
            let second = self.write(writers[1], 1, number);
            <[_; 2]>::from(join(first, second).await)
        });
        let (_, answers) = join(join_all(jobs), join_all(requests)).await;
        let mut items = BTreeMap::new();
        for item in self.pool.items().await {
            let (partition, sort) = (item["PK"].as_s().unwrap(), item["SK"].as_s().unwrap());
            if partition.starts_with("SBX#") && sort == "META" {
                items.insert(partition.replace("SBX#", ""), item);
            } else if partition.starts_with("TOMBSTONES#") {
                items.insert(sort.clone(), item);
            }
        }
        let mut records = audit::done(&self.pool).await;
        let ids = self.ids.iter().zip(answers);
        ids.map(|(id, answers)| {
            let of_race = records.remove(&format!("sandbox/{id}")).unwrap_or_default();
            let is_of_race = |record: &Value| record["reason"] != "before";
            RaceOutcome {
                id: id.clone(),
                answers,
                item: items.remove(id).unwrap(),
                records: of_race.into_iter().filter(is_of_race).collect(),
            }
        })
        .collect()
    }
}

/// Checks that each successful action of an operator has one record, and that no other has one.
fn assert_recorded(writers: [Writer; 2], result: &RaceOutcome) {
    for writer in writers {
        let Writer::Operator(action) = writer else {
            continue;
        };
        let done = (0..2).filter(|at| writers[*at] == writer && result.has_won(*at, writer));
        let action = format!("sandbox.{action}");
        let recorded = result
            .records
            .iter()
            .filter(|record| record["action"] == action);
        assert_eq!(done.count(), recorded.count(), "{}", result.describe());
    }
    let operators = writers
        .iter()
        .filter(|writer| matches!(writer, Writer::Operator(_)));
    assert!(
        result.records.len() <= operators.count(),
        "{}",
        result.describe()
    );
}

/// Returns the records of a result in the order in which they follow from each other.
fn chain(result: &RaceOutcome) -> Vec<&Value> {
    let mut records: Vec<_> = result.records.iter().collect();
    if let [first, second] = records[..]
        && first["before"] == second["after"]
        && first["after"] != second["before"]
    {
        records.swap(0, 1);
    }
    for pair in records.windows(2) {
        assert_eq!(pair[0]["after"], pair[1]["before"], "{}", result.describe());
    }
    records
}

/// Races in which exactly one of the two wins.
async fn assert_one_wins(before: Before, writers: [Writer; 2]) {
    let arena = Arena::new(before).await;
    for result in arena.race(writers).await {
        let won = (0..2)
            .filter(|at| result.has_won(*at, writers[*at]))
            .count();
        assert_eq!(won, 1, "{writers:?}: {}", result.describe());
        assert_recorded(writers, &result);
        for answer in result.answers.iter().flatten() {
            assert!(
                answer.status.is_success() || matches!(answer.status.as_u16(), 403 | 409),
                "{}",
                result.describe()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_end_an_allocation_exactly_one_wins() {
    for writers in [
        [RELEASE, RELEASE],
        [Writer::Holder, RELEASE],
        [RELEASE, EXPIRY],
        [Writer::Holder, EXPIRY],
        [QUARANTINE, QUARANTINE],
        [QUARANTINE, RELEASE],
        [QUARANTINE, EXPIRY],
        [EXTEND, EXPIRY],
    ] {
        Box::pin(assert_one_wins(Before::Held, writers)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_take_a_sandbox_out_of_use_or_bring_it_back_exactly_one_wins() {
    for (before, writers) in [
        (Before::Available, [DELETE, DELETE]),
        (Before::Available, [QUARANTINE, QUARANTINE]),
        (Before::Quarantined, [RESTORE, RESTORE]),
        (Before::Quarantined, [DELETE, DELETE]),
        (Before::DeletionFailed, [DELETE, DELETE]),
    ] {
        Box::pin(assert_one_wins(before, writers)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_sandbox_is_not_allocated_and_an_allocated_one_not_deleted() {
    let arena = Arena::new(Before::Available).await;
    let writers = [Writer::Allocate, DELETE];
    let results = arena.race(writers).await;
    let allocated: Vec<_> = results
        .iter()
        .filter_map(|result| result.answers[0].as_ref())
        .filter(|answer| answer.status.is_success())
        .map(Answer::sandbox_id)
        .collect();
    for result in &results {
        assert_recorded(writers, result);
        let is_held = allocated.contains(&result.id);
        assert_ne!(is_held, result.has_won(1, DELETE), "{}", result.describe());
        let status = if is_held {
            "allocated"
        } else {
            "pending_deletion"
        };
        assert_eq!(result.text("status"), status, "{}", result.describe());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_beside_an_allocation_takes_the_sandbox_before_or_after_it() {
    let arena = Arena::new(Before::Available).await;
    let writers = [Writer::Allocate, QUARANTINE];
    let results = arena.race(writers).await;
    let allocated: Vec<_> = results
        .iter()
        .filter_map(|result| result.answers[0].as_ref())
        .filter(|answer| answer.status.is_success())
        .map(Answer::sandbox_id)
        .collect();
    for result in &results {
        assert_recorded(writers, result);
        assert!(result.has_won(1, QUARANTINE), "{}", result.describe());
        let from = if allocated.contains(&result.id) {
            "allocated"
        } else {
            "available"
        };
        assert_eq!(
            result.records[0]["before"]["status"],
            from,
            "{}",
            result.describe()
        );
        assert_eq!(result.text("quarantined_from"), from);
        assert_eq!(result.text("status"), "quarantined");
    }
    // Those that were held never become available again.
    for result in &results {
        let body = json!({ "reason": "test" });
        let answer = arena.brokers[0].client.act(&result.id, "restore", &body);
        let is_used = result.text("quarantined_from") == "allocated";
        let expected = if is_used { 409 } else { 200 };
        assert_eq!(answer.await.status, expected, "{}", result.describe());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_that_can_follow_each_other_are_recorded_in_their_order() {
    for (before, writers) in [
        (Before::Quarantined, [RESTORE, DELETE]),
        (Before::Available, [QUARANTINE, DELETE]),
        (Before::Held, [EXTEND, RELEASE]),
        (Before::Held, [EXTEND, QUARANTINE]),
        (Before::Held, [EXTEND, EXTEND]),
    ] {
        let arena = Arena::new(before).await;
        for result in arena.race(writers).await {
            assert_recorded(writers, &result);
            let won = (0..2)
                .filter(|at| result.has_won(*at, writers[*at]))
                .count();
            assert!(won >= 1, "{}", result.describe());
            let last = chain(&result).pop().unwrap();
            let state = &last["after"];
            assert_eq!(
                result.text("status"),
                state["status"],
                "{}",
                result.describe()
            );
            if let Some(end) = result.item.get("expires_at") {
                let end: i64 = end.as_n().unwrap().parse().unwrap();
                assert_eq!(state["expires_at"], end, "{}", result.describe());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_beside_the_release_of_the_holder_changes_nothing_after_it() {
    let arena = Arena::new(Before::Held).await;
    let writers = [Writer::Holder, EXTEND];
    for result in arena.race(writers).await {
        assert_recorded(writers, &result);
        assert_eq!(
            result.text("status"),
            "pending_deletion",
            "{}",
            result.describe()
        );
        let end: i64 = result.item["expires_at"].as_n().unwrap().parse().unwrap();
        let recorded = result
            .records
            .first()
            .map(|record| &record["after"]["expires_at"]);
        let original = START + HOUR * 4;
        assert_eq!(
            recorded.map_or(original.0, |end| end.as_i64().unwrap()),
            end
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_beside_any_end_of_an_allocation_deletes_only_what_has_ended() {
    for writers in [
        [RELEASE, CLEANUP],
        [Writer::Holder, CLEANUP],
        [QUARANTINE, CLEANUP],
        [CLEANUP, EXPIRY],
        [EXTEND, CLEANUP],
    ] {
        let arena = Arena::new(Before::Held).await;
        let results = arena.race(writers).await;
        for result in results {
            assert_recorded(writers, &result);
            let at = usize::from(writers[0] == CLEANUP);
            assert!(result.has_won(at, writers[at]), "{}", result.describe());
            let is_deleted = result.item.contains_key("deleted_at");
            let may_be_deleted = ![EXTEND, QUARANTINE].contains(&writers[at]);
            assert!(may_be_deleted || !is_deleted, "{}", result.describe());
            let id: u64 = result.id.parse().unwrap();
            let is_listed = arena
                .simulator
                .accounts()
                .iter()
                .any(|account| account.csp_id == id);
            assert_ne!(is_listed, is_deleted, "{}", result.describe());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_beside_an_operator_deletes_only_what_waits_for_its_deletion() {
    for (before, action) in [
        (Before::DeletionFailed, DELETE),
        (Before::Quarantined, RESTORE),
    ] {
        let arena = Arena::new(before).await;
        let writers = [action, CLEANUP];
        for result in arena.race(writers).await {
            assert_recorded(writers, &result);
            assert!(result.has_won(0, action), "{}", result.describe());
            let is_deleted = result.item.contains_key("deleted_at");
            assert!(!is_deleted || action == DELETE, "{}", result.describe());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_beside_an_operator_loses_no_action() {
    for (before, action) in [
        (Before::Available, QUARANTINE),
        (Before::Available, DELETE),
        (Before::Quarantined, RESTORE),
    ] {
        let arena = Arena::new(before).await;
        for account in arena.simulator.accounts() {
            arena.simulator.hide(account.csp_id, true);
        }
        let writers = [action, SYNC];
        for result in arena.race(writers).await {
            assert_recorded(writers, &result);
            assert!(result.has_won(0, action), "{}", result.describe());
            let record = &result.records[0];
            match action {
                QUARANTINE => {
                    assert_eq!(
                        result.text("status"),
                        "quarantined",
                        "{}",
                        result.describe()
                    );
                    let before = &record["before"]["status"];
                    assert!(
                        before == "available" || before == "stale",
                        "{}",
                        result.describe()
                    );
                }
                DELETE => assert_eq!(result.text("status"), "pending_deletion"),
                // After the sync it is stale, as CSP does not list it; before it, the next sync will find that.
                _ => assert!(["available", "stale"].contains(&result.text("status"))),
            }
        }
        arena.brokers[0].client.job("sync?force=true").await;
        for sandbox in arena.pool.sandboxes().await {
            assert_ne!(sandbox.status, Status::Available, "{sandbox:?}");
        }
    }
}

/// A broker behind a proxy, and a sandbox that `play-1` holds.
async fn behind_a_proxy() -> (Pool, Proxy, TestBroker, String) {
    let pool = Pool::of(1).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    let broker = pool.broker_behind(&proxy).await;
    let id = broker.client.allocate("play-1").await.sandbox_id();
    (pool, proxy, broker, id)
}

/// The actions on a held sandbox, with their bodies and the code of a repeated one.
fn actions() -> [(&'static str, Value, &'static str); 3] {
    [
        (
            "release",
            json!({ "reason": "test" }),
            "SANDBOX_PENDING_DELETION",
        ),
        (
            "quarantine",
            json!({ "reason": "test" }),
            "SANDBOX_QUARANTINED",
        ),
        (
            "extend",
            json!({ "minutes": 600, "reason": "test" }),
            "EXTENSION_LIMIT_REACHED",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn action_whose_answer_is_lost_on_its_way_is_done_once_and_answered() {
    for fault in [
        Fault::DropRequest,
        Fault::DropAnswer,
        Fault::CutAnswer,
        Fault::Conflict,
    ] {
        for (action, body, repeated) in actions() {
            let (pool, proxy, broker, id) = behind_a_proxy().await;
            proxy.inject_once("TransactWriteItems", fault);
            let answer = broker.client.act(&id, action, &body).await;
            // On a slow machine the time of the call ends before its second attempt, after the first one was executed.
            let is_late = fault == Fault::CutAnswer && answer.status == 503;
            assert!(answer.status == 200 || is_late, "{fault:?}: {answer:?}");
            assert_eq!(proxy.injected()[&fault], 1);
            assert_eq!(audit::done_to(&pool, &id).await.len(), 1, "{fault:?}");
            assert_eq!(broker.client.act(&id, action, &body).await.code(), repeated);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn action_without_any_answer_is_done_with_its_record_or_not_at_all() {
    for (fault, is_done) in [(Fault::DropAnswer, true), (Fault::DropRequest, false)] {
        for (action, body, repeated) in actions() {
            let (pool, proxy, broker, id) = behind_a_proxy().await;
            let before = pool.sandboxes().await;
            for _ in 0..3 {
                // Each attempt of the SDK meets the fault.
                proxy.inject_once("TransactWriteItems", fault);
            }
            let answer = broker.client.act(&id, action, &body).await;
            assert_eq!(
                (answer.status.as_u16(), answer.code()),
                (503, "STORE_UNAVAILABLE".into())
            );
            // On a slow machine the SDK may have given up before its last attempt.
            proxy.calm();
            assert_eq!(pool.sandboxes().await != before, is_done, "{action}");
            assert_eq!(
                audit::done_to(&pool, &id).await.len(),
                usize::from(is_done),
                "{action}"
            );
            let again = broker.client.act(&id, action, &body).await;
            if is_done {
                assert_eq!(again.code(), repeated);
            } else {
                assert_eq!(again.status, 200, "{again:?}");
            }
            assert_eq!(audit::done_to(&pool, &id).await.len(), 1, "{action}");
        }
    }
}

/// Kills a broker at each call of an action: before it reads the sandbox, before it writes, and after it has written,
/// before it has the answer.
#[tokio::test(flavor = "multi_thread")]
async fn broker_killed_at_any_step_leaves_no_action_without_its_record_and_no_record_without_its_action()
 {
    for (action, body, repeated) in actions() {
        for (operation, arrives) in [
            ("GetItem", false),
            ("TransactWriteItems", false),
            ("TransactWriteItems", true),
        ] {
            let pool = Pool::of(1).await;
            let proxy = Proxy::to(pool.engine.endpoint()).await;
            let directory = tempfile::tempdir().unwrap();
            let endpoint = proxy.endpoint();
            let variables = pool.variables(&[
                ("DDB_ENDPOINT_URL", endpoint.as_str()),
                ("LOG_LEVEL", "info"),
            ]);
            let broker = BrokerProcess::serve(directory.path(), &variables);
            let id = broker.client.allocate("play-1").await.sandbox_id();
            let before = pool.sandboxes().await;
            let client: BrokerClient = broker.client.clone();
            if operation == "TransactWriteItems" && !arrives {
                // The call is held back and then lost with its broker.
                proxy.inject_once(operation, Fault::DropRequest);
            }
            let key = format!("SBX#{id}");
            let gate = proxy.hold(move |call| {
                call.operation == operation && call.json().to_string().contains(&key)
            });
            let request = tokio::spawn({
                let (id, body) = (id.clone(), body.clone());
                async move {
                    let path = format!("/v1/admin/sandboxes/{id}/{action}");
                    let request = client.request(reqwest::Method::POST, &path);
                    let request = request.bearer_auth(crate::support::ADMIN).json(&body);
                    client.try_send(request).await.is_err()
                }
            });
            gate.wait_for_one().await;
            broker.kill();
            gate.open();
            assert!(request.await.unwrap(), "it was answered");
            proxy.until_quiet().await;
            assert_eq!(
                pool.sandboxes().await != before,
                arrives,
                "{action} at {operation}"
            );
            assert_eq!(
                audit::done_to(&pool, &id).await.len(),
                usize::from(arrives),
                "{action} at {operation}"
            );
            proxy.play(Script::default());
            // The proxy is quiet, and the next broker has the same clock.
            let next = BrokerProcess::serve(directory.path(), &variables);
            // Time has passed, so only a shorter extension would add nothing to the first one.
            let body = match action {
                "extend" if arrives => json!({ "minutes": 300, "reason": "test" }),
                _ => body.clone(),
            };
            let again = next.client.act(&id, action, &body).await;
            if arrives {
                assert_eq!(again.code(), repeated);
            } else {
                assert_eq!(again.status, 200, "{again:?}");
            }
            assert_eq!(
                audit::done_to(&pool, &id).await.len(),
                1,
                "{action} at {operation}"
            );
        }
    }
}
