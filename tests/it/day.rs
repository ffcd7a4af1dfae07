//! A day of a pool that fills itself, on the manual clock: the target of a schedule at ten, checks, a class, expiry and
//! deletions.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use sandbox_broker::csp::simulator::{Settings, Simulator};
use serde_json::json;

use crate::support::{BrokerClient, Pool, START, TestBroker, simulated_csp};

const LAB: &str = "algebra-101";
const STUDENTS: usize = 8;
const TARGET: usize = 3;
const SCHEDULED: usize = 10;

/// The pool at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Accounts that no sync has listed yet.
    under_way: usize,
    provisioning: usize,
    available: usize,
    allocated: usize,
    pending: usize,
}

struct Day {
    pool: Pool,
    simulator: Simulator,
    csp: String,
    broker: TestBroker,
}

/// Returns the variables of a broker that checks and refills.
fn variables(csp: &str) -> [(&str, &str); 8] {
    [
        ("CSP_BASE_URL", csp),
        ("CHECK_MODE", "new"),
        ("CHECK_BATCH_DELAY_SEC", "0"),
        ("NIOSXAAS_EMAIL", "labs@example.com"),
        ("NIOSXAAS_PASSWORD", "simulated"),
        ("REFILL_MODE", "on"),
        ("REFILL_BATCH", "10"),
        ("REFILL_DELAY_SEC", "0"),
    ]
}

/// Returns the time so many minutes after the beginning of the day.
fn time(minutes: i64) -> String {
    let time = jiff::Timestamp::from_second(START.0 + minutes * 60);
    time.unwrap().to_string()
}

impl Day {
    async fn new() -> Self {
        let (simulator, csp) = simulated_csp(0).await;
        simulator.configure(Settings {
            listing_delay: Duration::from_mins(1),
            usable_delay: Duration::from_mins(3),
            ..Settings::default()
        });
        let pool = Pool::new().await;
        let broker = pool.broker_with(&variables(&csp)).await;
        let policy = json!({
            "lab": [{ "id": LAB, "duration_minutes": 60 }],
            "pool": [{
                "name_prefix": "lab", "target_available": TARGET, "max_total": 30, "create": {},
                "schedule": [{
                    "from": time(600), "to": time(720), "target_available": SCHEDULED, "lead_minutes": 30,
                }],
            }],
        });
        broker.client.set_policy(0, &policy).await;
        Self {
            pool,
            simulator,
            csp,
            broker,
        }
    }

    fn client(&self) -> &BrokerClient {
        &self.broker.client
    }

    /// Lets time pass until so many minutes after the beginning.
    fn advance_to(&self, minutes: i64) {
        let now = sandbox_broker::clock::Clock::now(&*self.broker.clock);
        let span = START.0 + minutes * 60 - now.0;
        let span = Duration::from_secs(span.try_into().unwrap());
        self.broker.clock.advance(span);
        self.simulator.advance(span).unwrap();
    }

    /// Runs the jobs of the pool in each of these minutes.
    async fn run_jobs(&self, minutes: std::ops::RangeInclusive<i64>) {
        for minute in minutes {
            self.advance_to(minute);
            for job in ["refill", "sync", "check"] {
                self.client().job(job).await;
            }
        }
    }

    /// A class of which each student allocates a sandbox, all at once.
    async fn begin_class(&self, name: &str) {
        let students = (0..STUDENTS).map(|number| async move {
            let caller = format!("{name}-{number}");
            self.client().allocate_in(LAB, &caller).await
        });
        for answer in join_all(students).await {
            assert_eq!(answer.status, 201, "{answer:?}");
        }
    }

