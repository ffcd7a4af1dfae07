//! The labs of callers, and the policies that operators set for them.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    event::{EventKind, LabQuota},
    filled_pool,
    world::World,
};
use crate::support::ADMIN;

const LABS: usize = 3;
/// The lab of the callers of the calm phase.
const CALM: &str = "lab-calm";
pub(super) const QUOTA_OF_CALM: usize = 2;
/// How long a call for the policy may take.
const POLICY_TIMEOUT: Duration = Duration::from_secs(20);
/// Longer than any broker takes to obey a new policy.
const OBEYED_WITHIN: Duration = Duration::from_secs(30);

/// Returns the lab of a caller, which is always the same.
pub(super) fn lab_of(caller: &str) -> Option<String> {
    let (kind, number) = caller.split_once('-')?;
    match kind {
        "play" => Some(format!("lab-{}", number.parse::<usize>().ok()? % LABS)),
        "calm" => Some(CALM.to_owned()),
        _ => None,
    }
}

/// A policy: one lab without a quota, one with a quota that comes and goes, and one with a quota all the time.
fn some_policy(rng: &mut SmallRng) -> Vec<LabQuota> {
    let mut some = |quotas: &[Option<usize>]| *quotas.choose(rng).unwrap();
    let quotas = [
        None,
        some(&[None, Some(0), Some(4), Some(8)]),
        some(&[Some(5), Some(9)]),
    ];
    let lab = |(number, max_held)| LabQuota {
        lab: format!("lab-{number}"),
        max_held,
        max_replacements: 1 + number,
    };
    let calm = LabQuota {
        lab: CALM.to_owned(),
        max_held: Some(QUOTA_OF_CALM),
        max_replacements: 1,
    };
    quotas
        .into_iter()
        .enumerate()
        .map(lab)
        .chain([calm])
        .collect()
}

/// Returns the document of a policy. The labs of the epoch have the maximum `minutes`.
fn document(labs: &[LabQuota], minutes: u32, pool: &Value) -> Value {
    let lab = |(number, lab): (usize, &LabQuota)| {
        let mut entry = json!({
            "id": lab.lab,
            "duration_minutes": 60,
            "max_duration_minutes": if lab.lab == CALM { 180 } else { minutes },
            "max_replacements": lab.max_replacements,
            "replaced": if number == 0 { "quarantine" } else { "delete" },
        });
        if let Some(max_held) = lab.max_held {
            entry["max_held"] = json!(max_held);
        }
        entry
    };
    let labs: Vec<_> = labs.iter().enumerate().map(lab).collect();
    json!({ "lab": labs, "pool": [pool] })
}

impl World {
    /// Sets a policy, and returns its version if that succeeded.
    pub(super) async fn set_policy(&self, broker: usize, rng: &mut SmallRng) -> Option<u64> {
        const MINUTES: [u32; 3] = [60, 120, 300];
        let labs = some_policy(rng);
        let (target, pool) = filled_pool::some_pool(rng);
        let document = document(&labs, *MINUTES.choose(rng).unwrap(), &pool);
        let expected = self.policy(broker, "policy").await.ok()?["version"].as_u64()?;
        let began = self.recorder.now();
        let prefix = filled_pool::POOL.to_owned();
        self.recorder
            .record(began, EventKind::PoolSet { prefix, target });
        let url = format!("{}/v1/admin/policy", self.brokers[broker].base());
        let request = self.http.request(Method::PUT, url).bearer_auth(ADMIN);
        let request = request
            .header("If-Match", format!("\"{expected}\""))
            .json(&document)
            .timeout(POLICY_TIMEOUT);
        let version = async {
            let answer = request.send().await.ok()?;
            assert_ne!(answer.status(), 400, "{:?}", answer.text().await);
            let answer = answer.error_for_status().ok()?;
            answer.json::<Value>().await.ok()?["version"].as_u64()
        };
        let version = version.await;
        let is_done = version.is_some();
        self.recorder
            .record(began, EventKind::PolicySet { labs, is_done });
        version
    }

    pub(super) async fn policy(&self, broker: usize, path: &str) -> Result<Value, reqwest::Error> {
        let url = format!("{}/v1/admin/{path}", self.brokers[broker].base());
        let request = self.http.get(url).bearer_auth(ADMIN);
        let answer = request.timeout(POLICY_TIMEOUT).send().await?;
        answer.error_for_status()?.json().await
    }

    /// Waits until both brokers obey a version of the policy. No allocation may be under way.
    pub(super) async fn until_obeyed(&self, version: u64) {
        let began = self.recorder.now();
        for broker in 0..2 {
            loop {
                let overview = self.policy(broker, "overview").await;
                if overview.is_ok_and(|overview| overview["policy"]["version"] == version) {
                    break;
                }
                let waited = self.recorder.now().saturating_sub(began);
                assert!(
                    waited < OBEYED_WITHIN,
                    "broker {broker} does not obey the policy"
                );
                sleep(Duration::from_millis(50)).await;
            }
        }
        let now = self.recorder.now();
        self.recorder.record(now, EventKind::PolicyObeyed);
    }
}

/// Sets the policy again and again.
pub(super) async fn policies(world: Arc<World>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !world.is_over() {
        sleep(Duration::from_millis(rng.random_range(500..4000))).await;
        let broker = rng.random_range(0..2);
        world.set_policy(broker, &mut rng).await;
    }
}
