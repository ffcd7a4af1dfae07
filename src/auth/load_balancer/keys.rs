//! The public keys with which the load balancers of a region sign. They are fetched when a header names one that is not
//! known, and kept.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, RwLock},
    time::Duration,
};

use jsonwebtoken::DecodingKey;
use reqwest::{Response, StatusCode};
use thiserror::Error;
use tokio::{sync::Mutex, time::timeout};
use uuid::Uuid;

use super::SignInError;
use crate::{
    clock::Clock,
    shared::{read, write},
    telemetry::{chain, metrics::Metrics},
    tls::http_client,
};

/// The time-out of a fetch, and the longest wait for the fetches of other requests.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a failed fetch of a key is not repeated.
const FAILURE_KEPT: Duration = Duration::from_secs(10);
/// The largest number of fetches in [`FETCH_WINDOW`]. A region has a few keys, which change rarely; more fetches are
/// for invented key ids.
const MAX_FETCHES: usize = 10;
const FETCH_WINDOW: Duration = Duration::from_mins(1);
/// The largest number of keys that are kept.
const MAX_KEYS: usize = 32;
/// The largest answer that is read, in bytes. A key has 178.
const MAX_ANSWER: usize = 4096;

/// Returns where AWS publishes the keys of the region in the ARN of a load balancer; `None` if that is not known, or if
/// the text is no such ARN.
#[must_use]
pub(crate) fn public_keys_url(load_balancer_arn: &str) -> Option<String> {
    let [partition, region] = load_balancer_in(load_balancer_arn)?;
    match partition {
        "aws" => Some(format!(
            "https://public-keys.auth.elb.{region}.amazonaws.com"
        )),
        "aws-us-gov" => Some(format!(
            "https://s3-{region}.amazonaws.com/aws-elb-public-keys-prod-{region}"
        )),
        _ => None,
    }
}

/// Returns whether a text is the ARN of an Application Load Balancer.
#[must_use]
pub(crate) fn is_load_balancer(arn: &str) -> bool {
    load_balancer_in(arn).is_some()
}

/// Returns the partition and the region in the ARN of an Application Load Balancer.
fn load_balancer_in(arn: &str) -> Option<[&str; 2]> {
    let is_word = |text: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !text.is_empty() && text.bytes().all(is_plain)
    };
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    let [
        "arn",
        partition,
        "elasticloadbalancing",
        region,
        account,
        resource,
    ] = parts[..]
    else {
        return None;
    };
    let (name, id) = resource
        .strip_prefix("loadbalancer/app/")?
        .split_once('/')?;
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let are_words = [partition, region, name, id].into_iter().all(is_word);
    (is_account && are_words).then_some([partition, region])
}

/// The keys that are known, and the fetches of further ones.
#[derive(Debug)]
pub(super) struct Keys {
    url: String,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    known: RwLock<HashMap<Uuid, Arc<DecodingKey>>>,
    /// Locked during a fetch, so that there is one at a time, and requests that name the same key share it.
    fetches: Mutex<Fetches>,
}

#[derive(Debug, Default)]
struct Fetches {
    /// When the fetches of the last [`FETCH_WINDOW`] began.
    began: VecDeque<Duration>,
    /// The keys that could not be fetched, until when each is not tried again, and the reason.
    failed: HashMap<Uuid, (Duration, SignInError)>,
}

