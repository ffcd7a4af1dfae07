//! The summary of a new version of the policy in its audit record.

use serde_json::{Value, json};

use crate::domain::PolicyChange;

/// The changes that the audit record of a new version has; the rest are counted.
const AUDITED_CHANGES: usize = 20;
/// The longest value, as JSON, that an audited change has.
const AUDITED_VALUE: usize = 200;

/// Returns a new version as its audit record shows it. The whole documents are in the history.
pub(super) fn summary(number: u32, changes: Option<&[PolicyChange]>) -> Value {
    let Some(changes) = changes else {
        return json!({ "version": number });
    };
    let shown = changes.iter().take(AUDITED_CHANGES).map(|change| {
        json!({
            "path": change.path, "before": shortened(change.before.as_ref()), "after": shortened(change.after.as_ref()),
        })
    });
    json!({ "version": number, "changed": changes.len(), "changes": shown.collect::<Vec<_>>() })
}

/// Returns a value, or the beginning of its text if that is long.
fn shortened(value: Option<&Value>) -> Value {
    let Some(value) = value else {
        return Value::Null;
    };
    let text = value.to_string();
    match text.char_indices().nth(AUDITED_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_has_the_first_changes_with_short_values_and_their_number() {
        let change = |number: usize| PolicyChange {
            path: format!("lab[{number}]"),
            before: (number > 0).then(|| json!({ "max_held": number })),
            after: Some(json!({ "name_prefix": "ä".repeat(256) })),
        };
        let changes: Vec<_> = (0..10_000).map(change).collect();
        let summary = summary(3, Some(&changes));
        assert_eq!(
            (&summary["version"], &summary["changed"]),
            (&3.into(), &10_000.into())
        );
        let shown = summary["changes"].as_array().unwrap();
        assert_eq!(shown.len(), AUDITED_CHANGES);
        assert_eq!(shown[0]["before"], Value::Null);
        assert_eq!(shown[1]["before"], json!({ "max_held": 1 }));
        let long = shown[1]["after"].as_str().unwrap();
        assert_eq!(long.chars().count(), AUDITED_VALUE + 1);
        assert!(summary.to_string().len() < 16 * 1024);
    }
}
