//! The bare SDK: the allocating transaction without a broker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_dynamodb::{
    Client,
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{StreamExt, TryStreamExt, stream};
use sandbox_broker::clock::{Clock, SystemClock};
use sha2::{Digest, Sha256};
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    outcome::{Outcome, micros, percentiles},
    process::{Usage, role},
    sandbox::{external_id, name, sandbox_id},
    table::client,
};

/// The number of concurrent requests that prepare a measurement.
pub const PREPARING_CONNECTIONS: usize = 32;

/// The broker's default grace period, and how long it keeps a claim after it.
const GRACE: Duration = Duration::from_mins(30);
const CLAIM_KEPT: Duration = Duration::from_hours(7 * 24);

/// One measurement of the bare SDK.
#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    #[arg(long)]
    pub endpoint: String,
    #[arg(long)]
    pub table: String,
    /// The number of concurrent calls.
    #[arg(long)]
    pub connections: usize,
    /// How long to measure. 0: one call per connection, all concurrently, after as many to warm up.
    #[arg(long)]
    pub seconds: u64,
    /// The first sandbox to allocate.
    #[arg(long)]
    pub first: usize,
    /// One after the last.
    #[arg(long)]
    pub end: usize,
    /// The number of (caller, key) pairs that allocate before the measurement, which then consists of their retries. 0:
    /// every call is for a new pair.
    #[arg(long)]
    pub pairs: usize,
}

impl Load {
    /// Measures in a process of its own.
    pub fn measure(&self) -> Result<Outcome> {
        let output = role("bare")?
            .args(["--endpoint", &self.endpoint, "--table", &self.table])
            .args(["--connections", &self.connections.to_string()])
            .args(["--seconds", &self.seconds.to_string()])
            .args(["--first", &self.first.to_string()])
            .args(["--end", &self.end.to_string()])
            .args(["--pairs", &self.pairs.to_string()])
            .stderr(std::process::Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "the bare SDK failed");
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// The entry point of that process.
pub fn run(load: &Load) -> Result<()> {
    let outcome = tokio::runtime::Runtime::new()?.block_on(measure(load.clone()))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

async fn measure(load: Load) -> Result<Outcome> {
    let caller = Arc::new(Caller {
        client: client(&load.endpoint).await,
        table: load.table.clone(),
        first: load.first,
        next: AtomicUsize::new(load.first),
        end: load.end,
        pairs: load.pairs,
    });
    if load.pairs > 0 {
        stream::iter(0..load.pairs)
            .map(|pair| {
                let caller = &caller;
                async move {
                    caller
                        .allocate(&retried(load.first, pair), load.first + pair)
                        .await
                }
            })
            .buffer_unordered(PREPARING_CONNECTIONS)
            .try_collect::<()>()
            .await?;
    }
    if load.seconds == 0 {
        one_call_each(&caller, load.connections).await?;
        return one_call_each(&caller, load.connections).await;
    }
    // Opens connections and warms up code before the measurement.
    for_duration(&caller, load.connections, Duration::from_millis(500)).await?;
    for_duration(&caller, load.connections, Duration::from_secs(load.seconds)).await
}

async fn for_duration(caller: &Arc<Caller>, connections: usize, time: Duration) -> Result<Outcome> {
    let cpu = Usage::of(std::process::id()).cpu_seconds;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let caller = Arc::clone(caller);
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while began.elapsed() < time {
                let sent = Instant::now();
                caller.call().await?;
                latencies.push(micros(sent.elapsed()));
            }
            Ok(latencies)
        });
    }
    gather(tasks, began, cpu).await
}

async fn one_call_each(caller: &Arc<Caller>, connections: usize) -> Result<Outcome> {
    let cpu = Usage::of(std::process::id()).cpu_seconds;
    let barrier = Arc::new(Barrier::new(connections));
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for _ in 0..connections {
        let (caller, barrier) = (Arc::clone(caller), Arc::clone(&barrier));
        tasks.spawn(async move {
            barrier.wait().await;
            let sent = Instant::now();
            caller.call().await?;
            Ok(vec![micros(sent.elapsed())])
        });
    }
    gather(tasks, began, cpu).await
}

