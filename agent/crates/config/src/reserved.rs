//! `systemReserved` and `kubeReserved`.

use crate::quantity::Quantity;
use serde::de::{Deserialize, Deserializer, Error};
use std::collections::BTreeMap;

/// What is held back from pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReservedResources {
    /// `cpu`, in thousandths of a CPU.
    pub cpu_milli: u64,
    /// `memory`, in bytes.
    pub memory_bytes: u64,
    /// `ephemeral-storage`, in bytes.
    pub storage_bytes: u64,
    /// `pid`.
    pub pids: u64,
}

pub(crate) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<ReservedResources, D::Error> {
    let map: BTreeMap<String, String> = Option::deserialize(from)?.unwrap_or_default();
    let mut reserved = ReservedResources::default();
    for (name, text) in map {
        let quantity = Quantity::parse(&text)
            .filter(|quantity| !quantity.is_negative())
            .ok_or_else(|| Error::custom(format!("{name}: {text:?} must be a quantity such as 500m or 1Gi")))?;
        match name.as_str() {
            "cpu" => reserved.cpu_milli = quantity.milli(),
            "memory" => reserved.memory_bytes = quantity.units(),
            "ephemeral-storage" => reserved.storage_bytes = quantity.units(),
            "pid" => reserved.pids = quantity.units(),
            _ => {
                return Err(Error::custom(format!(
                    "cannot reserve {name:?}: only cpu, memory, ephemeral-storage and pid can be"
                )));
            }
        }
    }
    Ok(reserved)
}
