//! Tokens of service accounts, bound to their pods, renewed in time.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use orlop_apiclient::{ApiError, Client};
use orlop_model::{PodDesired, PodUid, TokenAsk};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// A token is renewed when this much of its life has passed (the kubelet's token manager).
const RENEW_AT: f64 = 0.8;
/// And at the latest after this (`maxTTL`).
const RENEW_WITHIN: SignedDuration = SignedDuration::from_hours(24);
/// After a renewal that failed.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// Waits, in milliseconds, while the API server does not know yet that a pod is this
/// node's. Seen: a tenth of 30 pods bound at once, and a few milliseconds.
const BINDING_LAGS_MS: [u64; 5] = [20, 50, 100, 200, 400];

struct Held {
    token: String,
    expires: Timestamp,
    due: Timestamp,
}

type Key = (PodUid, TokenAsk);

/// See the module's text.
pub(crate) struct Tokens {
    client: Client,
    held: Mutex<BTreeMap<Key, Held>>,
    /// Who asks for a token; a second one for the same waits for the answer.
    asking: Mutex<BTreeMap<Key, Arc<tokio::sync::Mutex<()>>>>,
    earlier: Notify,
    /// Hears of pods that should ask again.
    changed: mpsc::UnboundedSender<PodUid>,
}

impl Tokens {
    /// No token is held yet.
    pub fn new(client: Client, changed: mpsc::UnboundedSender<PodUid>) -> Self {
        Self { client, held: Mutex::default(), asking: Mutex::default(), earlier: Notify::new(), changed }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Held>> {
        self.held.lock().expect("no panic while tokens are held")
    }

    /// A token that is good for a while still.
    ///
    /// # Errors
    /// What the API server said, when there is no token that is good at all.
    pub async fn get(&self, pod: &PodDesired, ask: &TokenAsk, now: Timestamp) -> Result<String, String> {
        let key = (pod.uid.clone(), ask.clone());
        let turn = Arc::clone(self.asking().entry(key.clone()).or_default());
        let _turn = turn.lock().await;
        if let Some(held) = self.lock().get(&key).filter(|held| now < held.due) {
            return Ok(held.token.clone());
        }
        match self.request(pod, ask, now).await {
            Ok(fresh) => {
                let token = fresh.token.clone();
                self.lock().insert(key, fresh);
                self.earlier.notify_one();
                Ok(token)
            }
            Err(error) => {
                let message = crate::pod::chain(&error);
                let mut held = self.lock();
                let Some(old) = held.get_mut(&key).filter(|held| now < held.expires) else { return Err(message) };
                old.due = now.saturating_add(RETRY).unwrap_or(old.expires);
                tracing::warn!(pod = %pod.key, service_account = %pod.service_account, err = message, "token not renewed, the old one is good still");
                Ok(old.token.clone())
            }
        }
    }

    /// The pod is gone.
    pub fn release(&self, pod: &PodUid) {
        self.lock().retain(|(uid, _), _| uid != pod);
        self.asking().retain(|(uid, _), _| uid != pod);
    }

    fn asking(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<tokio::sync::Mutex<()>>>> {
        self.asking.lock().expect("no panic while it is held")
    }

    async fn request(&self, pod: &PodDesired, ask: &TokenAsk, now: Timestamp) -> Result<Held, ApiError> {
        let spec = TokenRequestSpec {
            audiences: ask.audience.clone().map(|audience| vec![audience]),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.key.name().to_owned()),
                uid: Some(pod.uid.to_string()),
            }),
            expiration_seconds: i64::try_from(ask.expiration_secs).ok(),
        };
        let answer = self.ask(pod, &spec).await?;
        let status = answer.status.unwrap_or_default();
        let expires = status.expiration_timestamp.map_or(now, |time| time.0);
        Ok(Held { token: status.token.unwrap_or_default(), expires, due: due(now, expires) })
    }

    /// The API server judges by a cache of its own, which may hear of a pod's binding a
    /// moment after this node: until then the pod is not this node's.
    async fn ask(&self, pod: &PodDesired, spec: &TokenRequestSpec) -> Result<TokenRequest, ApiError> {
        let ask = || self.client.request_token(pod.key.namespace(), &pod.service_account, spec.clone());
        for wait in BINDING_LAGS_MS {
            match ask().await {
                Err(error) if error.is_forbidden() || error.is_not_found() => {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                answer => return answer,
            }
        }
        ask().await
    }

    /// Tells pods whose tokens are due, for ever.
    pub async fn renew(&self) {
        loop {
            let next = self.lock().values().map(|held| held.due).min();
            let now = Timestamp::now();
            let wait = next.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            tokio::select! {
                () = self.earlier.notified() => continue,
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
            let now = Timestamp::now();
            for ((uid, _), _) in self.lock().iter().filter(|(_, held)| held.due <= now) {
                let _ = self.changed.send(uid.clone());
            }
            // The pods ask now; one that cannot is told again.
            tokio::time::sleep(RETRY.unsigned_abs()).await;
        }
    }
}

/// When a token is renewed.
fn due(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(now);
    let after = life.mul_f64(RENEW_AT).min(RENEW_WITHIN);
    now.saturating_add(after).unwrap_or(expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_at_four_fifths_or_after_a_day() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let after = |secs: i64| due(now, now + SignedDuration::from_secs(secs)).as_second() - 1_000_000;
        assert_eq!([after(600), after(3607), after(86_400 * 365)], [480, 2885, 86_400]);
    }
}
