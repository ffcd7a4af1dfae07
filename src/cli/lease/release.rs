//! The release of a sandbox and of those that replaced it.

use super::calls::{LeaseCalls, Released};
use crate::client::{Answer, Call, ClientError};

/// The most replacements of a sandbox that are followed. A lab permits a few; the bound ends a chain in wrong answers.
pub(super) const MAX_REPLACEMENTS: usize = 100;

/// The releases of a sandbox, of the one that replaced it, and so on.
#[derive(Debug, Default)]
pub(super) struct ReleaseChain {
    /// The answers, in order.
    pub(super) answers: Vec<(Answer, Released)>,
    /// The sandbox whose release failed, and the error.
    pub(super) failure: Option<(String, ClientError)>,
}

impl ReleaseChain {
    /// Releases a sandbox and, if it was replaced, the one that its caller holds instead. Ends at the first failure.
    pub(super) async fn run(
        calls: &LeaseCalls,
        first: &str,
        send: impl AsyncFn(&Call) -> Result<Answer, ClientError>,
    ) -> Self {
        let mut chain = Self::default();
        let mut next = Some(first.to_owned());
        while let Some(id) = next {
            let released = async {
                let answer = send(&calls.release(&id)?).await?;
                let released = answer.json::<Released>()?;
                Ok((answer, released))
            };
            match released.await {
                Ok(answer) => chain.answers.push(answer),
                Err(error) => {
                    chain.failure = Some((id, error));
                    return chain;
                }
            }
            next = chain.successor();
        }
        chain
    }

    /// Returns the sandbox that replaced the last one, unless it has been released already.
    fn successor(&self) -> Option<String> {
        let (_, last) = self.answers.last()?;
        let next = last.replaced_by.as_ref()?;
        let mut released = self
            .answers
            .iter()
            .map(|(_, released)| &released.sandbox_id);
        let is_new = self.answers.len() < MAX_REPLACEMENTS && released.all(|id| id != next);
        is_new.then(|| next.clone())
    }
}

/// Returns whether an error says that the caller does not hold the sandbox.
pub(super) fn is_not_held(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some("ALLOCATION_EXPIRED" | "NOT_SANDBOX_OWNER" | "SANDBOX_NOT_FOUND")
    )
}
