//! Bearer tokens: given ones from a table, and service accounts' as signed JWTs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use super::User;
use crate::resource;
use crate::store::Store;

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// A random identifier in the form of a UUID, version 4.
pub(crate) fn uuid() -> String {
    let mut bytes: [u8; 16] = random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The ending of a generated name: the alphabet of `k8s.io/apimachinery/pkg/util/rand`.
pub(crate) fn suffix(length: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    random::<16>().iter().take(length).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// What a service account's token is for.
pub(crate) struct Bound<'a> {
    pub(crate) namespace: &'a str,
    /// (name, uid)
    pub(crate) account: (&'a str, &'a str),
    /// (kind, name, uid) of the object with which the token dies.
    pub(crate) object: Option<(&'a str, &'a str, &'a str)>,
    /// (name, uid) of the pod's node.
    pub(crate) node: Option<(&'a str, &'a str)>,
    pub(crate) audiences: Vec<String>,
    pub(crate) seconds: i64,
}

/// The tokens of a cluster.
pub(crate) struct Tokens {
    key: EcdsaKeyPair,
    issuer: String,
    table: Mutex<BTreeMap<String, User>>,
    refused: Mutex<BTreeSet<String>>,
}

impl Tokens {
    pub(crate) fn new(issuer: &str) -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .and_then(|document| {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
                    .map_err(|_| ring::error::Unspecified)
            })
            .expect("a new P-256 key is a key");
        Self { key, issuer: issuer.into(), table: Mutex::default(), refused: Mutex::default() }
    }

    /// Lets a token stand for a user.
    pub(crate) fn add(&self, token: &str, user: User) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).insert(token.into(), user);
    }

    /// Refuses a token from now on, or accepts it again.
    pub(crate) fn refuse(&self, token: &str, refuse: bool) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refuse {
            refused.insert(token.into());
        } else {
            refused.remove(token);
        }
    }

    /// A signed token and when it ends, in seconds since 1970.
    pub(crate) fn issue(&self, bound: &Bound<'_>, now: i64) -> (String, i64) {
        let end = now + bound.seconds;
        let mut kubernetes = json!({
            "namespace": bound.namespace,
            "serviceaccount": {"name": bound.account.0, "uid": bound.account.1},
        });
        if let Some((kind, name, uid)) = bound.object {
            kubernetes[kind.to_lowercase()] = json!({"name": name, "uid": uid});
        }
        if let Some((name, uid)) = bound.node {
            kubernetes["node"] = json!({"name": name, "uid": uid});
        }
        let claims = json!({
            "aud": if bound.audiences.is_empty() { vec![self.issuer.clone()] } else { bound.audiences.clone() },
            "exp": end, "iat": now, "nbf": now, "iss": self.issuer, "jti": uuid(),
            "kubernetes.io": kubernetes,
            "sub": format!("system:serviceaccount:{}:{}", bound.namespace, bound.account.0),
        });
        let header = json!({"alg": "ES256", "kid": "orlop-apiserver"});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a P-256 key signs");
        (format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)), end)
    }

    /// The user and the audiences of a token that is good now; `audiences` are those one
    /// of which it must be for (none: the API server).
    pub(crate) fn user(
        &self,
        token: &str,
        audiences: &[String],
        (store, now): (&Store, i64),
    ) -> Option<(User, Vec<String>)> {
        if self.refused.lock().unwrap_or_else(PoisonError::into_inner).contains(token) {
            return None;
        }
        let server = vec![self.issuer.clone()];
        let wanted = if audiences.is_empty() { &server } else { audiences };
        if let Some(user) = self.table.lock().unwrap_or_else(PoisonError::into_inner).get(token) {
            return Some((user.clone(), wanted.to_vec()));
        }
        let claims = self.verified(token)?;
        if claims["exp"].as_i64()? <= now {
            return None;
        }
        let meant: Vec<String> = serde_json::from_value(claims["aud"].clone()).ok()?;
        let both: Vec<String> = meant.into_iter().filter(|one| wanted.contains(one)).collect();
        if both.is_empty() {
            return None;
        }
        let kubernetes = &claims["kubernetes.io"];
        let namespace = kubernetes["namespace"].as_str()?;
        let lives = |plural: &str, claim: &Value| {
            claim.is_null()
                || store.read(|state| {
                    state
                        .get(resource::named(plural), namespace, claim["name"].as_str().unwrap_or_default())
                        .is_some_and(|object| object["metadata"]["uid"] == claim["uid"])
                })
        };
        let account = &kubernetes["serviceaccount"];
        if !lives("serviceaccounts", account)
            || !lives("pods", &kubernetes["pod"])
            || !lives("secrets", &kubernetes["secret"])
        {
            return None;
        }
        let user = User {
            name: claims["sub"].as_str()?.into(),
            groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")],
            uid: account["uid"].as_str()?.into(),
        };
        Some((user, both))
    }

    fn verified(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        ring::signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key())
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        let (_, claims) = signed.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }
}
