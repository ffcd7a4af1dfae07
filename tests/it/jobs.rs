//! Jobs: leases, records, the schedule, and the subcommands `job` and `worker`.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Method, StatusCode};
use sandbox_broker::{
    clock::{Clock, SystemClock, UnixSeconds},
    csp::simulator::{Fault, FaultKind},
    domain::{JobName, RunId, RunRecord, RunState, Sandbox, SandboxId, Status},
    store::{Acquired, Change, DeletionOutcome, RunEnd, RunOutcome, StoreError},
};
use serde_json::Value;

use crate::support::{
    ADMIN, BrokerProcess, Pool, START, TestBroker, account, command, simulated_csp,
};

#[tokio::test(flavor = "multi_thread")]
async fn only_overdue_allocations_are_retired() {
    let pool = Pool::of(30).await;
    let broker = pool.broker().await;
    for n in 0..10 {
        broker.client.allocate(&format!("early-{n}")).await;
    }
    broker.clock.advance(Duration::from_hours(1));
    for n in 0..10 {
        broker.client.allocate(&format!("late-{n}")).await;
    }
    broker.clock.advance(Duration::from_mins(3 * 60 + 30));
    assert_eq!(
        broker.client.job("auto-expire").await["expired"],
        0,
        "the grace period is not over"
    );
    broker.clock.advance(Duration::from_secs(1));
    assert_eq!(broker.client.job("auto-expire").await["expired"], 10);
    assert_eq!(broker.client.job("auto-expire").await["expired"], 0);
    for sandbox in pool.sandboxes().await {
        let early = sandbox
            .holder
            .as_ref()
            .is_some_and(|holder| holder.caller.as_str().starts_with("early"));
        assert_eq!(
            sandbox.status == Status::PendingDeletion,
            early,
            "{sandbox:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_sandboxes_stale_for_the_grace_period_are_removed() {
    let pool = Pool::of(4).await;
    let broker = pool.broker().await;
    let stale = |name: &str| Change::MarkStale(SandboxId::parse(name).unwrap(), Status::Available);
    pool.apply(vec![
        stale("lab-adventure-0000"),
        stale("lab-adventure-0001"),
    ])
    .await;
    broker.clock.advance(Duration::from_hours(23));
    assert_eq!(broker.client.job("auto-delete-stale").await["deleted"], 0);
    broker.clock.advance(Duration::from_hours(1));
    assert_eq!(
        broker
            .client
            .job("auto-delete-stale?grace_period_hours=25")
            .await["deleted"],
        0
    );
    let report = broker.client.job("auto-delete-stale").await;
    assert_eq!(
        (&report["deleted"], &report["grace_period_hours"]),
        (&2.into(), &24.into())
    );
    assert_eq!(pool.sandboxes().await.len(), 2);
    for wrong in [
        "grace_period_hours=-1",
        "grace_period_hours=soon",
        "grace_period_hours=9000",
    ] {
        let answer = broker
            .client
            .admin(
                Method::POST,
                &format!("/v1/admin/auto-delete-stale?{wrong}"),
            )
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, "INVALID_PARAMETER"),
            "{wrong}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_delete_accepts_two_statuses_and_prevents_reinsertion_of_used_sandboxes() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(3).await;
    let broker = pool
        .broker_with(&[
            ("CSP_BASE_URL", &base_url),
            ("CLEANUP_BATCH_DELAY_SEC", "0"),
        ])
        .await;
    broker.client.job("sync").await;
    let id = broker.client.allocate("play-1").await.sandbox_id();
    broker.client.release(&id, "play-1").await;
    for wrong in [
        "",
        "?status=available",
        "?status=allocated",
        "?status=pending_deletion",
        "?status=x",
    ] {
        let answer = broker
            .client
            .admin(Method::POST, &format!("/v1/admin/bulk-delete{wrong}"))
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, "INVALID_PARAMETER"),
            "{wrong}"
        );
    }
    simulator.inject([Fault::always(FaultKind::Status { code: 400 })]);
    assert_eq!(broker.client.job("cleanup").await["failed"], 1);
    simulator.inject([]);
    assert_eq!(
        broker
            .client
            .job("bulk-delete?status=deletion_failed")
            .await["deleted"],
        1
    );
    let report = broker.client.job("sync").await;
    assert_eq!(
        (&report["synced"], &report["inserted"]),
        (&3.into(), &0.into())
    );
    assert_eq!(pool.sandboxes().await.len(), 2);
    assert_eq!(
        broker.client.job("bulk-delete?status=stale").await["deleted"],
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn second_start_of_a_job_is_rejected_with_the_id_of_the_run_in_progress() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(10).await;
    let variables = [
        ("CSP_BASE_URL", base_url.as_str()),
        ("CSP_TIMEOUT_READ_SEC", "30"),
    ];
    let (a, b) = (
        pool.broker_with(&variables).await,
        pool.broker_with(&variables).await,
    );
    simulator.inject([Fault::always(FaultKind::Hang)]);
    let request = a
        .client
        .request(Method::POST, "/v1/admin/sync")
        .bearer_auth(ADMIN);
    let accepted = a
        .client
        .send(request.header("Prefer", "respond-async"))
        .await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    assert_eq!(accepted.header("preference-applied"), Some("respond-async"));
    let run_id = accepted.json()["run_id"].as_str().unwrap().to_owned();
    let location = accepted.header("location").unwrap();
    assert_eq!(location, format!("/v1/admin/jobs/{run_id}"));
    for broker in [&a, &b] {
        let rejected = broker.client.admin(Method::POST, "/v1/admin/sync").await;
        assert_eq!(
            (rejected.status.as_u16(), rejected.code().as_str()),
            (409, "JOB_RUNNING")
        );
        assert_eq!(rejected.json()["error"]["run_id"], run_id.as_str());
        let run = broker.client.admin(Method::GET, location).await.json();
        assert_eq!(
            (&run["state"], &run["job"]),
            (&"running".into(), &"sync".into())
        );
        broker.client.job("auto-expire").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_of_a_dead_holder_is_taken_over_and_its_writes_are_rejected() {
    let pool = Pool::of(2).await;
    let run = RunId::new(JobName::AutoExpire, START, 1);
    let Acquired::Granted { fence: dead, .. } = pool
        .store
        .acquire_lease(&run, "dead", None, START)
        .await
        .unwrap()
    else {
        panic!("the lease is free");
    };
    let record = RunRecord {
        started_by: None,
        id: run.to_string(),
        job: JobName::AutoExpire,
        state: RunState::Running,
        counts: Value::Null,
        error: None,
        started_at: START,
        updated_at: START,
        finished_at: None,
    };
    pool.store.put_run(&run, &record).await.unwrap();
    let broker = pool.broker().await;
    let rejected = broker
        .client
        .admin(Method::POST, "/v1/admin/auto-expire")
        .await;
    assert_eq!(
        (
            rejected.code().as_str(),
            &rejected.json()["error"]["run_id"]
        ),
        ("JOB_RUNNING", &run.as_str().into())
    );
    broker.clock.advance(Duration::from_mins(1));
    broker.client.job("auto-expire").await;
    let record = broker
        .client
        .admin(Method::GET, &format!("/v1/admin/jobs/{run}"))
        .await
        .json();
    assert_eq!(
        record["state"], "interrupted",
        "the record of the dead run is closed"
    );
    let change = [Change::MarkStale(
        SandboxId::parse("lab-adventure-0000").unwrap(),
        Status::Available,
    )];
    let fenced = pool.store.apply(Some(&dead), &change, 4, START).await;
    assert!(matches!(fenced, Err(StoreError::Superseded)), "{fenced:?}");
    let renewed = pool.store.renew_lease(&dead, START).await;
    assert!(
        matches!(renewed, Err(StoreError::Superseded)),
        "{renewed:?}"
    );
    assert!(
        pool.sandboxes()
            .await
            .iter()
            .all(|sandbox| sandbox.status == Status::Available)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_applies_every_change_whose_condition_holds() {
    let pool = Pool::of(120).await;
    let id = |n: usize| SandboxId::parse(format!("lab-adventure-{n:04}")).unwrap();
    pool.apply(
        (0..120)
            .filter(|n| n % 3 == 0)
            .map(|n| Change::MarkStale(id(n), Status::Available))
            .collect(),
    )
    .await;
    let changes: Vec<_> = (0..120)
        .map(|n| Change::MarkStale(id(n), Status::Available))
        .chain([Change::MarkStale(id(999), Status::Available)])
        .collect();
    let made = pool.store.apply(None, &changes, 4, START).await.unwrap();
    for (n, made) in made.iter().enumerate() {
        assert_eq!(*made, n < 120 && n % 3 != 0, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn record_of_a_run_has_its_counts_and_its_failure() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(7).await;
    let broker = pool.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    broker.client.job("sync").await;
    broker.clock.advance(Duration::from_secs(10));
    simulator.inject([Fault::always(FaultKind::Status { code: 403 })]);
    broker.client.admin(Method::POST, "/v1/admin/sync").await;
    let runs = broker.client.finished_runs().await;
    assert_eq!(runs.len(), 2);
    assert_eq!(
        (&runs[0]["state"], &runs[1]["state"]),
        (&"failed".into(), &"succeeded".into())
    );
    assert!(
        runs[0]["error"].as_str().unwrap().contains("CSP_API_TOKEN"),
        "{}",
        runs[0]
    );
    assert_eq!(
        (&runs[1]["counts"]["inserted"], &runs[1]["error"]),
        (&7.into(), &Value::Null)
    );
    assert_eq!(runs[1]["finished_at"], START.0);
    for path in [
        "/v1/admin/jobs/sync-1-2",
        "/v1/admin/jobs/nonsense",
        "/v1/admin/jobs/%ff",
    ] {
        let answer = broker.client.admin(Method::GET, path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (404, "RUN_NOT_FOUND"),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn record_of_a_run_has_counts_while_it_runs() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(3).await;
    let broker = pool
        .broker_with(&[
            ("CSP_BASE_URL", &base_url),
            ("CLEANUP_BATCH_SIZE", "1"),
            ("CLEANUP_BATCH_DELAY_SEC", "0"),
        ])
        .await;
    broker.client.job("sync").await;
    broker.clock.advance(Duration::from_secs(1));
    for n in 0..3 {
        let caller = format!("play-{n}");
        let id = broker.client.allocate(&caller).await.sandbox_id();
        broker.client.release(&id, &caller).await;
    }
    simulator.inject([Fault::always(FaultKind::Slow { delay_ms: 4000 })]);
    let request = broker
        .client
        .request(Method::POST, "/v1/admin/cleanup")
        .bearer_auth(ADMIN);
    let accepted = broker
        .client
        .send(request.header("Prefer", "respond-async"))
        .await;
    let location = accepted.header("location").unwrap().to_owned();
    loop {
        let run = broker.client.admin(Method::GET, &location).await.json();
        let deleted = run["counts"]["deleted"].as_u64();
        if run["state"] == "running" && deleted.is_some_and(|deleted| (1..3).contains(&deleted)) {
            assert_eq!(run["counts"]["due"], 3);
            break;
        }
        assert_eq!(
            run["state"], "running",
            "the run ended before its counts were read: {run}"
        );
        // Admins have a rate limit too.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(
        broker.client.finished_runs().await[0]["counts"]["deleted"],
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_the_current_item_and_records_the_run_as_interrupted() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(5).await;
    let variables = [
        ("CSP_BASE_URL", base_url.as_str()),
        ("CLEANUP_BATCH_SIZE", "1"),
        ("CLEANUP_BATCH_DELAY_SEC", "0"),
    ];
    let broker = pool.broker_with(&variables).await;
    broker.client.job("sync").await;
    broker.clock.advance(Duration::from_secs(1));
    for n in 0..5 {
        let caller = format!("play-{n}");
        let id = broker.client.allocate(&caller).await.sandbox_id();
        broker.client.release(&id, &caller).await;
    }
    let before = simulator.calls().delete;
    simulator.inject([Fault::always(FaultKind::Slow { delay_ms: 300 })]);
    let client = broker.client.clone();
    let waiting = tokio::spawn(async move { client.job("cleanup").await });
    while simulator.calls().delete == before {
        tokio::task::yield_now().await;
    }
    broker.running.stop().await;
    let report = waiting.await.unwrap();
    assert_eq!(
        (&report["status"], &report["deleted"], &report["deferred"]),
        (&"interrupted".into(), &1.into(), &4.into())
    );
    simulator.inject([]);
    let next = pool.broker_with(&variables).await;
    assert_eq!(next.client.finished_runs().await[0]["state"], "interrupted");
    assert_eq!(
        next.client.job("cleanup").await["deleted"],
        4,
        "the lease was released"
    );
}

fn job_counts(runs: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for run in runs {
        *counts
            .entry(run["job"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_start_together_run_every_job_once() {
    let pool = Pool::new().await;
    let (_simulator, base_url) = simulated_csp(50).await;
    let directory = tempfile::tempdir().unwrap();
    let variables = pool.variables(&[("CSP_BASE_URL", &base_url), ("LOG_LEVEL", "debug")]);
    let workers = [0, 1]
        .map(|_| BrokerProcess::start(directory.path(), &variables, "worker", "worker started"));
    // Each worker has attempted to start each of the four jobs: it ran the job, or did not start it.
    for worker in &workers {
        let mut attempted = std::collections::BTreeSet::new();
        while attempted.len() < 4 {
            let events = worker.events_until(|event| {
                event["message"] == "job done" || event["message"] == "job not started"
            });
            attempted.insert(
                events.last().unwrap()["action"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
    let broker = pool.broker().await;
    let counts = job_counts(&broker.client.finished_runs().await);
    let once =
        ["sync", "cleanup", "auto-expire", "auto-delete-stale"].map(|job| (job.to_owned(), 1));
    assert_eq!(counts, once.into());
    assert_eq!(broker.client.stats().await["available"], 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_runs_the_jobs_only_with_run_jobs() {
    let pool = Pool::new().await;
    let (_simulator, base_url) = simulated_csp(5).await;
    let with = pool
        .broker_with(&[("CSP_BASE_URL", &base_url), ("RUN_JOBS", "true")])
        .await;
    while job_counts(&with.client.finished_runs().await).len() < 4 {}
    let other = Pool::new().await;
    let without = other.broker_with(&[("CSP_BASE_URL", &base_url)]).await;
    assert!(without.client.finished_runs().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_of_the_job_command_is_the_outcome_of_the_run() {
    let pool = Pool::new().await;
    let (simulator, base_url) = simulated_csp(4).await;
    let directory = tempfile::tempdir().unwrap();
    let variables = pool.variables(&[
        ("CSP_BASE_URL", &base_url),
        ("CLEANUP_BATCH_DELAY_SEC", "0"),
    ]);
    let run = async |arguments: &[&str]| {
        let mut command = command(directory.path(), &variables);
        command.arg("job").args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    for (arguments, field) in [
        (["sync"].as_slice(), "inserted"),
        (&["cleanup", "--retry-failed"], "requeued"),
        (&["auto-expire"], "expired"),
        (
            &["auto-delete-stale", "--grace-period-hours", "1"],
            "grace_period_hours",
        ),
    ] {
        let (code, stdout, stderr) = run(arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(
            (&report["status"], report[field].is_u64()),
            (&"completed".into(), true),
            "{stdout}"
        );
    }
    let id = RunId::new(JobName::Cleanup, START, 7);
    // As if another process ran the job now.
    let now = SystemClock.now();
    pool.store
        .acquire_lease(&id, "elsewhere", None, now)
        .await
        .unwrap();
    let (code, stdout, stderr) = run(&["cleanup"]).await;
    assert_eq!((code, stdout.as_str()), (75, ""));
    assert!(stderr.contains("running already"), "{stderr}");
    simulator.inject([Fault::always(FaultKind::Status { code: 401 })]);
    let (code, stdout, _) = run(&["sync"]).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_on_the_embedded_engine_breaks_the_lease_of_its_dead_predecessor() {
    let data = tempfile::tempdir().unwrap();
    let variables: BTreeMap<String, String> = [
        ("DATA_DIR", data.path().to_str().unwrap()),
        ("BROKER_API_TOKEN", crate::support::TRACK),
        ("BROKER_ADMIN_TOKEN", ADMIN),
        ("CLEANUP_BATCH_DELAY_SEC", "60"),
        ("CLEANUP_BATCH_SIZE", "1"),
        ("RUN_JOBS", "false"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let first = BrokerProcess::serve(data.path(), &variables);
    for caller in ["play-1", "play-2"] {
        let id = first.client.allocate(caller).await.sandbox_id();
        first.client.release(&id, caller).await;
    }
    let request = first
        .client
        .request(Method::POST, "/v1/admin/cleanup")
        .bearer_auth(ADMIN);
    first
        .client
        .send(request.header("Prefer", "respond-async"))
        .await;
    first.kill();
    let second = BrokerProcess::serve(data.path(), &variables);
    let request = second
        .client
        .request(Method::POST, "/v1/admin/cleanup")
        .bearer_auth(ADMIN);
    assert_eq!(
        second
            .client
            .send(request.header("Prefer", "respond-async"))
            .await
            .status,
        StatusCode::ACCEPTED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_jobs_do_not_apply_to_an_allocated_sandbox() {
    let pool = Pool::with_names(["one"]).await;
    let broker: TestBroker = pool.broker().await;
    broker.client.allocate("play-1").await;
    let before = pool.sandboxes().await;
    let another = Sandbox {
        allocated_at: UnixSeconds(START.0 - 1),
        ..before[0].clone()
    };
    for change in [
        Change::Insert(account("one"), Status::Available),
        Change::Update(account("one"), Status::Available),
        Change::Restore(account("one"), Status::Available),
        Change::MarkStale(SandboxId::parse("one").unwrap(), Status::Available),
        Change::Expire(Box::new(another)),
        Change::RetryDeletion(SandboxId::parse("one").unwrap()),
    ] {
        let shown = format!("{change:?}");
        assert_eq!(
            pool.store.apply(None, &[change], 4, START).await.unwrap(),
            [false],
            "{shown}"
        );
    }
    assert_eq!(pool.sandboxes().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_deletion_counts_once_even_if_two_runs_report_it() {
    let pool = Pool::with_names(["one"]).await;
    let broker = pool.broker().await;
    broker.client.allocate("play-1").await;
    broker.client.release("one", "play-1").await;
    let read = Box::new(pool.sandboxes().await.remove(0));
    let outcome = DeletionOutcome::Deferred {
        until: UnixSeconds(START.0 + 60),
        error: "HTTP 500".into(),
    };
    let report = [Change::Deletion(read, outcome, None)];
    assert_eq!(
        pool.store.apply(None, &report, 4, START).await.unwrap(),
        [true]
    );
    assert_eq!(
        pool.store.apply(None, &report, 4, START).await.unwrap(),
        [false]
    );
    assert_eq!(
        pool.sandboxes().await[0].maintenance.deletion_retry_count,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_restored_and_stale_again_since_it_was_read_is_not_removed() {
    let pool = Pool::with_names(["one"]).await;
    let id = SandboxId::parse("one").unwrap();
    let later = UnixSeconds(START.0 + 3600);
    pool.apply(vec![Change::MarkStale(id.clone(), Status::Available)])
        .await;
    let read = Box::new(pool.sandboxes().await.remove(0));
    for change in [
        Change::Restore(account("one"), Status::Available),
        Change::MarkStale(id, Status::Available),
    ] {
        assert_eq!(
            pool.store.apply(None, &[change], 4, later).await.unwrap(),
            [true]
        );
    }
    assert_eq!(
        pool.store
            .apply(None, &[Change::Remove(read)], 4, later)
            .await
            .unwrap(),
        [false]
    );
    assert_eq!(pool.sandboxes().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_is_granted_again_to_the_same_run_after_a_lost_answer() {
    let pool = Pool::new().await;
    let run = RunId::new(JobName::Sync, START, 1);
    let granted = pool
        .store
        .acquire_lease(&run, "me", None, START)
        .await
        .unwrap();
    let again = pool
        .store
        .acquire_lease(&run, "me", None, START)
        .await
        .unwrap();
    assert!(matches!(granted, Acquired::Granted { .. }));
    assert_eq!(granted, again);
    let other = RunId::new(JobName::Sync, START, 2);
    let rejected = pool
        .store
        .acquire_lease(&other, "other", None, START)
        .await
        .unwrap();
    assert_eq!(rejected, Acquired::Held(Some(run.to_string())));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_run_and_fast_clock_do_not_delay_the_next_scheduled_run() {
    let pool = Pool::new().await;
    let acquire = async |number: u32, not_since: i64, now: i64| {
        let run = RunId::new(JobName::AutoDeleteStale, UnixSeconds(now), number);
        let not_since = Some(UnixSeconds(not_since));
        pool.store
            .acquire_lease(&run, "worker", not_since, UnixSeconds(now))
            .await
            .unwrap()
    };
    let failed = RunEnd {
        outcome: RunOutcome::Failed,
        at: START,
        processed: Vec::new(),
    };
    let day = 86_400;
    let Acquired::Granted { fence, .. } = acquire(1, START.0 - day, START.0).await else {
        panic!("the lease is free")
    };
    let next = acquire(2, START.0 + 60 - day, START.0 + 60).await;
    assert!(
        matches!(
            next,
            Acquired::Granted {
                abandoned: Some(_),
                ..
            }
        ),
        "its holder died: {next:?}"
    );
    pool.store.release_lease(&fence, &failed).await.unwrap_err();
    let Acquired::Granted { fence, .. } = next else {
        unreachable!()
    };
    pool.store.release_lease(&fence, &failed).await.unwrap();
    assert_eq!(
        acquire(3, START.0 + 120 - day, START.0 + 120).await,
        Acquired::NotDue,
        "the run succeeded"
    );
    let Acquired::Granted { .. } = acquire(4, START.0 + 10 * day, START.0 + 11 * day).await else {
        panic!("the job is due")
    };
    let after = acquire(5, START.0 + 200 - day, START.0 + 200).await;
    assert!(
        matches!(after, Acquired::Granted { .. }),
        "the other clock was ten days fast: {after:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn late_heartbeat_does_not_overwrite_the_record_of_an_ended_run() {
    let pool = Pool::new().await;
    let id = RunId::new(JobName::Sync, START, 1);
    let record = |state| RunRecord {
        started_by: None,
        id: id.to_string(),
        job: JobName::Sync,
        state,
        counts: Value::Null,
        error: None,
        started_at: START,
        updated_at: START,
        finished_at: None,
    };
    for state in [RunState::Running, RunState::Succeeded, RunState::Running] {
        pool.store.put_run(&id, &record(state)).await.unwrap();
    }
    assert_eq!(
        pool.store.run(&id).await.unwrap().unwrap().state,
        RunState::Succeeded
    );
}
