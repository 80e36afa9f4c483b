//! A document against its table: unknown fields, wrong values, fields that are not acted on.

use crate::document::DocumentKind;
use crate::field::{Field, Kind, Treatment};
use crate::merge::{get, put};
use crate::{ConfigError, Source};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// How much a warning matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// What was asked for does not happen.
    Warning,
    /// What was asked for has no meaning here; nothing is lost.
    Note,
}

/// A field or flag that is not acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// How much it matters.
    pub grade: Grade,
    /// The file it stands in, or what stands for it.
    pub origin: PathBuf,
    /// `KubeletConfiguration evictionSoft`, or `--runonce`.
    pub field: String,
    /// What happens instead.
    pub instead: String,
}

/// Checks one document on its own.
///
/// # Errors
/// Names all unknown fields, or the first wrong value.
pub(crate) fn check(
    kind: DocumentKind,
    table: &[Field],
    source: &Source,
    value: &Value,
) -> Result<Vec<Warning>, ConfigError> {
    let mut unknown = Vec::new();
    find_unknown(table, value, "", &mut unknown);
    if !unknown.is_empty() {
        return Err(ConfigError::Unknown { origin: source.path.clone(), kind: kind.name(), fields: unknown });
    }
    check_values(kind, table, &source.path, value)
}

/// The values alone: for what flags say.
pub(crate) fn check_values(
    kind: DocumentKind,
    table: &[Field],
    origin: &Path,
    value: &Value,
) -> Result<Vec<Warning>, ConfigError> {
    let mut warnings = Vec::new();
    for field in table {
        let Some(found) = get(value, field.path) else { continue };
        if let Some(problem) = field.problem(found) {
            let (origin, field) = (origin.to_owned(), field.path.to_owned());
            return Err(ConfigError::Field { origin, kind: kind.name(), field, problem });
        }
        let (grade, instead) = match field.treatment {
            Treatment::Supported => continue,
            Treatment::Warned(instead) => (Grade::Warning, instead),
            Treatment::NotOurs(why) => (Grade::Note, why),
        };
        if !field.is_default(found) {
            warnings.push(Warning {
                grade,
                origin: origin.to_owned(),
                field: format!("{} {}", kind.name(), field.path),
                instead: instead.to_owned(),
            });
        }
    }
    Ok(warnings)
}

/// Puts the table's defaults where a value says nothing of its own.
pub(crate) fn fill_defaults(table: &[Field], value: &mut Value) {
    for field in table {
        let unset = get(value, field.path).is_none_or(|found| field.is_unset(found));
        if unset {
            put(value, field.path, field.default_value().unwrap_or(Value::Null));
        }
    }
}

/// Paths below which the table has nothing. A map on the way to a field is looked into;
/// what a field holds is its own business.
fn find_unknown(table: &[Field], value: &Value, path: &str, unknown: &mut Vec<String>) {
    let Some(map) = value.as_object() else {
        if !path.is_empty() && !value.is_null() {
            unknown.push(path.to_owned());
        }
        return;
    };
    for (key, value) in map {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let known = table.iter().any(|field| field.path == path);
        let below =
            table.iter().any(|field| field.path.strip_prefix(path.as_str()).is_some_and(|r| r.starts_with('.')));
        match (known, below) {
            (true, _) => {}
            (false, true) => find_unknown(table, value, &path, unknown),
            (false, false) => unknown.push(path),
        }
    }
}

/// Whether a kind's flag takes its value from a following word; booleans do not.
pub(crate) fn takes_a_word(kind: Kind) -> bool {
    kind != Kind::Bool
}
