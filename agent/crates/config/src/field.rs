//! What a configuration document may hold, and what is done with each field.

use crate::{duration, quantity};
use serde_json::Value;

/// What Orlop does with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Acted on as the kubelet or kube-proxy does.
    Supported,
    /// Not acted on: set to anything but its default, it is warned of. The text says what happens instead.
    Warned(&'static str),
    /// Has no meaning for Orlop and nothing is lost: it is said once, as a note. The text says why.
    NotOurs(&'static str),
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// Text.
    Text,
    /// `1h2m3.5s`.
    Duration,
    /// The same, or a number of nanoseconds, as older versions wrote it.
    DurationOrNanos,
    /// `10Mi`.
    Quantity,
    /// A list of texts.
    Texts,
    /// A list of numbers.
    Ints,
    /// Texts by name.
    Map,
    /// Amounts or percentages by eviction signal.
    Thresholds,
    /// `true` or `false` by name.
    Gates,
    /// A list of objects, or an object that is not looked into.
    Object,
}

/// One field of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// `authentication.x509.clientCAFile`.
    pub path: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its default as JSON; empty where there is none.
    pub default: &'static str,
    /// The kubelet's flag for it, without `--`; empty where there is none.
    pub flag: &'static str,
    /// Zero, an empty text and an empty list are values of their own and do not mean the default.
    pub zero_counts: bool,
    /// What is done with it.
    pub treatment: Treatment,
}

impl Field {
    /// A field whose zero value means its default, as Go's types without a pointer are read.
    pub(crate) const fn new(path: &'static str, kind: Kind, default: &'static str, treatment: Treatment) -> Self {
        Self { path, kind, default, flag: "", zero_counts: false, treatment }
    }

    /// Its zero counts.
    pub(crate) const fn pointer(mut self) -> Self {
        self.zero_counts = true;
        self
    }

    /// It has a flag.
    pub(crate) const fn flag(mut self, name: &'static str) -> Self {
        self.flag = name;
        self
    }

    /// The default as a value.
    pub(crate) fn default_value(&self) -> Option<Value> {
        if self.default.is_empty() { None } else { serde_json::from_str(self.default).ok() }
    }

    /// Whether a value says no more than leaving the field out.
    pub(crate) fn is_unset(&self, value: &Value) -> bool {
        value.is_null() || (!self.zero_counts && is_zero(self.kind, value))
    }

    /// Whether a value does what leaving the field out does.
    pub(crate) fn is_default(&self, value: &Value) -> bool {
        if self.is_unset(value) {
            return true;
        }
        match self.default_value() {
            Some(default) => same(self.kind, &default, value),
            None => is_zero(self.kind, value),
        }
    }

    /// What is wrong with a value, in the words of Kubernetes' field errors.
    pub(crate) fn problem(&self, value: &Value) -> Option<String> {
        let list_of = |good: fn(&Value) -> bool| value.as_array().is_some_and(|list| list.iter().all(good));
        let map_of = |good: fn(&Value) -> bool| value.as_object().is_some_and(|map| map.values().all(good));
        let (good, rule) = match self.kind {
            _ if value.is_null() => (true, ""),
            Kind::Bool => (value.is_boolean(), "must be true or false"),
            Kind::Int => (value.is_i64() || value.is_u64(), "must be a whole number"),
            Kind::Float => (value.is_number(), "must be a number"),
            Kind::Text => (value.is_string(), "must be a text; put it in quotes"),
            Kind::DurationOrNanos if value.is_u64() => (true, ""),
            Kind::Duration | Kind::DurationOrNanos => return duration::problem(value),
            Kind::Quantity => return quantity::problem(value),
            Kind::Texts => (list_of(Value::is_string), "must be a list of texts; put each in quotes"),
            Kind::Ints => (list_of(Value::is_i64), "must be a list of whole numbers"),
            Kind::Map | Kind::Thresholds => (map_of(Value::is_string), "must be a map of texts; put each in quotes"),
            Kind::Gates => (map_of(Value::is_boolean), "must be a map of true or false by name"),
            Kind::Object => (value.is_array() || value.is_object(), "must be a list or a map"),
        };
        (!good).then(|| rule.to_owned())
    }
}

/// A table in Markdown, for the docs: field, flag, default, what is done with it.
#[must_use]
pub fn markdown(fields: &[Field]) -> String {
    let mut table = "| Field | Flag | Default | Orlop |\n|---|---|---|---|\n".to_owned();
    let code = |text: &str, before: &str| if text.is_empty() { String::new() } else { format!("`{before}{text}`") };
    for field in fields {
        let treatment = match field.treatment {
            Treatment::Supported => "supported".to_owned(),
            Treatment::Warned(instead) => format!("warned of: {instead}"),
            Treatment::NotOurs(why) => format!("no meaning: {why}"),
        };
        let (flag, default) = (code(field.flag, "--"), code(field.default, ""));
        table.push_str(&format!("| `{}` | {flag} | {default} | {treatment} |\n", field.path));
    }
    table
}

fn is_zero(kind: Kind, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) if matches!(kind, Kind::Duration | Kind::DurationOrNanos) => {
            duration::parse(text).is_ok_and(|time| time.is_zero())
        }
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(|value| is_zero(Kind::Object, value)),
    }
}

fn same(kind: Kind, a: &Value, b: &Value) -> bool {
    let texts = a.as_str().zip(b.as_str());
    match (kind, texts) {
        (Kind::Duration | Kind::DurationOrNanos, Some((a, b))) => duration::parse(a) == duration::parse(b),
        (Kind::Quantity, Some((a, b))) => quantity::Quantity::parse(a) == quantity::Quantity::parse(b),
        _ => a == b,
    }
}