    /// Asserts that every place that counts the pool, and CSP, show these counts, and this target. The broker of the day
    /// may have counted up to ten seconds ago, so another one is asked.
    async fn assert_counts(&self, stage: &str, target: usize, counts: Counts) {
        let variables = self.pool.variables(&variables(&self.csp));
        let observer = TestBroker::boot_at(variables, Arc::clone(&self.broker.clock)).await;
        let client = &observer.client;
        let Counts {
            under_way,
            provisioning,
            available,
            allocated,
            pending,
        } = counts;
        let total = provisioning + available + allocated + pending;
        assert_eq!(
            self.simulator.accounts().len(),
            total + under_way,
            "{stage}"
        );
        let (stats, overview) = (client.stats().await, client.overview().await);
        let metrics = client.plain("/metrics").await.text;
        for (status, count) in [
            ("provisioning", provisioning),
            ("available", available),
            ("allocated", allocated),
            ("pending_deletion", pending),
            ("stale", 0),
            ("quarantined", 0),
            ("total", total),
        ] {
            assert_eq!(stats[status], count, "{stage}: {status} in {stats}");
            assert_eq!(
                overview["counts"][status], count,
                "{stage}: {status} in {overview}"
            );
            let line = format!("broker_pool_{status} {count}");
            assert!(
                metrics.lines().any(|known| known == line),
                "{stage}: {line} in {metrics}"
            );
            if status != "total" {
                let path = format!("/v1/admin/sandboxes?status={status}&limit=1000");
                let listed = client.admin(Method::GET, &path).await.json();
                let listed = listed["sandboxes"].as_array().unwrap().len();
                assert_eq!(listed, count, "{stage}: listed as {status}");
            }
        }
        let shown = &overview["pools"][0];
        for (name, count) in [
            ("target", target),
            ("available", available),
            ("provisioning", provisioning),
            ("under_way", under_way),
            ("allocated", allocated),
            ("total", total),
        ] {
            assert_eq!(shown[name], count, "{stage}: {name} of the pool in {shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_is_counted_right_from_an_empty_morning_to_the_end_of_a_scheduled_class() {
    let day = Day::new().await;
    let counts = Counts::default();

    // An account is listed a minute after its creation, and usable after three.
    day.run_jobs(1..=1).await;
    let ordered = Counts {
        under_way: TARGET,
        ..counts
    };
    day.assert_counts("ordered", TARGET, ordered).await;
    day.run_jobs(2..=3).await;
    let warming = Counts {
        provisioning: TARGET,
        ..counts
    };
    day.assert_counts("warming up", TARGET, warming).await;
    day.run_jobs(4..=4).await;
    let full = Counts {
        available: TARGET,
        ..counts
    };
    day.assert_counts("full", TARGET, full).await;

    // The class at ten has a lead of half an hour.
    day.run_jobs(569..=569).await;
    day.assert_counts("before the lead", TARGET, full).await;
    day.run_jobs(570..=573).await;
    let ready = Counts {
        available: SCHEDULED,
        ..counts
    };
    day.advance_to(600);
    day.assert_counts("at ten", SCHEDULED, ready).await;

    day.begin_class("morning").await;
    day.run_jobs(601..=604).await;
    let held = Counts {
        allocated: STUDENTS,
        ..ready
    };
    day.assert_counts("refilled during the class", SCHEDULED, held)
        .await;

    // The students forget to release.
    day.advance_to(691);
    let expired = day.client().job("auto-expire").await;
    assert_eq!(expired["expired"], STUDENTS, "{expired}");
    let over = Counts {
        pending: STUDENTS,
        ..ready
    };
    day.assert_counts("expired", SCHEDULED, over).await;
    let deleted = day.client().job("cleanup").await;
    assert_eq!(deleted["deleted"], STUDENTS, "{deleted}");
    day.run_jobs(692..=692).await;
    day.assert_counts("deleted", SCHEDULED, ready).await;

    // Refill deletes nothing when the target is lower again, and fills up to that one.
    day.run_jobs(721..=721).await;
    day.assert_counts("in the afternoon", TARGET, ready).await;
    day.begin_class("afternoon").await;
    day.run_jobs(722..=725).await;
    let last = Counts {
        available: TARGET,
        allocated: STUDENTS,
        ..counts
    };
    day.assert_counts("at the end", TARGET, last).await;
    let created = SCHEDULED + STUDENTS + 1;
    assert_eq!(day.simulator.created_accounts().len(), created);
}
