//! How single values become typed: an empty text is nothing, `null` is the empty list.

use crate::kubelet::SwapBehavior;
use crate::quantity::Quantity;
use serde::de::{Deserialize, Deserializer, Error};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A text that says something.
pub(crate) fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()))
}

/// A path that says something.
pub(crate) fn path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(some(from)?.map(PathBuf::from))
}

/// A list, or nothing.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A map, or nothing.
pub(crate) fn map<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<BTreeMap<String, T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// True only when it is said.
pub(crate) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A number; a negative one is no limit.
pub(crate) fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(u64::try_from(i64::deserialize(from)?).ok())
}

/// A quantity of bytes.
pub(crate) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    let quantity = Quantity::parse(&text).filter(|quantity| !quantity.is_negative());
    quantity.map(Quantity::units).ok_or_else(|| Error::custom(format!("{text:?} must be a quantity such as 10Mi")))
}

/// Nothing is the default behaviour.
pub(crate) fn swap<'de, D: Deserializer<'de>>(from: D) -> Result<SwapBehavior, D::Error> {
    match some(from)?.as_deref() {
        None | Some("NoSwap") => Ok(SwapBehavior::NoSwap),
        Some("LimitedSwap") => Ok(SwapBehavior::LimitedSwap),
        Some(other) => Err(Error::custom(format!("{other:?} must be one of \"\", \"LimitedSwap\" or \"NoSwap\""))),
    }
}
