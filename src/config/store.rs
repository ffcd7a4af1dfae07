//! Where the table is.

use super::{parse_url, reader::Reader};
use crate::store::{Engine, StoreConfig, TableNames};

pub(super) fn read_store(reader: &mut Reader<'_>) -> StoreConfig {
    StoreConfig {
        engine: reader.choice(
            "STORE",
            if cfg!(feature = "embedded") {
                Engine::Embedded
            } else {
                Engine::DynamoDb
            },
            if cfg!(feature = "embedded") {
                &[
                    ("embedded", Engine::Embedded),
                    ("dynamodb", Engine::DynamoDb),
                ]
            } else {
                &[("dynamodb", Engine::DynamoDb)]
            },
        ),
        data_dir: reader.text("DATA_DIR", "./data").into(),
        table: TableNames {
            name: reader.parsed(
                "DDB_TABLE_NAME",
                "SandboxPool".to_owned(),
                Clone::clone,
                parse_table_name,
            ),
            status_index: reader.parsed(
                "DDB_GSI1_NAME",
                "StatusIndex".to_owned(),
                Clone::clone,
                parse_table_name,
            ),
            track_index: reader.parsed(
                "DDB_GSI2_NAME",
                "TrackIndex".to_owned(),
                Clone::clone,
                parse_table_name,
            ),
            idempotency_index: reader.parsed(
                "DDB_GSI3_NAME",
                "IdempotencyIndex".to_owned(),
                Clone::clone,
                parse_table_name,
            ),
        },
        endpoint: reader.optional("DDB_ENDPOINT_URL", parse_url),
        region: reader.parsed(
            "AWS_REGION",
            "us-east-1".to_owned(),
            Clone::clone,
            parse_region,
        ),
    }
}

fn parse_region(text: &str) -> Result<String, String> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    plain
        .then(|| text.to_owned())
        .ok_or_else(|| "the name of an AWS region, such as eu-west-1".to_owned())
}

/// DynamoDB's own rule for the names of tables and indexes.
fn parse_table_name(text: &str) -> Result<String, String> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    ((3..=255).contains(&text.len()) && plain)
        .then(|| text.to_owned())
        .ok_or_else(|| "3 to 255 letters, digits, '-', '_' and '.'".to_owned())
}
