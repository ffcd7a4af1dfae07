//! A class as it happens, from its first request to the last deletion, on the manual clock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use sandbox_broker::csp::simulator::Simulator;
use serde_json::{Value, json};

use crate::support::{Answer, BrokerClient, Pool, START, TestBroker, simulated_csp};

const LAB: &str = "algebra-101";
const ACCOUNTS: usize = 80;
const STUDENTS: usize = 60;
const MINUTE: i64 = 60;

/// The students, by what they do.
const EXTENDING: std::ops::Range<usize> = 0..20;
const REPLACING: std::ops::Range<usize> = 20..25;
const RELEASING: std::ops::Range<usize> = 25..50;
const FORGETFUL: std::ops::Range<usize> = 50..60;

/// The pool at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    available: usize,
    allocated: usize,
    pending: usize,
    /// Of the allocated ones, those of the lab.
    of_lab: usize,
}

struct Class {
    pool: Pool,
    simulator: Simulator,
    csp: String,
    broker: TestBroker,
    /// The sandbox that each student uses.
    sandboxes: BTreeMap<usize, String>,
}

fn student(number: usize) -> String {
    format!("student-{number}")
}

impl Class {
    async fn new() -> Self {
        let (simulator, csp) = simulated_csp(ACCOUNTS.try_into().unwrap()).await;
        let pool = Pool::new().await;
        let broker = pool.broker_with(&[("CSP_BASE_URL", &csp)]).await;
        Self {
            pool,
            simulator,
            csp,
            broker,
            sandboxes: BTreeMap::new(),
        }
    }

    fn client(&self) -> &BrokerClient {
        &self.broker.client
    }

    async fn set_policy(&self) {
        let policy = json!({ "lab": [{
            "id": LAB, "duration_minutes": 60, "max_duration_minutes": 140, "max_replacements": 1,
            "max_held": STUDENTS,
        }] });
        self.client().set_policy(0, &policy).await;
    }

    /// Lets time pass until so many minutes after the beginning.
    fn advance_to(&self, minutes: i64) {
        let now = sandbox_broker::clock::Clock::now(&*self.broker.clock);
        let span = START.0 + minutes * MINUTE - now.0;
        self.broker
            .clock
            .advance(Duration::from_secs(span.try_into().unwrap()));
    }

    /// Does the same for several students at once.
    async fn each<F: Future<Output = Answer>>(
        &self,
        students: std::ops::Range<usize>,
        request: impl Fn(usize, String) -> F,
    ) -> Vec<Answer> {
        let requests = students.map(|number| {
            let sandbox = self.sandboxes.get(&number).cloned().unwrap_or_default();
            request(number, sandbox)
        });
        join_all(requests).await
    }

    /// Every student of the range extends its allocation by an hour from now, and asks again.
    async fn extend(&self, students: std::ops::Range<usize>, end: i64) {
        for _ in 0..2 {
            let extend = |number, id: String| async move {
                self.client().extend(&id, &student(number), 60).await
            };
            for answer in self.each(students.clone(), extend).await {
                assert_eq!(answer.status, 200, "{answer:?}");
                let body = answer.json();
                assert_eq!(body["expires_at"], START.0 + end * MINUTE, "{body}");
            }
        }
    }

