//! Tests of the fault proxy: the SDK sees each fault as documented.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    error::ProvideErrorMetadata,
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue, Put, TransactWriteItem},
};
use tokio::time::Instant;

use crate::support::{
    Pool,
    proxy::{Fault, Proxy, Script},
};

const DELAY: Duration = Duration::from_millis(200);

struct Setting {
    pool: Pool,
    proxy: Proxy,
}

impl Setting {
    async fn new() -> Self {
        let pool = Pool::of(3).await;
        let proxy = Proxy::to(pool.engine.endpoint()).await;
        Self { pool, proxy }
    }

    /// Returns a client that makes up to `attempts` attempts at a call.
    fn client(&self, attempts: u32) -> Client {
        let retries = RetryConfig::standard()
            .with_max_attempts(attempts)
            .with_initial_backoff(Duration::from_millis(10));
        Client::from_conf(
            aws_sdk_dynamodb::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
                .endpoint_url(self.proxy.endpoint())
                .retry_config(retries)
                .build(),
        )
    }

    fn puts(
        &self,
        attempts: u32,
        names: &[&str],
    ) -> aws_sdk_dynamodb::operation::transact_write_items::builders::TransactWriteItemsFluentBuilder
    {
        let put = |name: &&str| {
            let put = Put::builder()
                .table_name(&self.pool.table)
                .item("PK", text(name))
                .item("SK", text("TEST"))
                .condition_expression("attribute_not_exists(PK)")
                .build()
                .unwrap();
            TransactWriteItem::builder().put(put).build()
        };
        self.client(attempts)
            .transact_write_items()
            .set_transact_items(Some(names.iter().map(put).collect()))
    }

    async fn has(&self, name: &str) -> bool {
        self.get(&self.pool.client, name).await.unwrap()
    }

