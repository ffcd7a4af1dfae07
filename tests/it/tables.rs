//! Tables that differ from the schema that the broker requires.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TimeToLiveSpecification,
};
use sandbox_broker::{clock::ManualClock, config::Config};

use crate::support::{Pool, Proxy, START, command, proxy::Fault};

/// A table as another program may have created it.
struct Spec {
    key: (&'static str, ScalarAttributeType),
    /// Name, hash key and projection of each index.
    indexes: Vec<(&'static str, &'static str, ProjectionType)>,
    index_sort: &'static str,
}

impl Spec {
    /// The schema that the broker requires.
    fn required() -> Self {
        let index = |name, hash| (name, hash, ProjectionType::All);
        Self {
            key: ("PK", ScalarAttributeType::S),
            indexes: vec![
                index("StatusIndex", "status"),
                index("TrackIndex", "allocated_to_track"),
                index("IdempotencyIndex", "idempotency_key"),
            ],
            index_sort: "allocated_at",
        }
    }

    async fn create(self, pool: &Pool, name: &str) {
        let key = |name: &str, kind| {
            let key = KeySchemaElement::builder();
            key.attribute_name(name).key_type(kind).build().unwrap()
        };
        let attribute = |name: &str, kind| {
            let attribute = AttributeDefinition::builder();
            let attribute = attribute.attribute_name(name).attribute_type(kind);
            attribute.build().unwrap()
        };
        let mut request = pool
            .client
            .create_table()
            .table_name(name)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(key(self.key.0, KeyType::Hash))
            .key_schema(key("SK", KeyType::Range))
            .attribute_definitions(attribute(self.key.0, self.key.1))
            .attribute_definitions(attribute("SK", ScalarAttributeType::S))
            .attribute_definitions(attribute(self.index_sort, ScalarAttributeType::N));
        for (index, hash, projection) in self.indexes {
            request = request
                .attribute_definitions(attribute(hash, ScalarAttributeType::S))
                .global_secondary_indexes(
                    GlobalSecondaryIndex::builder()
                        .index_name(index)
                        .key_schema(key(hash, KeyType::Hash))
                        .key_schema(key(self.index_sort, KeyType::Range))
                        .projection(Projection::builder().projection_type(projection).build())
                        .build()
                        .unwrap(),
                );
        }
        request.send().await.unwrap();
    }
}

async fn enable_ttl(pool: &Pool, table: &str, attribute: &str) {
    let specification = TimeToLiveSpecification::builder()
        .attribute_name(attribute)
        .enabled(true)
        .build();
    let update = pool.client.update_time_to_live().table_name(table);
    let update = update.time_to_live_specification(specification.unwrap());
    update.send().await.unwrap();
}

/// Runs `table create`. Returns its exit code and both outputs.
async fn create(variables: &BTreeMap<String, String>) -> (i32, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path(), variables);
    command.args(["table", "create"]);
    // The engine answers from this runtime, so its threads must stay free.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

async fn start(variables: BTreeMap<String, String>) -> Result<(), String> {
    let config = Config::from_variables(&variables).unwrap();
    let clock = std::sync::Arc::new(ManualClock::new(START));
    sandbox_broker::app::RunningBroker::start(&config, clock, 1)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn table_with_another_schema_is_refused_with_the_difference() {
    let pool = Pool::new().await;
    let required = Spec::required;
    let without_track = || {
        let mut spec = required();
        spec.indexes.remove(1);
        spec
    };
    let of_keys = || {
        let mut spec = required();
        spec.indexes[0].2 = ProjectionType::KeysOnly;
        spec
    };
    let cases = [
        ("missing", without_track(), "no index TrackIndex"),
        ("projection", of_keys(), "the projection KEYS_ONLY"),
        (
            "sort",
            Spec {
                index_sort: "updated_at",
                ..required()
            },
            "the key status (S), updated_at (N)",
        ),
        (
            "type",
            Spec {
                key: ("PK", ScalarAttributeType::N),
                ..required()
            },
            "the key PK (N), SK (S) instead of PK (S), SK (S)",
        ),
        (
            "key",
            Spec {
                key: ("id", ScalarAttributeType::S),
                ..required()
            },
            "the key id (S), SK (S) instead",
        ),
    ];
    for (name, spec, difference) in cases {
        let table = format!("{}-{name}", pool.table);
        spec.create(&pool, &table).await;
        let variables = pool.variables(&[("DDB_TABLE_NAME", &table)]);
        let (code, stdout, stderr) = create(&variables).await;
        assert_eq!((code, stdout.as_str()), (1, ""), "{name}: {stderr}");
        assert!(stderr.contains(difference), "{name}: {stderr}");
        let error = start(variables).await.unwrap_err();
        assert!(error.contains(difference), "{name}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn start_without_a_table_says_how_to_create_it() {
    let pool = Pool::new().await;
    let remedy = "does not exist: run `sandbox-broker table create`";
    let table = format!("{}-absent", pool.table);
    let variables = pool.variables(&[("DDB_TABLE_NAME", &table)]);
    let error = start(variables.clone()).await.unwrap_err();
    for title in ["the pool's table", "the companion table"] {
        assert!(error.contains(&format!("{title} {remedy}")), "{error}");
    }
    Spec::required().create(&pool, &table).await;
    let error = start(variables).await.unwrap_err();
    assert!(!error.contains("the pool's table"), "{error}");
    assert!(
        error.contains(&format!("the companion table {remedy}")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_on_another_attribute_is_refused_and_a_disabled_one_is_enabled() {
    let pool = Pool::new().await;
    let table = format!("{}-ttl", pool.table);
    Spec::required().create(&pool, &table).await;
    let variables = pool.variables(&[("DDB_TABLE_NAME", &table)]);
    let (code, stdout, stderr) = create(&variables).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("created"), "the companion table: {stdout}");
    let (code, stdout, _) = create(&variables).await;
    assert_eq!(code, 0);
    assert!(stdout.contains("existed"), "{stdout}");
    start(variables).await.unwrap();

    let table = format!("{}-other", pool.table);
    Spec::required().create(&pool, &table).await;
    enable_ttl(&pool, &table, "expires_at").await;
    let variables = pool.variables(&[("DDB_TABLE_NAME", &table)]);
    let difference = "enabled on expires_at instead of ttl";
    let (code, _, stderr) = create(&variables).await;
    assert_eq!(code, 1);
    assert!(stderr.contains(difference), "{stderr}");
    let error = start(variables).await.unwrap_err();
    assert!(error.contains(difference), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_table_is_not_changed() {
    let pool = Pool::new().await;
    let table = format!("{}-foreign", pool.table);
    let spec = Spec {
        key: ("id", ScalarAttributeType::S),
        ..Spec::required()
    };
    spec.create(&pool, &table).await;
    let (code, ..) = create(&pool.variables(&[("DDB_TABLE_NAME", &table)])).await;
    assert_eq!(code, 1);
    let ttl = pool.client.describe_time_to_live().table_name(&table);
    let ttl = ttl.send().await.unwrap().time_to_live_description;
    let attribute = ttl.and_then(|ttl| ttl.attribute_name);
    assert_eq!(attribute, None, "TTL would delete items of its owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_starts_without_an_index_that_it_does_not_read() {
    let pool = Pool::new().await;
    let table = format!("{}-two", pool.table);
    let mut spec = Spec::required();
    spec.indexes.pop();
    spec.create(&pool, &table).await;
    let variables = pool.variables(&[("DDB_TABLE_NAME", &table)]);
    let (code, _, stderr) = create(&variables).await;
    assert_eq!(code, 1, "going back needs it");
    assert!(stderr.contains("no index IdempotencyIndex"), "{stderr}");
    start(variables).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_starts_without_the_permission_to_describe_its_tables() {
    let pool = Pool::of(1).await;
    let proxy = Proxy::to(pool.engine.endpoint()).await;
    // More often than the SDK tries.
    for _ in 0..12 {
        proxy.inject_once("DescribeTable", Fault::ServerError);
    }
    let endpoint = proxy.endpoint();
    let broker = pool.broker_with(&[("DDB_ENDPOINT_URL", &endpoint)]).await;
    assert_eq!(broker.client.allocate("play-1").await.status, 201);
    let ready = broker.client.plain("/readyz").await;
    assert_eq!(ready.status, 200);
    let calls = proxy.take_calls();
    assert!(calls.contains_key("DescribeTable"));
    for _ in 0..5 {
        broker.client.plain("/readyz").await;
    }
    let calls = proxy.take_calls();
    assert!(!calls.contains_key("DescribeTable"), "{calls:?}");
}
