//! The recorder of AWS calls: which IAM permissions the brokers in this process need. `scripts/check-permissions` compares
//! them with the role in Terraform.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs::{File, OpenOptions},
    io::Write,
    sync::{Mutex, Once},
};

use sandbox_broker::telemetry::CALLS;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

/// Appends every permission once per process to the file that `RECORD_CALLS_TO` names, if it is set.
pub fn record() {
    static START: Once = Once::new();
    START.call_once(|| {
        let Some(path) = std::env::var_os("RECORD_CALLS_TO") else {
            return;
        };
        let file = OpenOptions::new().create(true).append(true).open(path);
        let recorder = Recorder(Mutex::new((file.unwrap(), BTreeSet::new())));
        let only_calls = Targets::new().with_target(CALLS, Level::TRACE);
        tracing_subscriber::registry()
            .with(recorder.with_filter(only_calls))
            .init();
    });
}

struct Recorder(Mutex<(File, BTreeSet<String>)>);

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut recorded = self.0.lock().unwrap();
        for permission in fields.permissions() {
            if recorded.1.insert(permission.clone()) {
                writeln!(recorded.0, "{permission}").unwrap();
            }
        }
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A transaction needs the permission of every action in it; `TransactWriteItems` itself needs none.
    fn permissions(&self) -> Vec<String> {
        let (service, operation) = (self.get("service"), self.get("operation"));
        match (service, operation) {
            ("DynamoDB", "TransactWriteItems") => self
                .get("actions")
                .split(' ')
                .map(|action| match action {
                    "ConditionCheck" => "dynamodb:ConditionCheckItem on table".to_owned(),
                    action => format!("dynamodb:{action}Item on table"),
                })
                .collect(),
            ("DynamoDB", _) if self.0.contains_key("index") => {
                vec![format!("dynamodb:{operation} on index")]
            }
            ("DynamoDB", _) => vec![format!("dynamodb:{operation} on table")],
            ("Secrets Manager", _) => vec![format!("secretsmanager:{operation}")],
            _ => vec![format!("{service}: {operation}")],
        }
    }
}