    async fn get(&self, client: &Client, name: &str) -> Result<bool, String> {
        let answer = client
            .get_item()
            .table_name(&self.pool.table)
            .key("PK", text(name))
            .key("SK", text("TEST"))
            .consistent_read(true)
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(answer.item.is_some()),
            Err(error) => Err(error.code().unwrap_or("none").to_owned()),
        }
    }

    fn injected(&self, fault: Fault) -> usize {
        self.proxy.injected().get(&fault).copied().unwrap_or(0)
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn write_with_a_lost_answer_took_effect_and_its_retry_succeeds() {
    let setting = Setting::new().await;
    for (fault, name) in [(Fault::DropAnswer, "dropped"), (Fault::CutAnswer, "cut")] {
        setting.proxy.inject_once("TransactWriteItems", fault);
        let alone = format!("{name}-alone");
        setting.puts(1, &[&alone]).send().await.unwrap_err();
        assert!(setting.has(&alone).await);
        setting.proxy.inject_once("TransactWriteItems", fault);
        // The condition fails the second time, but the client token identifies the retry as the same call.
        setting.puts(2, &[name]).send().await.unwrap();
        assert_eq!(setting.injected(fault), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_write_took_no_effect_and_is_made_by_its_retry() {
    let setting = Setting::new().await;
    setting
        .proxy
        .inject_once("TransactWriteItems", Fault::DropRequest);
    setting.puts(1, &["alone"]).send().await.unwrap_err();
    assert!(!setting.has("alone").await);
    setting
        .proxy
        .inject_once("TransactWriteItems", Fault::DropRequest);
    setting.puts(2, &["twice"]).send().await.unwrap();
    assert!(setting.has("twice").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn injected_errors_have_the_codes_of_dynamodb_and_a_retry_succeeds() {
    let setting = Setting::new().await;
    for (fault, code) in [
        (Fault::Throughput, "ProvisionedThroughputExceededException"),
        (Fault::Throttling, "ThrottlingException"),
        (Fault::ServerError, "InternalServerError"),
    ] {
        setting.proxy.inject_once("GetItem", fault);
        let rejected = setting.get(&setting.client(1), "none").await;
        assert_eq!(rejected, Err(code.to_owned()));
        setting.proxy.inject_once("GetItem", fault);
        assert_eq!(setting.get(&setting.client(2), "none").await, Ok(false));
        assert_eq!(setting.injected(fault), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_transaction_has_a_reason_for_each_action() {
    let setting = Setting::new().await;
    for (fault, codes) in [
        (Fault::Conflict, &["TransactionConflict"][..]),
        (
            Fault::ThrottledItem,
            &["ThrottlingError", "ProvisionedThroughputExceeded"],
        ),
    ] {
        setting.proxy.inject_once("TransactWriteItems", fault);
        let error = setting.puts(1, &["a", "b", "c"]).send().await.unwrap_err();
        let TransactWriteItemsError::TransactionCanceledException(cancelled) =
            error.into_service_error()
        else {
            panic!("not cancelled");
        };
        let reasons = cancelled.cancellation_reasons();
        let of_code = |code: &str| {
            let of = reasons.iter().filter(|reason| reason.code() == Some(code));
            of.count()
        };
        assert_eq!((reasons.len(), of_code("None")), (3, 2));
        assert_eq!(codes.iter().map(|code| of_code(code)).sum::<usize>(), 1);
        assert!(!setting.has("a").await);
    }
    setting.proxy.inject_once("UpdateItem", Fault::Conflict);
    let update = setting.client(1).update_item();
    let update = update.table_name(&setting.pool.table);
    let update = update.key("PK", text("d")).key("SK", text("TEST"));
    let error = update.send().await.unwrap_err();
    assert_eq!(error.code(), Some("TransactionConflictException"));
}

#[tokio::test(flavor = "multi_thread")]
async fn delay_is_before_or_after_the_effect() {
    let setting = Setting::new().await;
    setting.proxy.play(Script {
        longest_delay: DELAY,
        ..Script::default()
    });
    for (fault, is_done_early) in [(Fault::DelayBefore, false), (Fault::DelayAfter, true)] {
        setting.proxy.inject_once("TransactWriteItems", fault);
        let name = format!("{fault:?}");
        let started = Instant::now();
        let call = tokio::spawn(setting.puts(1, &[&name]).send());
        while setting.injected(fault) == 0 {
            tokio::task::yield_now().await;
        }
        while is_done_early && !setting.has(&name).await {}
        assert_eq!(setting.has(&name).await, is_done_early);
        assert!(!call.is_finished());
        call.await.unwrap().unwrap();
        assert!(started.elapsed() >= DELAY / 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn index_answers_with_an_earlier_state_and_in_pages() {
    let setting = Setting::new().await;
    let lag = Duration::from_secs(1);
    setting.proxy.play(Script {
        staleness: lag,
        page_limit: Some(2),
        ..Script::default()
    });
    let client = setting.client(1);
    let page = async |start: Option<_>| {
        let query = client
            .query()
            .table_name(&setting.pool.table)
            .index_name("StatusIndex")
            .key_condition_expression("#status = :available")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":available", text("available"))
            .set_exclusive_start_key(start);
        let answer = query.send().await.unwrap();
        (answer.count, answer.last_evaluated_key)
    };
    let (count, next) = page(None).await;
    assert_eq!(count, 2);
    assert_eq!(page(next.clone()).await.0, 1);
    let read = Instant::now();
    // Enough that some sort after the first page, in any order of the index.
    setting
        .pool
        .add((0..20).map(|number| format!("new-{number}")))
        .await;
    setting.proxy.inject_once("Query", Fault::StaleRead);
    assert_eq!(page(next.clone()).await.0, 1);
    assert_eq!(setting.injected(Fault::StaleRead), 1);
    // The next page shows the current state, although the first one was stale.
    assert_eq!(page(next.clone()).await.0, 2);
    tokio::time::sleep_until(read + lag * 2).await;
    setting.proxy.inject_once("Query", Fault::StaleRead);
    assert_eq!(page(next).await.0, 2, "too old to be served");
    assert_eq!(setting.injected(Fault::StaleRead), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn weakened_condition_admits_a_write_that_the_condition_rejects() {
    let setting = Setting::new().await;
    setting.puts(1, &["taken"]).send().await.unwrap();
    setting.puts(1, &["taken"]).send().await.unwrap_err();
    let [condition] = &setting.proxy.conditions()[..] else {
        panic!("{:?}", setting.proxy.conditions());
    };
    let mutant = condition.mutants().next();
    setting.proxy.weaken(mutant);
    setting.puts(1, &["taken"]).send().await.unwrap();
    setting.proxy.weaken(None);
    setting.puts(1, &["taken"]).send().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn held_call_is_made_after_a_later_call() {
    let setting = Setting::new().await;
    let gate = setting
        .proxy
        .hold(|call| call.operation == "TransactWriteItems");
    let held = tokio::spawn(setting.puts(1, &["held"]).send());
    gate.wait_for_one().await;
    assert!(!setting.has("held").await);
    let passes = setting.get(&setting.client(1), "held").await;
    assert_eq!(passes, Ok(false));
    gate.open();
    held.await.unwrap().unwrap();
    assert!(setting.has("held").await);
}