#[derive(Debug, Error)]
enum FetchError {
    #[error("there is no such key")]
    NotFound,
    #[error("no answer")]
    NoAnswer(#[from] reqwest::Error),
    #[error("HTTP {0}")]
    Status(u16),
    #[error("the answer is no public key")]
    NoKey,
}

impl Keys {
    /// Creates the keys that are published at `url`.
    ///
    /// # Errors
    /// If TLS cannot be initialized.
    pub(super) fn new(
        url: String,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> reqwest::Result<Self> {
        Ok(Self {
            http: http_client(&url).timeout(FETCH_TIMEOUT).build()?,
            url,
            clock,
            metrics,
            known: RwLock::default(),
            fetches: Mutex::default(),
        })
    }

    /// Returns a key that is known.
    pub(super) fn known(&self, id: Uuid) -> Option<Arc<DecodingKey>> {
        read(&self.known).get(&id).cloned()
    }

    /// Returns a key, which is fetched if it is not known.
    ///
    /// # Errors
    /// [`SignInError::UnknownKey`] and [`SignInError::KeyUnavailable`].
    pub(super) async fn get(&self, id: Uuid) -> Result<Arc<DecodingKey>, SignInError> {
        if let Some(key) = self.known(id) {
            return Ok(key);
        }
        let mut fetches = timeout(FETCH_TIMEOUT, self.fetches.lock())
            .await
            .map_err(|_| SignInError::KeyUnavailable)?;
        // Another request may have fetched it in the meantime.
        if let Some(key) = self.known(id) {
            return Ok(key);
        }
        fetches.begin(id, self.clock.monotonic())?;
        let fault = match self.fetch(id).await {
            Ok(key) => {
                self.count("success");
                tracing::info!(key = %id, "public key of the load balancer fetched");
                return Ok(self.keep(id, key));
            }
            Err(fault) => fault,
        };
        let (outcome, error) = match fault {
            FetchError::NotFound => ("not_found", SignInError::UnknownKey),
            _ => ("error", SignInError::KeyUnavailable),
        };
        self.count(outcome);
        tracing::warn!(
            key = %id,
            url = self.url,
            cause = chain(&fault),
            "public key of the load balancer not fetched"
        );
        fetches.fail(id, self.clock.monotonic(), error);
        Err(error)
    }

    fn count(&self, outcome: &str) {
        let counter = &self.metrics.sign_in_key_fetches;
        counter.with_label_values(&[outcome]).inc();
    }

    /// Keeps a key.
    pub(super) fn keep(&self, id: Uuid, key: DecodingKey) -> Arc<DecodingKey> {
        let key = Arc::new(key);
        let mut known = write(&self.known);
        if known.len() >= MAX_KEYS {
            // Those still in use are fetched again, once.
            known.clear();
        }
        known.insert(id, Arc::clone(&key));
        key
    }

    async fn fetch(&self, id: Uuid) -> Result<DecodingKey, FetchError> {
        let url = format!("{}/{}", self.url, id.hyphenated());
        let answer = self.http.get(url).send().await?;
        match answer.status() {
            StatusCode::OK => {}
            // S3 answers 403 to requests for objects that do not exist.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => return Err(FetchError::NotFound),
            status => return Err(FetchError::Status(status.as_u16())),
        }
        let pem = read_answer(answer).await?;
        DecodingKey::from_ec_pem(&pem).map_err(|_| FetchError::NoKey)
    }
}

impl Fetches {
    /// Notes the begin of a fetch, if it is allowed.
    fn begin(&mut self, id: Uuid, now: Duration) -> Result<(), SignInError> {
        self.failed.retain(|_, (until, _)| now < *until);
        if let Some((_, error)) = self.failed.get(&id) {
            return Err(*error);
        }
        let is_recent = |began: &Duration| now.saturating_sub(*began) < FETCH_WINDOW;
        self.began.retain(is_recent);
        if self.began.len() >= MAX_FETCHES {
            return Err(SignInError::KeyUnavailable);
        }
        self.began.push_back(now);
        Ok(())
    }

    fn fail(&mut self, id: Uuid, now: Duration, error: SignInError) {
        self.failed.insert(id, (now + FAILURE_KEPT, error));
    }
}

async fn read_answer(mut answer: Response) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(FetchError::NoKey);
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_aws_publishes_those_of_the_region() {
        for (arn, url) in [
            (
                "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/broker/0123456789abcdef",
                Some("https://public-keys.auth.elb.eu-west-1.amazonaws.com"),
            ),
            (
                "arn:aws-us-gov:elasticloadbalancing:us-gov-east-1:123456789012:loadbalancer/app/broker/0123",
                Some(
                    "https://s3-us-gov-east-1.amazonaws.com/aws-elb-public-keys-prod-us-gov-east-1",
                ),
            ),
            (
                "arn:aws-cn:elasticloadbalancing:cn-north-1:123456789012:loadbalancer/app/broker/0123",
                None,
            ),
            (
                "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/broker/0123",
                None,
            ),
            (
                "arn:aws:elasticloadbalancing:example.com/:123456789012:loadbalancer/app/broker/0123",
                None,
            ),
            (
                "arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/broker/0123",
                None,
            ),
            ("broker", None),
            ("", None),
        ] {
            assert_eq!(public_keys_url(arn).as_deref(), url, "{arn}");
        }
    }

    #[test]
    fn fetches_are_limited_and_failures_are_kept_for_a_while() {
        let mut fetches = Fetches::default();
        let second = Duration::from_secs;
        let id = |n: u128| Uuid::from_u128(n);
        fetches.begin(id(0), second(0)).unwrap();
        fetches.fail(id(0), second(0), SignInError::UnknownKey);
        assert_eq!(
            fetches.begin(id(0), second(9)),
            Err(SignInError::UnknownKey)
        );
        assert_eq!(fetches.begin(id(0), second(10)), Ok(()));
        for n in 2..MAX_FETCHES {
            assert_eq!(fetches.begin(id(n as u128), second(20)), Ok(()), "{n}");
        }
        for n in 100..1_000 {
            let begun = fetches.begin(id(n), second(59));
            assert_eq!(begun, Err(SignInError::KeyUnavailable));
        }
        assert!(fetches.began.len() == MAX_FETCHES && fetches.failed.is_empty());
        assert_eq!(fetches.begin(id(1_000), second(60)), Ok(()));
        assert_eq!(
            fetches.begin(id(1_001), second(60)),
            Err(SignInError::KeyUnavailable)
        );
    }
}
