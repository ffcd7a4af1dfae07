//! The capacity units of each operation, compared with the table in `docs/scaling.md`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use reqwest::Method;
use sandbox_broker::{
    csp::simulator::{Call, Fault, FaultKind, Simulator},
    domain::{Sandbox, Status},
};
use serde_json::{Value, json};

use crate::support::{
    Answer, BrokerClient, Pool, Proxy, START, TRACK, TestBroker,
    proxy::meter::{Access, Consumption, INDEXES, Source, TABLES, item_size},
    simulated_csp,
};

const POOL: u64 = 100;
const BATCH: u64 = 10;
const LAB: &str = "cloud-security-101";
const HEAD: &str =
    "| | calls | tables | `status` | `track` | `key` | written | read, tables | read, index |";

/// A row of the table: an operation with its consumption, divided by the number of sandboxes that it was about.
struct Row {
    name: String,
    per: u64,
    consumption: Consumption,
}

impl Row {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn figures(&self, source: Source) -> Vec<f64> {
        let resources = [TABLES].into_iter().chain(INDEXES.map(|(index, _)| index));
        let units = |access| {
            let units = resources
                .clone()
                .map(move |resource| self.consumption.units(source, access, resource));
            units
                .map(|units| units / self.per as f64)
                .collect::<Vec<_>>()
        };
        let (written, read) = (units(Access::Write), units(Access::Read));
        let calls = self.consumption.calls as f64 / self.per as f64;
        let total: f64 = written.iter().sum();
        let of_indexes: f64 = read[1..].iter().sum();
        [vec![calls], written, vec![total, read[0], of_indexes]].concat()
    }

    fn line(&self, source: Source) -> String {
        let cells: Vec<_> = self.figures(source).into_iter().map(number).collect();
        format!("| {} | {} |", self.name, cells.join(" | "))
    }

    /// Returns whether the line of the document has the same figures, up to a twentieth: names differ in length.
    fn agrees_with(&self, line: &str) -> bool {
        let documented: Vec<f64> = line
            .trim_matches(['|', ' '])
            .split('|')
            .skip(1)
            .map(|cell| cell.trim().parse().unwrap_or(0.0))
            .collect();
        let measured = self.figures(Source::Rules);
        let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= f64::max(0.5, 0.05 * a.max(*b));
        measured.len() == documented.len() && measured.iter().zip(&documented).all(is_close)
    }
}

