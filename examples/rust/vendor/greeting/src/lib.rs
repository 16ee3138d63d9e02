//! What the app depends on.

/// Returns a greeting from `who`.
pub fn greeting(who: &str) -> String {
    format!("Hello from {who}.")
}
