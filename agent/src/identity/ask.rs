//! One certificate by request, and the waiting around it.

use anyhow::Result;
use jiff::Timestamp;
use orlop_apiclient::{ApiError, Client};
use orlop_pki::{CertificateRequest, CertificateStore, Identity};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// First pause after a failure; it doubles (client-go's certificate manager: 2 s, five steps).
const PAUSE_MIN: Duration = Duration::from_secs(2);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(64);
/// A machine that slept or whose clock was set is noticed within this.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// Asks for a certificate with the store's pending key, waits for it, and makes it the current one.
pub(super) async fn ask(
    client: &Client,
    store: &CertificateStore,
    want: &CertificateRequest,
    patience: Duration,
) -> Result<Identity> {
    let key = store.pending_key()?;
    let request = orlop_apiclient::CertificateRequest {
        name: want.name(&key),
        signer_name: want.signer_name().to_owned(),
        usages: want.usages(&key).into_iter().map(str::to_owned).collect(),
        pem: want.to_pem(&key)?,
        lifetime: None,
    };
    let is_ours = |pem: &str, signer: &str| want.is_same(pem, signer, &key).is_ok();
    match client.request_certificate(&request, patience, is_ours).await {
        Ok(pem) => Ok(store.update(pem, &key, Timestamp::now())?),
        Err(error) => {
            if matches!(error, ApiError::CertificateRefused { .. }) || error.is_already_exists() {
                // The same key would find the same answer.
                store.drop_pending_key()?;
            }
            Err(error.into())
        }
    }
}

/// Pauses that grow, by chance a little longer: not all nodes come back at once.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
}

impl Patience {
    /// After a failure.
    pub async fn pause(&mut self) {
        let base = PAUSE_MIN.saturating_mul(1 << self.failures.min(8)).min(PAUSE_MAX);
        self.failures += 1;
        tokio::time::sleep(base.mul_f64(1.0 + random() / 2.0)).await;
    }
}

/// Sleeps until then, but not for long: who calls looks at the clock again.
pub(super) async fn clock_checked(until: Timestamp) {
    let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(left.clamp(Duration::from_secs(1), CLOCK_CHECK)).await;
}

/// From 0 to 1. Keys of a new `RandomState` are random: enough for spreading.
pub(super) fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
