//! Texts that name paths of the API: a placeholder stands for `API_BASE_PATH` until the path in force is known.

/// The placeholder.
const PLACEHOLDER: &str = "{base_path}";

/// Replaces the placeholder in `text` by `base_path`.
#[must_use]
pub(super) fn fill(text: &str, base_path: &str) -> String {
    text.replace(PLACEHOLDER, base_path)
}
