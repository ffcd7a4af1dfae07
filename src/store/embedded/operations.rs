//! The operations of the DynamoDB API, from JSON to JSON.

use dynoxide::{Database, DynoxideError};
use serde::{Serialize, de::DeserializeOwned};

use super::EngineAnswer;

/// Executes an operation. The thread blocks meanwhile.
pub(super) fn execute(database: &Database, operation: &str, body: &[u8]) -> EngineAnswer {
    let result = match operation {
        "BatchGetItem" => run(body, |request| database.batch_get_item(request)),
        "BatchWriteItem" => run(body, |request| database.batch_write_item(request)),
        "CreateTable" => run(body, |request| database.create_table(request)),
        "DeleteItem" => run(body, |request| database.delete_item(request)),
        "DeleteTable" => run(body, |request| database.delete_table(request)),
        "DescribeTable" => run(body, |request| database.describe_table(request)),
        "DescribeTimeToLive" => run(body, |request| database.describe_time_to_live(request)),
        "GetItem" => run(body, |request| database.get_item(request)),
        "ListTables" => run(body, |request| database.list_tables(request)),
        "PutItem" => run(body, |request| database.put_item(request)),
        "Query" => run(body, |request| database.query(request)),
        "Scan" => run(body, |request| database.scan(request)),
        "TransactGetItems" => run(body, |request| database.transact_get_items(request)),
        "TransactWriteItems" => run(body, |request| database.transact_write_items(request)),
        "UpdateItem" => run(body, |request| database.update_item(request)),
        "UpdateTable" => run(body, |request| database.update_table(request)),
        "UpdateTimeToLive" => run(body, |request| database.update_time_to_live(request)),
        _ => Err(DynoxideError::ValidationException(format!(
            "the embedded engine has no operation {operation}"
        ))),
    };
    result.map_or_else(
        |fault| EngineAnswer {
            status: fault.status_code(),
            body: fault.to_json().into_bytes(),
        },
        |body| EngineAnswer { status: 200, body },
    )
}

fn run<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    operation: impl FnOnce(Q) -> dynoxide::Result<A>,
) -> dynoxide::Result<Vec<u8>> {
    let request = serde_json::from_slice(body)
        .map_err(|fault| DynoxideError::ValidationException(fault.to_string()))?;
    serde_json::to_vec(&operation(request)?)
        .map_err(|fault| DynoxideError::InternalServerError(fault.to_string()))
}
