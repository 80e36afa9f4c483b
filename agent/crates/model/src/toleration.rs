//! Taints that a pod bears.

use serde::{Deserialize, Serialize};

/// What a taint does to pods that do not bear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaintEffect {
    /// The scheduler does not put them there.
    NoSchedule,
    /// The scheduler rather puts them elsewhere.
    PreferNoSchedule,
    /// They are not let in, and those that run are evicted.
    NoExecute,
}

impl TaintEffect {
    /// By its name in the API.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

/// A mark of the node's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Taint {
    /// Qualified name.
    pub key: String,
    /// Perhaps empty.
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// How a toleration compares a taint's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TolerationOperator {
    /// Any value. With an empty key: any taint.
    Exists,
    /// The same value.
    Equal,
    /// The taint's value is a number less than the toleration's.
    Lt,
    /// The taint's value is a number greater than the toleration's.
    Gt,
}

/// What a pod bears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toleration {
    /// The taint's key; empty is all, with `Exists`.
    pub key: String,
    /// How values compare.
    pub operator: TolerationOperator,
    /// The value to compare with.
    pub value: String,
    /// `None` is all effects.
    pub effect: Option<TaintEffect>,
    /// Seconds for which a `NoExecute` taint is borne; `None` is for ever.
    pub seconds: Option<i64>,
}

impl Toleration {
    /// Whether the pod bears this taint (client-go's `ToleratesTaint`; `Lt` and `Gt`
    /// compare whole numbers, and what is none is not borne).
    #[must_use]
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if self.effect.is_some_and(|effect| effect != taint.effect) || (!self.key.is_empty() && self.key != taint.key) {
            return false;
        }
        let numbers = || Some((taint.value.parse::<i64>().ok()?, self.value.parse::<i64>().ok()?));
        match self.operator {
            TolerationOperator::Exists => true,
            TolerationOperator::Equal => self.value == taint.value,
            TolerationOperator::Lt => numbers().is_some_and(|(taint, own)| taint < own),
            TolerationOperator::Gt => numbers().is_some_and(|(taint, own)| taint > own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints() {
        use TaintEffect::{NoExecute, NoSchedule};
        use TolerationOperator::{Equal, Exists, Gt, Lt};
        let taint = Taint { key: "k".into(), value: "5".into(), effect: NoExecute };
        for (key, operator, value, effect, want) in [
            ("k", Exists, "", None, true),
            ("", Exists, "", None, true),
            ("", Exists, "", Some(NoSchedule), false),
            ("k", Exists, "", Some(NoExecute), true),
            ("other", Exists, "", None, false),
            ("k", Equal, "5", None, true),
            ("k", Equal, "6", None, false),
            ("k", Lt, "6", None, true),
            ("k", Lt, "5", None, false),
            ("k", Gt, "4", Some(NoExecute), true),
            ("k", Gt, "x", None, false),
        ] {
            let toleration = Toleration { key: key.into(), operator, value: value.into(), effect, seconds: None };
            assert_eq!(toleration.tolerates(&taint), want, "{toleration:?}");
        }
    }
}