    async fn release(&self, students: std::ops::Range<usize>) {
        let release =
            |number, id: String| async move { self.client().release(&id, &student(number)).await };
        for answer in self.each(students, release).await {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }

    /// Asserts that every place that counts the pool shows these counts. The broker of the class may have counted up to ten
    /// seconds ago, so another one is asked.
    async fn assert_counts(&self, stage: &str, counts: Counts) {
        let variables = self.pool.variables(&[("CSP_BASE_URL", &self.csp)]);
        let observer = TestBroker::boot_at(variables, Arc::clone(&self.broker.clock)).await;
        let client = &observer.client;
        let Counts {
            available,
            allocated,
            pending,
            of_lab,
        } = counts;
        let total = available + allocated + pending;
        let stats = client.stats().await;
        for (name, count) in [
            ("available", available),
            ("allocated", allocated),
            ("pending_deletion", pending),
            ("stale", 0),
            ("deletion_failed", 0),
            ("quarantined", 0),
            ("total", total),
        ] {
            assert_eq!(stats[name], count, "{stage}: {name} in {stats}");
        }
        let overview = client.overview().await;
        let labs = overview["labs"].as_array().unwrap();
        let lab = labs.iter().find(|lab| lab["lab"] == LAB);
        let expected = json!({ "lab": LAB, "held": of_lab, "max_held": STUDENTS });
        assert_eq!(lab, Some(&expected), "{stage}: {overview}");
        for (status, count) in [
            ("available", available),
            ("allocated", allocated),
            ("pending_deletion", pending),
        ] {
            let path = format!("/v1/admin/sandboxes?status={status}&limit=1000");
            let listed = client.admin(Method::GET, &path).await.json();
            let listed = listed["sandboxes"].as_array().unwrap().len();
            assert_eq!(listed, count, "{stage}: listed as {status}");
        }
        let metrics = client.plain("/metrics").await.text;
        for (name, count) in [
            ("broker_pool_available", available),
            ("broker_pool_allocated", allocated),
            ("broker_pool_pending_deletion", pending),
            ("broker_pool_total", total),
            ("broker_lab_held{lab=\"algebra-101\"}", of_lab),
        ] {
            assert_line(&metrics, stage, name, count);
        }
    }

    /// Asserts that the counters of the class are these.
    async fn assert_counters(&self, stage: &str, counters: &[(&str, usize)]) {
        let metrics = self.client().plain("/metrics").await.text;
        for (name, count) in counters {
            assert_line(&metrics, stage, name, *count);
        }
    }

    /// Returns the events of a sandbox with their minutes since the beginning, the oldest first.
    async fn events(&self, sandbox: &str) -> Vec<(String, i64)> {
        let path = format!("/v1/admin/sandboxes/{sandbox}");
        let timeline = self.client().admin(Method::GET, &path).await.json();
        let event = |event: &Value| {
            let at = event["at"].as_i64().unwrap() - START.0;
            (event["action"].as_str().unwrap().to_owned(), at / MINUTE)
        };
        let events = timeline["events"].as_array().unwrap();
        events.iter().rev().map(event).collect()
    }

    async fn assert_events(&self, sandbox: &str, expected: &[(&str, i64)]) {
        let events = self.events(sandbox).await;
        let events: Vec<_> = events
            .iter()
            .map(|(name, at)| (name.as_str(), *at))
            .collect();
        assert_eq!(events, expected, "{sandbox}");
    }
}

#[track_caller]
fn assert_line(metrics: &str, stage: &str, name: &str, count: usize) {
    let line = format!("{name} {count}");
    assert!(
        metrics.lines().any(|known| known == line),
        "{stage}: missing: {line}\n{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one class, from its start to its end"
)]
async fn class_of_sixty_is_counted_right_from_its_first_request_to_the_last_deletion() {
    let mut class = Class::new().await;
    class.client().job("sync").await;
    class.set_policy().await;
    let unused = Counts {
        available: ACCOUNTS,
        ..Counts::default()
    };
    class.assert_counts("before the class", unused).await;

    // All at once, one more than the lab may hold. Another lab is not concerned.
    let allocate = |number, _| {
        let class = &class;
        async move { class.client().allocate_in(LAB, &student(number)).await }
    };
    let answers = class.each(0..STUDENTS, allocate).await;
    let sandboxes = answers.iter().map(|answer| {
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.sandbox_id()
    });
    class.sandboxes = sandboxes.enumerate().collect();
    let guest = class.client().allocate_in(LAB, "guest").await;
    assert_eq!(guest.code(), "LAB_QUOTA_REACHED");
    let other = class
        .client()
        .allocate_in("geometry-101", "other")
        .await
        .sandbox_id();
    let held = Counts {
        available: 19,
        allocated: 61,
        pending: 0,
        of_lab: 60,
    };
    class.assert_counts("all students work", held).await;

    // A third extends, before the end and to a later time than others have.
    class.advance_to(30);
    class.extend(EXTENDING, 90).await;

    // Five accounts are broken. Each request is repeated, and a second replacement is refused.
    class.advance_to(40);
    let replace = |number, id: String| {
        let class = &class;
        async move { class.client().replace(&id, &student(number)).await }
    };
    let mut in_place = BTreeMap::new();
    for (number, answer) in REPLACING.zip(class.each(REPLACING, replace).await) {
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.json()["expires_at"], START.0 + 100 * MINUTE);
        in_place.insert(number, answer.sandbox_id());
    }
    for (number, answer) in REPLACING.zip(class.each(REPLACING, replace).await) {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.sandbox_id(), in_place[&number]);
    }
    let second = class.client().replace(&in_place[&20], "student-20").await;
    assert_eq!(second.code(), "REPLACEMENT_LIMIT_REACHED");
    let replaced = Counts {
        available: 14,
        pending: 5,
        ..held
    };
    class.assert_counts("five are replaced", replaced).await;

    // Half of the class is done. The cleanup scripts of the five know the old ids only.
    class.advance_to(55);
    class.release(RELEASING).await;
    for number in REPLACING {
        let old = &class.sandboxes[&number];
        let answer = class.client().release(old, &student(number)).await;
        let new = answer.json()["replaced_by"].as_str().unwrap().to_owned();
        assert_eq!(new, in_place[&number]);
        let answer = class.client().release(&new, &student(number)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let halved = Counts {
        available: 14,
        allocated: 31,
        pending: 35,
        of_lab: 30,
    };
    class.assert_counts("half is done", halved).await;

    // In their grace period, the third extends again, to the maximum of the lab.
    class.advance_to(80);
    class.extend(EXTENDING, 140).await;
    let report = class.client().job("cleanup").await;
    assert_eq!(report["deleted"], 35, "{report}");
    let cleaned = Counts {
        pending: 0,
        ..halved
    };
    class
        .assert_counts("the first half is deleted", cleaned)
        .await;

    // Ten have forgotten to release, and one of them notices too late.
    class.advance_to(90);
    assert_eq!(class.client().job("auto-expire").await["expired"], 0);
    class.advance_to(91);
    let forgotten = class.sandboxes[&FORGETFUL.start].clone();
    let late = class.client().extend(&forgotten, "student-50", 60).await;
    assert_eq!(late.code(), "ALLOCATION_EXPIRED");
    let report = class.client().job("auto-expire").await;
    assert_eq!(report["expired"], FORGETFUL.len(), "{report}");
    let expired = Counts {
        available: 14,
        allocated: 21,
        pending: 10,
        of_lab: 20,
    };
    class.assert_counts("ten have expired", expired).await;

    // The places of those that are done are free.
    let guest = class.client().allocate_in(LAB, "guest").await;
    assert_eq!(guest.status, 201, "{guest:?}");
    class.client().release(&guest.sandbox_id(), "guest").await;

    // The rest is done at the end of its grace period.
    class.advance_to(165);
    class.release(EXTENDING).await;
    class.client().release(&other, "other").await;
    let over = Counts {
        available: 13,
        allocated: 0,
        pending: 32,
        of_lab: 0,
    };
    class.assert_counts("all are done", over).await;

    for job in ["auto-expire", "cleanup", "sync"] {
        class.client().job(job).await;
    }
    let left = Counts {
        available: 13,
        ..Counts::default()
    };
    class.assert_counts("after the class", left).await;
    assert_eq!(class.simulator.accounts().len(), 13);
    class
        .assert_counters(
            "after the class",
            &[
                ("broker_allocate_total{outcome=\"success\"}", 62),
                ("broker_allocate_total{outcome=\"lab_quota\"}", 1),
                ("broker_extensions_total{outcome=\"success\"}", 40),
                ("broker_extensions_total{outcome=\"unchanged\"}", 40),
                ("broker_extensions_total{outcome=\"expired\"}", 1),
                ("broker_replacements_total{outcome=\"success\"}", 5),
                ("broker_replacements_total{outcome=\"idempotent\"}", 5),
                ("broker_replacements_total{outcome=\"limit\"}", 1),
                ("broker_deletion_marked_total{outcome=\"success\"}", 52),
                ("broker_deletion_marked_total{outcome=\"idempotent\"}", 5),
                ("broker_expiry_orphaned_total", 10),
                ("broker_cleanup_deleted_total", 67),
            ],
        )
        .await;

    // The life of one sandbox of each kind, all of which are deleted.
    let of = |number: usize| class.sandboxes[&number].as_str();
    let [inserted, allocated] = [("inserted", 0), ("allocated", 0)];
    let extended = [
        inserted,
        allocated,
        ("extended", 80),
        ("released", 165),
        ("deleted", 165),
    ];
    class.assert_events(of(EXTENDING.start), &extended).await;
    let replaced = [inserted, allocated, ("replaced", 40), ("deleted", 80)];
    class.assert_events(of(REPLACING.start), &replaced).await;
    let in_place = in_place[&REPLACING.start].as_str();
    let new = [
        inserted,
        ("allocated", 40),
        ("released", 55),
        ("deleted", 80),
    ];
    class.assert_events(in_place, &new).await;
    let released = [inserted, allocated, ("released", 55), ("deleted", 80)];
    class.assert_events(of(RELEASING.start), &released).await;
    let expired = [inserted, allocated, ("expired", 91), ("deleted", 165)];
    class.assert_events(of(FORGETFUL.start), &expired).await;
}
