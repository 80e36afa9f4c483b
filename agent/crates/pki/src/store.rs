//! Certificates on disk, as the kubelet keeps them: it could take over, and so could we.

use crate::{Identity, PkiError, PrivateKey, Purpose, file};
use jiff::Timestamp;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The kubelet's store of one certificate in one folder:
///
/// ```text
/// pki/kubelet-client-current.pem → kubelet-client-2026-11-21-05-40-00.pem   certificate, then key; 0600
/// pki/kubelet-client.key.tmp                                                a key whose request waits; 0600
/// ```
///
/// Only one agent writes into it at a time.
#[derive(Debug, Clone)]
pub struct CertificateStore {
    folder: PathBuf,
    prefix: &'static str,
}

impl CertificateStore {
    /// The store in `folder` (the kubelet's `--cert-dir`, `/var/lib/kubelet/pki`). Touches nothing.
    pub fn new(folder: &Path, purpose: Purpose) -> Self {
        let prefix = match purpose {
            Purpose::Client => "kubelet-client",
            Purpose::Serving => "kubelet-server",
        };
        Self { folder: folder.into(), prefix }
    }

    /// The symbolic link to the current certificate with its key: what `kubelet.conf` names.
    pub fn current_path(&self) -> PathBuf {
        self.folder.join(format!("{}-current.pem", self.prefix))
    }

    /// Where the kubelet, which removes the old link before it renames the new one, may have left the new one.
    fn updated_path(&self) -> PathBuf {
        self.folder.join(format!("{}-updated.pem", self.prefix))
    }

    fn pending_path(&self) -> PathBuf {
        self.folder.join(format!("{}.key.tmp", self.prefix))
    }

    /// The current certificate with its key; `None` when there never was one. Whether it still holds is
    /// [`state`](crate::state)'s to say.
    ///
    /// # Errors
    /// The file is damaged: log it and go on as if there were none; [`update`](Self::update) replaces it.
    pub fn current(&self) -> Result<Option<Identity>, PkiError> {
        self.finish_swap()?;
        let path = self.current_path();
        Identity::load(&path, &path)
    }

    /// Ends a swap of links that a crash of the kubelet cut in two.
    fn finish_swap(&self) -> Result<(), PkiError> {
        let (current, updated) = (self.current_path(), self.updated_path());
        if current.exists() || !is_link(&updated)? {
            return Ok(());
        }
        fs::rename(&updated, &current).map_err(|source| PkiError::Write { path: current, source })
    }

    /// Stores a new certificate (PEM; `status.certificate` of the CertificateSigningRequest) with its key and
    /// makes it the current one, in one rename: a reader sees the old or the new one. Drops the pending
    /// key when it was that.
    ///
    /// # Errors
    /// The certificate is broken or not for this key (the current one stays), or the folder cannot be written.
    pub fn update(
        &self,
        certificate: impl AsRef<[u8]>,
        key: &PrivateKey,
        now: Timestamp,
    ) -> Result<Identity, PkiError> {
        let identity = Identity::new(certificate, key.clone(), "the certificate that was issued")?;
        let name = format!("{}-{}.pem", self.prefix, now.strftime("%Y-%m-%d-%H-%M-%S"));
        let current = self.current_path();
        if fs::symlink_metadata(&current).is_ok() && !is_link(&current)? {
            return Err(PkiError::NotALink { path: current });
        }
        file::write(&self.folder.join(&name), 0o600, identity.to_pem().as_bytes())?;
        self.point_at(&name).map_err(|source| PkiError::Write { path: current, source })?;
        if self.saved_pending_key().is_ok_and(|pending| pending.as_ref() == Some(key)) {
            self.drop_pending_key()?;
        }
        Ok(identity)
    }

    /// The link's target is a name without a folder: it holds wherever the folder is mounted.
    fn point_at(&self, name: &str) -> io::Result<()> {
        let (current, updated) = (self.current_path(), self.updated_path());
        file::remove(&updated)?;
        symlink(name, &updated)?;
        fs::rename(&updated, &current)?;
        file::sync_folder_of(&current)
    }

    /// The key for the next request: the one that waits since an earlier start, else a new one, which is
    /// written down before it is returned. So a restart while a request waits for its approval finds
    /// the request again, instead of making another. A damaged file is replaced, and so is a key that has its
    /// certificate already: [`update`](Self::update) was cut short before it dropped it.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn pending_key(&self) -> Result<PrivateKey, PkiError> {
        match self.saved_pending_key() {
            Ok(Some(key)) if !self.is_current(&key) => return Ok(key),
            Err(err @ PkiError::Read { .. }) => return Err(err),
            Ok(_) | Err(_) => {}
        }
        let key = PrivateKey::generate()?;
        file::write(&self.pending_path(), 0o600, key.to_pem().as_bytes())?;
        Ok(key)
    }

    fn is_current(&self, key: &PrivateKey) -> bool {
        matches!(self.current(), Ok(Some(current)) if current.key() == key)
    }

    /// Forgets the pending key: after its request was denied or failed, the next one needs another name.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn drop_pending_key(&self) -> Result<(), PkiError> {
        let path = self.pending_path();
        file::remove(&path).map_err(|source| PkiError::Write { path, source })
    }

    fn saved_pending_key(&self) -> Result<Option<PrivateKey>, PkiError> {
        let path = self.pending_path();
        file::read(&path)?.map(|pem| PrivateKey::from_pem(&pem, &path.display().to_string())).transpose()
    }
}

/// Whether `path` is a symbolic link, wherever it points; `false` when there is nothing.
fn is_link(path: &Path) -> Result<bool, PkiError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_symlink()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(PkiError::Read { path: path.into(), source }),
    }
}
