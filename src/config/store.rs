//! The settings of the database and its table.

use super::{URL, parse_url, reader::Reader};
use crate::{
    domain::LeaseTerms,
    store::{Engine, StoreConfig, TableNames},
};

pub(super) fn read_store(reader: &mut Reader<'_>, terms: LeaseTerms) -> StoreConfig {
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
        data_dir: reader.text("DATA_DIR", "./data", "any path").into(),
        table: read_names(reader),
        endpoint: reader.optional("DDB_ENDPOINT_URL", URL, parse_url),
        region: reader.string(
            // As the SDKs of AWS do.
            if reader.raw("AWS_REGION").is_none() && reader.raw("AWS_DEFAULT_REGION").is_some() {
                "AWS_DEFAULT_REGION"
            } else {
                "AWS_REGION"
            },
            "us-east-1",
            "the name of an AWS region, such as eu-west-1",
            parse_region,
        ),
        inherited_hours: terms.inherited_hours,
    }
}

fn read_names(reader: &mut Reader<'_>) -> TableNames {
    let mut name = |variable, default: &str| {
        let takes = "3 to 255 letters, digits, '-', '_' and '.'";
        reader.string(variable, default, takes, parse_table_name)
    };
    let pool = name("DDB_TABLE_NAME", "SandboxPool");
    let companion = name("DDB_COMPANION_TABLE_NAME", &format!("{pool}-companion"));
    TableNames {
        name: pool,
        companion,
        status_index: name("DDB_GSI1_NAME", "StatusIndex"),
        track_index: name("DDB_GSI2_NAME", "TrackIndex"),
        idempotency_index: name("DDB_GSI3_NAME", "IdempotencyIndex"),
    }
}

fn parse_region(text: &str) -> Option<String> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    plain.then(|| text.to_owned())
}

/// Accepts names by the rule of DynamoDB for tables and indexes.
fn parse_table_name(text: &str) -> Option<String> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    ((3..=255).contains(&text.len()) && plain).then(|| text.to_owned())
}