fn number(value: f64) -> String {
    if value == 0.0 {
        return "–".to_owned();
    }
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A caller as long as a participant id of Instruqt.
fn caller(number: u64) -> String {
    format!("participant-{number:06}-000000000000")
}

/// A broker behind a metering proxy, with the rows measured so far.
struct Stage {
    pool: Pool,
    proxy: Arc<Proxy>,
    broker: TestBroker,
    simulator: Simulator,
    /// The URL of the simulated CSP.
    base_url: String,
    rows: Vec<Row>,
}

impl Stage {
    async fn new() -> Self {
        let pool = Pool::new().await;
        let (simulator, base_url) = simulated_csp(POOL).await;
        let proxy = Arc::new(Proxy::to(pool.engine.endpoint()).await);
        let broker = pool
            .broker_with(&[
                ("DDB_ENDPOINT_URL", &proxy.endpoint()),
                ("CSP_BASE_URL", &base_url),
                ("RUN_JOBS", "false"),
                ("CLEANUP_BATCH_SIZE", &BATCH.to_string()),
                ("TOMBSTONE_RETRY_SEC", "86400"),
                // Large enough for the pool: no refresh of the index runs beside the measured operation.
                ("CANDIDATE_INDEX_CAPACITY", &POOL.to_string()),
            ])
            .await;
        Self {
            pool,
            proxy,
            broker,
            simulator,
            base_url,
            rows: Vec::new(),
        }
    }

    /// Measures an operation that concerns `per` sandboxes.
    async fn measure<T>(&mut self, name: &str, per: u64, operation: impl Future<Output = T>) -> T {
        self.proxy.take_consumption().await;
        let result = operation.await;
        let consumption = self.proxy.take_consumption().await;
        self.rows.push(Row {
            name: name.to_owned(),
            per,
            consumption,
        });
        result
    }

    /// Measures a run of a job that concerns as many sandboxes as its report counts.
    async fn measure_job(&mut self, name: &str, path: &str, counted: &str) {
        let client = self.broker.client.clone();
        let report: Value = self.measure(name, 1, client.job(path)).await;
        self.rows.last_mut().unwrap().per = report[counted].as_u64().unwrap();
    }

    async fn measure_a_callers_requests(&mut self) {
        let client = self.broker.client.clone();
        let name = format!("sync that inserts {POOL}, each");
        self.measure(&name, POOL, client.job("sync")).await;
        let name = format!("sync that changes nothing, pool of {POOL}");
        self.measure(&name, 1, client.job("sync")).await;
        let first = caller(0);
        let fresh = allocate(&client, 0);
        let fresh = self.measure("allocation, fresh", 1, fresh).await;
        let id = fresh.sandbox_id();
        let replay = allocate(&client, 0);
        self.measure("allocation, replayed", 1, replay).await;
        self.measure("get one", 1, client.get(&id, &first)).await;
        let name = "list what the caller holds";
        self.measure(name, 1, client.list(&first)).await;
        let extension = client.extend(&id, &first, 120);
        self.measure("extension", 1, extension).await;
        let name = "extension, unchanged or refused";
        self.measure(name, 1, client.extend(&id, &first, 60)).await;
        let release = client.release(&id, &first);
        self.measure("release", 1, release).await;
        let release = client.release(&id, &first);
        self.measure("release, repeated", 1, release).await;
        let name = "allocation over the claim of a released one";
        let second = self.measure(name, 1, allocate(&client, 0)).await;
        client.release(&second.sandbox_id(), &first).await;
        let refusal = async {
            let request = client.allocation(&caller(1));
            let request = request.header("X-Sandbox-Name-Prefix", "nope-");
            let answer = client.send(request).await;
            assert_eq!(answer.code(), "NO_SANDBOXES_AVAILABLE");
        };
        let name = format!("refusal, {} available", POOL - 2);
        self.measure(&name, 1, refusal).await;
    }

    async fn measure_an_operators_requests(&mut self) {
        let client = self.broker.client.clone();
        let get = async |path: &str| {
            let path = format!("/v1/admin/{path}");
            let answer = client.admin(Method::GET, &path).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        };
        let name = format!("admin's list, page of 50, pool of {POOL}");
        self.measure(&name, 1, get("sandboxes")).await;
        let name = "admin's list by status, page of 50";
        self.measure(name, 1, get("sandboxes?status=available"))
            .await;
        let name = format!("stats, pool of {POOL}");
        self.measure(&name, 1, get("stats")).await;
        let name = format!("the minute's count, pool of {POOL}");
        self.measure(&name, 1, client.plain("/metrics")).await;
        let name = "the overview, beside its count";
        self.measure(name, 1, get("overview")).await;
        let samples = get("samples?hours=24");
        self.measure("the samples of a day", 1, samples).await;
        let name = format!("NIOSXaaS, pool of {POOL}");
        self.measure(&name, 1, get("niosxaas")).await;
        let name = format!("the leaks, of the allocations in a pool of {POOL}");
        self.measure(&name, 1, get("leaks")).await;
        let proxy = Arc::clone(&self.proxy);
        let refusal = async {
            let request = client.request(Method::GET, "/v1/admin/stats");
            let answer = client.send(request.bearer_auth(TRACK)).await;
            assert_eq!(answer.code(), "FORBIDDEN");
            // The record is written after the answer.
            proxy.until_quiet().await;
        };
        self.measure("a request that lacks the role", 1, refusal)
            .await;
        let path = format!("audit?from={}", START.0);
        let name = "the audit of one day, its first page";
        self.measure(name, 1, get(&path)).await;
        let id = allocate(&client, 2).await.sandbox_id();
        let path = format!("sandboxes/{id}");
        let name = "a sandbox that is allocated, with its timeline";
        self.measure(name, 1, get(&path)).await;
        client.release(&id, &caller(2)).await;
        // The answer of the last check is reused for a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let readiness = client.plain("/readyz");
        self.measure("readiness, not cached", 1, readiness).await;
    }

    async fn measure_actions_of_an_operator(&mut self) {
        let client = self.broker.client.clone();
        let reason = json!({ "reason": "DNS does not resolve" });
        let extension = json!({ "minutes": 1440, "reason": "the class runs late" });
        let held = allocate(&client, 2).await.sandbox_id();
        let sandboxes = self.pool.sandboxes().await;
        let is_available = |sandbox: &&Sandbox| sandbox.status == Status::Available;
        let free = sandboxes
            .iter()
            .find(is_available)
            .unwrap()
            .id()
            .to_string();
        for (name, id, action, body) in [
            ("operator's extension", &held, "extend", &extension),
            ("operator's release", &held, "release", &reason),
            ("operator's release, refused", &held, "release", &reason),
            ("quarantine", &free, "quarantine", &reason),
            ("return from quarantine", &free, "restore", &reason),
            ("operator's deletion", &free, "delete", &reason),
        ] {
            let proxy = Arc::clone(&self.proxy);
            let act = async {
                client.act(id, action, body).await;
                // The record of a refused request is written after the answer.
                proxy.until_quiet().await;
            };
            self.measure(name, 1, act).await;
        }
    }

    async fn measure_a_replacement(&mut self) {
        let client = self.broker.client.clone();
        let caller = caller(3);
        let old = allocate(&client, 3).await.sandbox_id();
        let replacement = client.replace(&old, &caller);
        let new = self.measure("replacement", 1, replacement).await;
        assert_eq!(new.status, 201, "{new:?}");
        let name = "replacement, repeated";
        self.measure(name, 1, client.replace(&old, &caller)).await;
        client.release(&new.sandbox_id(), &caller).await;
    }

    /// Measures the allocations of a lab that may hold `BATCH` sandboxes.
    async fn measure_a_quota(&mut self) {
        let client = self.broker.client.clone();
        let labs = json!({ "lab": [{ "id": LAB, "max_held": BATCH }] });
        client.set_policy(0, &labs).await;
        let first = allocate(&client, 100);
        let name = "first allocation of a lab with a quota";
        let mut held = vec![self.measure(name, 1, first).await.sandbox_id()];
        let second = allocate(&client, 101);
        let name = "allocation of a lab with a quota";
        held.push(self.measure(name, 1, second).await.sandbox_id());
        for number in 102..100 + BATCH {
            held.push(allocate(&client, number).await.sandbox_id());
        }
        let refusal = async {
            let answer = allocate(&client, 100 + BATCH).await;
            assert_eq!(answer.code(), "LAB_QUOTA_REACHED");
        };
        let name = format!("refusal by a quota of {BATCH}");
        self.measure(&name, 1, refusal).await;
        for (number, id) in (100..).zip(held) {
            client.release(&id, &caller(number)).await;
        }
        let freed = allocate(&client, 100 + BATCH);
        let name = format!("allocation after {BATCH} slots became free");
        let id = self.measure(&name, 1, freed).await.sandbox_id();
        client.release(&id, &caller(100 + BATCH)).await;
    }

    /// Measures the count of brokers whose policy has a pool. Its labs stay those of [`measure_a_quota`](Self::measure_a_quota).
    async fn measure_counts_of_pools(&mut self) {
        let pool = json!({ "name_prefix": "lab-", "target_available": 10, "create": {} });
        let policy = json!({ "lab": [{ "id": LAB, "max_held": BATCH }], "pool": [pool] });
        self.broker.client.set_policy(1, &policy).await;
        for (name, mode) in [
            ("the minute's count, with a pool in the policy", "off"),
            ("the minute's count, with a pool that refill fills", "on"),
        ] {
            let settings = [
                ("DDB_ENDPOINT_URL", self.proxy.endpoint()),
                ("REFILL_MODE", mode.to_owned()),
                ("RUN_JOBS", "false".to_owned()),
            ];
            let settings = settings
                .each_ref()
                .map(|(name, value)| (*name, value.as_str()));
            let broker = self.pool.broker_with(&settings).await;
            self.proxy.until_quiet().await;
            let count = broker.client.plain("/metrics");
            self.measure(name, 1, count).await;
        }
    }

    /// Measures the forecast of the pool of that policy.
    async fn measure_a_forecast(&mut self) {
        let client = self.broker.client.clone();
        let path = format!("/v1/admin/forecast?at={}", START.0 + 86_400);
        let forecast = client.admin(Method::GET, &path);
        let name = format!("the forecast of one pool, pool of {POOL}");
        let forecast = self.measure(&name, 1, forecast).await;
        assert_eq!(forecast.status, 200, "{forecast:?}");
    }

    /// Measures jobs, the first ones on `BATCH` allocations.
    async fn measure_jobs(&mut self) {
        let client = self.broker.client.clone();
        let name = "a run that finds nothing (auto-expire)";
        self.measure(name, 1, client.job("auto-expire")).await;
        self.broker.clock.advance(Duration::from_hours(24));
        let name = format!("auto-expire of {BATCH}, each");
        self.measure_job(&name, "auto-expire?force=true", "expired")
            .await;
        let name = format!("cleanup of {BATCH}, each");
        self.measure_job(&name, "cleanup", "deleted").await;
        self.halve_next_list();
        let name = "sync that marks stale, each";
        self.measure_job(name, "sync?force=true", "marked_stale")
            .await;
        let name = "sync that restores, each";
        self.measure_job(name, "sync", "restored").await;
        self.halve_next_list();
        client.job("sync?force=true").await;
        let path = "auto-delete-stale?grace_period_hours=0";
        let name = "auto-delete-stale, each";
        self.measure_job(name, path, "deleted").await;
    }

    /// Measures checks of `BATCH` new accounts by another broker, and of the whole pool.
    async fn measure_checks(&mut self) {
        let variables = self.pool.variables(&[
            ("DDB_ENDPOINT_URL", &self.proxy.endpoint()),
            ("CSP_BASE_URL", &self.base_url),
            ("CHECK_MODE", "new"),
            ("NIOSXAAS_EMAIL", "broker@example.com"),
            ("NIOSXAAS_PASSWORD", "niosxaas-password"),
        ]);
        let clock = Arc::clone(&self.broker.clock);
        let broker = TestBroker::boot_at(variables, clock).await;
        let client = &broker.client;
        self.measure("a check of nothing", 1, client.job("check"))
            .await;
        // Only the new accounts are to be checked.
        self.broker.client.job("sync").await;
        self.simulator.add_accounts(BATCH).unwrap();
        client.job("sync").await;
        self.simulator.inject([Fault {
            on: Call::Groups,
            ..Fault::always(FaultKind::Empty)
        }]);
        let name = format!("check of {BATCH} that are not usable yet, each");
        self.measure(&name, BATCH, client.job("check")).await;
        self.simulator.inject([]);
        let name = format!("check of {BATCH} that are usable, each");
        self.measure(&name, BATCH, client.job("check")).await;
    }

    fn halve_next_list(&self) {
        self.simulator.inject([Fault {
            on: Call::List,
            times: Some(1),
            ..Fault::always(FaultKind::Halved)
        }]);
    }

    fn print(&self) {
        println!("{HEAD}\n|---|---|---|---|---|---|---|---|---|");
        for row in &self.rows {
            println!("{}", row.line(Source::Rules));
        }
        println!("\nDynamoDB Local differs, by the rules and as reported:");
        for row in &self.rows {
            let (rules, reported) = (row.line(Source::Rules), row.line(Source::Server));
            if rules != reported {
                println!("{rules}\n{reported}");
            }
        }
    }

    /// Returns the rows that the document lacks or has with other figures.
    fn differences_from(&self, document: &str) -> Vec<String> {
        let differs = |row: &Row| {
            let start = format!("| {} |", row.name);
            let documented = document.lines().find(|line| line.starts_with(&start));
            let agrees = documented.is_some_and(|line| row.agrees_with(line));
            let measured = row.line(Source::Rules);
            (!agrees).then(|| format!("measured: {measured}\ndocumented: {documented:?}"))
        };
        self.rows.iter().filter_map(differs).collect()
    }
}

async fn allocate(client: &BrokerClient, number: u64) -> Answer {
    let request = client.allocation_in(LAB, &caller(number));
    // Less than the maximum, so that it can be extended.
    let terms = json!({ "duration_minutes": 60 });
    client.send(request.json(&terms)).await
}

/// Prints the table, and the operations that the server bills differently.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs DynamoDB Local, which reports capacity units: scripts/measure-capacity"]
async fn operations_consume_the_documented_capacity_units() {
    let mut stage = Stage::new().await;
    let client = stage.broker.client.clone();
    stage.measure_a_callers_requests().await;
    stage.measure_an_operators_requests().await;
    stage.measure_actions_of_an_operator().await;
    stage.measure_a_replacement().await;
    stage.measure_a_quota().await;
    stage.measure_counts_of_pools().await;
    stage.measure_a_forecast().await;
    client.job("cleanup").await;
    for number in 10..10 + BATCH {
        assert_eq!(allocate(&client, number).await.status, 201);
    }
    let sizes = mean_sizes(&stage.pool).await;
    stage.measure_jobs().await;
    stage.measure_checks().await;
    stage.print();
    println!("\nMean sizes of items in bytes: {sizes:?}");
    let document = std::fs::read_to_string("docs/scaling.md").unwrap();
    let differences = stage.differences_from(&document);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Returns the mean size of the items of each kind, sandboxes by status.
async fn mean_sizes(pool: &Pool) -> Vec<(String, usize)> {
    let mut sizes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for item in pool.items().await {
        let item: Value = item
            .iter()
            .map(|(name, value)| (name.clone(), on_the_wire(value)))
            .collect();
        let partition = item["PK"]["S"].as_str().unwrap();
        let mut kind = partition.split('#').next().unwrap().to_owned();
        if let Some(status) = item["status"]["S"].as_str() {
            kind = format!("{kind} {status}");
        }
        sizes.entry(kind).or_default().push(item_size(&item));
    }
    let mean = |sizes: Vec<usize>| sizes.iter().sum::<usize>() / sizes.len();
    sizes
        .into_iter()
        .map(|(kind, sizes)| (kind, mean(sizes)))
        .collect()
}

/// An attribute value in DynamoDB's JSON.
fn on_the_wire(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::Bool(flag) => json!({ "BOOL": flag }),
        AttributeValue::Null(flag) => json!({ "NULL": flag }),
        AttributeValue::L(parts) => {
            json!({ "L": parts.iter().map(on_the_wire).collect::<Vec<_>>() })
        }
        AttributeValue::M(parts) => {
            let parts = parts
                .iter()
                .map(|(name, part)| (name.clone(), on_the_wire(part)));
            json!({ "M": parts.collect::<Value>() })
        }
        other => panic!("no rule for {other:?}"),
    }
}