async fn gather(
    mut tasks: JoinSet<Result<Vec<u64>>>,
    began: Instant,
    cpu_before: f64,
) -> Result<Outcome> {
    let mut all = Vec::new();
    while let Some(latencies) = tasks.join_next().await {
        all.extend(latencies??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let usage = Usage::of(std::process::id());
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 calls")]
    let calls = all.len() as f64;
    Ok(Outcome {
        per_second: calls / seconds,
        cpu_us: (usage.cpu_seconds - cpu_before) * 1e6 / calls,
        resident_mib: usage.resident_mib,
        ..percentiles(&mut all)
    })
}

/// The name of a retrying pair. It differs between measurements, because the table keeps the claims of earlier ones.
fn retried(first: usize, pair: usize) -> String {
    format!("retried-{first}-{pair}")
}

struct Caller {
    client: Client,
    table: String,
    first: usize,
    next: AtomicUsize,
    end: usize,
    pairs: usize,
}

impl Caller {
    async fn call(&self) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if self.pairs > 0 {
            return self.replay(&retried(self.first, number % self.pairs)).await;
        }
        ensure!(number < self.end, "the table has too few sandboxes");
        self.allocate(&format!("bare-{number}"), number).await
    }

    async fn allocate(&self, caller: &str, number: usize) -> Result<()> {
        self.transact(caller, number)?.send().await?;
        Ok(())
    }

    /// A retry: the transaction finds the claim, then the sandbox is read.
    async fn replay(&self, caller: &str) -> Result<()> {
        let Err(error) = self.transact(caller, self.end - 1)?.send().await else {
            bail!("a retry allocated another sandbox");
        };
        let TransactWriteItemsError::TransactionCanceledException(cancelled) =
            error.into_service_error()
        else {
            bail!("the transaction failed for another reason");
        };
        let claim = cancelled
            .cancellation_reasons()
            .get(1)
            .and_then(|reason| reason.item())
            .context("the transaction returned no claim")?;
        let id = claim
            .get("sandbox_id")
            .and_then(|id| id.as_s().ok())
            .context("a claim without a sandbox")?;
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("PK", string(format!("SBX#{id}")))
            .key("SK", string("META"))
            .consistent_read(true)
            .send()
            .await?;
        ensure!(answer.item.is_some(), "the sandbox is gone");
        Ok(())
    }

    /// The transaction of `PoolStore::claim`; the stub checks that both use the same expressions.
    fn transact(
        &self,
        caller: &str,
        sandbox: usize,
    ) -> Result<aws_sdk_dynamodb::operation::transact_write_items::builders::TransactWriteItemsFluentBuilder>
    {
        let at = SystemClock.now();
        let end = at + Duration::from_hours(4);
        let now = number(at.0);
        let update = Update::builder()
            .table_name(&self.table)
            .key("PK", string(format!("SBX#{}", sandbox_id(sandbox))))
            .key("SK", string("META"))
            .update_expression(
                "SET #status = :to, allocated_to_track = :caller, idempotency_key = :key, \
                 allocated_at = :now, expires_at = :end, lab_duration_hours = :hours, updated_at = :now",
            )
            .condition_expression(
                "#status = :from AND #name = :name AND external_id = :external_id \
                 AND NOT attribute_type(sfdc_account_id, :sfdc)",
            )
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#name", "name")
            .expression_attribute_values(":from", string("available"))
            .expression_attribute_values(":to", string("allocated"))
            .expression_attribute_values(":caller", string(caller))
            .expression_attribute_values(":key", string(caller))
            .expression_attribute_values(":now", now.clone())
            .expression_attribute_values(":end", number(end.0))
            .expression_attribute_values(":hours", number(4))
            .expression_attribute_values(":name", string(name(sandbox)))
            .expression_attribute_values(":external_id", string(external_id(sandbox)))
            .expression_attribute_values(":sfdc", string("S"))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()?;
        let put = Put::builder()
            .table_name(format!("{}-companion", self.table))
            .item("PK", string(claim_key(caller)))
            .item("SK", string("CLAIM"))
            .item("caller", string(caller))
            .item("key", string(caller))
            .item("sandbox_id", string(sandbox_id(sandbox)))
            .item("allocated_at", now.clone())
            .item("expires_at", number((end + GRACE).0))
            .item("ttl", number((end + GRACE + CLAIM_KEPT).0))
            .condition_expression("attribute_not_exists(PK)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()?;
        Ok(self
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().update(update).build())
            .transact_items(TransactWriteItem::builder().put(put).build()))
    }
}

fn claim_key(caller: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(caller);
    hash.update([0]);
    hash.update(caller);
    format!("CLAIM#{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
}

fn string(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}
