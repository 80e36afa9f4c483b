//! What every part of the server shares.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::auth::{Authority, Tokens, User};
use crate::faults::Faults;
use crate::options::Options;
use crate::patch::Owners;
use crate::requests::Requests;
use crate::store::{Snapshot, Store};

/// The server without its sockets.
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) store: Store,
    pub(crate) authority: Authority,
    pub(crate) tokens: Tokens,
    pub(crate) faults: Faults,
    pub(crate) requests: Requests,
    owners: Mutex<BTreeMap<String, Owners>>,
    pub(crate) replicas: Mutex<BTreeMap<(String, String), crate::controllers::ReplicaSet>>,
    /// Counts the orders to send bookmarks to all watches.
    pub(crate) bookmarks_due: tokio::sync::watch::Sender<u64>,
}

impl Core {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            store: Store::new(options.first_resource_version, options.history_max),
            authority: Authority::new().expect("a new certificate authority signs itself"),
            tokens: Tokens::new(&options.issuer),
            faults: Faults::default(),
            requests: Requests::default(),
            owners: Mutex::default(),
            replicas: Mutex::default(),
            bookmarks_due: tokio::sync::watch::Sender::new(0),
            options,
        }
    }

    /// The owners of an object's fields, by its unique id.
    pub(crate) fn owners<T>(&self, uid: &str, look: impl FnOnce(&mut Owners) -> T) -> T {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        look(owners.entry(uid.to_owned()).or_default())
    }

    /// The owners' entry of an object that is gone, or whose change failed.
    pub(crate) fn forget_owners(&self, uid: &str) {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// The user of a token, now.
    pub(crate) fn user_of_token(&self, token: &str) -> Option<User> {
        self.tokens.user(token, &[], (&self.store, Timestamp::now().as_second())).map(|(user, _)| user)
    }

    pub(crate) fn restore(&self, snapshot: &Snapshot) {
        self.store.restore(snapshot);
    }
}

/// Now, as objects say it.
pub(crate) fn now_text() -> String {
    time_text(Timestamp::now())
}

/// RFC 3339 in whole seconds, as `metav1.Time`.
pub(crate) fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
