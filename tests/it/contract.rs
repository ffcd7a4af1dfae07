//! The OpenAPI document: clients are built against it, so every change has to be intended.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::Pool;

#[tokio::test(flavor = "multi_thread")]
async fn openapi_document_equals_the_one_in_the_repository() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let document = broker.client.plain("/v1/openapi.json").await.json();
    let served = serde_json::to_string_pretty(&document).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, &served).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        served == stored,
        "docs/openapi.json differs; run the tests with UPDATE_SNAPSHOTS=1 and review the difference"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reference_of_the_document_has_a_target() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let document = broker.client.plain("/v1/openapi.json").await.json();
    let text = document.to_string();
    let references: Vec<_> = text
        .split("\"$ref\":\"#")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_and_answer_has_a_description_and_an_example() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let document = broker.client.plain("/v1/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let place = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{place}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{place}: {parameter}");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(
                    response["headers"]["X-Request-ID"].is_object(),
                    "{place} {status}"
                );
                if path == "/metrics" {
                    assert!(response["content"]["text/plain"]["example"].is_string());
                    continue;
                }
                if status == "204" {
                    assert!(response.get("content").is_none(), "{place}: no content");
                    continue;
                }
                let content = &response["content"]["application/json"];
                let schema = content["schema"]["$ref"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{place} {status}"));
                let name = schema.rsplit('/').next().unwrap();
                let of_schema = &document["components"]["schemas"][name];
                assert!(
                    of_schema.is_object(),
                    "{place} {status}: {name} is not defined"
                );
                let has_example = content["example"].is_object()
                    || content["examples"].is_object()
                    || of_schema["example"].is_object();
                assert!(has_example, "{place} {status} has no example");
                let is_limited = operation["security"].is_array();
                assert_eq!(
                    response["headers"]["X-RateLimit-Remaining"].is_object(),
                    is_limited,
                    "{place} {status}"
                );
                if ["409", "429", "503"].contains(&status.as_str()) && path != "/readyz" {
                    // A retry overcomes some conflicts, and any other of these.
                    let examples = content["examples"].as_object().into_iter().flatten();
                    let is_temporary = examples
                        .map(|(_, example)| &example["value"]["error"]["retry_after"])
                        .any(Value::is_number);
                    assert!(is_temporary || status == "409", "{place} {status}");
                    assert_eq!(
                        response["headers"]["Retry-After"].is_object(),
                        is_temporary,
                        "{place} {status}"
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swagger_page_uses_no_other_host() {
    let pool = Pool::new().await;
    let broker = pool.broker().await;
    let page = broker.client.plain("/v1/docs/").await.text;
    let sources: Vec<_> = page
        .split(['"', '\''])
        .filter(|text| text.starts_with("http") || text.starts_with("//"))
        .collect();
    assert!(sources.is_empty(), "{sources:?}");
    for file in [
        "swagger-ui-bundle.js",
        "swagger-ui.css",
        "swagger-initializer.js",
    ] {
        assert!(page.contains(file), "{file}");
        assert_eq!(
            broker
                .client
                .plain(&format!("/v1/docs/{file}"))
                .await
                .status,
            200,
            "{file}"
        );
    }
}
