//! `subPathExpr` of mounts.

use super::{EnvError, Vars, expand};
use orlop_model::VolumeMount;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The mounts with their expressions expanded (the kubelet's `ExpandContainerVolumeMounts`):
/// from the container's own variables, of which none may be missing or empty.
pub(super) fn expanded(mounts: &[VolumeMount], vars: &Vars) -> Result<Vec<VolumeMount>, EnvError> {
    mounts.iter().map(|mount| one(mount, vars)).collect()
}

fn one(mount: &VolumeMount, vars: &Vars) -> Result<VolumeMount, EnvError> {
    let Some(expression) = &mount.sub_path_expr else { return Ok(mount.clone()) };
    let missing = RefCell::new(BTreeSet::new());
    let path = expand(expression, |name| {
        let value = vars.get(name).filter(|value| !value.is_empty());
        if value.is_none() {
            missing.borrow_mut().insert(name.to_owned());
        }
        value
    });
    let missing: Vec<String> = missing.into_inner().into_iter().collect();
    if !missing.is_empty() {
        return Err(EnvError::SubPathValue(missing.join(", ")));
    }
    let problem = if path.starts_with('/') {
        Some("must not be an absolute path")
    } else if path.split('/').any(|part| part == "..") {
        Some("must not contain '..'")
    } else {
        None
    };
    match problem {
        Some(problem) => Err(EnvError::SubPath { path, problem }),
        None => Ok(VolumeMount { sub_path: Some(PathBuf::from(path)), sub_path_expr: None, ..mount.clone() }),
    }
}
