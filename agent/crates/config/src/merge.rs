//! Values by path, and documents over one another.

use serde_json::{Map, Value};

/// RFC 7386: maps key by key, `null` takes a key away, everything else replaces.
pub(crate) fn merge(base: &mut Value, over: &Value) {
    let Value::Object(over) = over else {
        *base = over.clone();
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let Some(base) = base.as_object_mut() else { return };
    for (key, value) in over {
        if value.is_null() {
            base.remove(key);
        } else {
            merge(base.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The value at `a.b.c`.
pub(crate) fn get<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

/// Puts a value at `a.b.c`; maps on the way that are missing or `null` are made.
pub(crate) fn put(value: &mut Value, path: &str, new: Value) {
    let mut at = value;
    for key in path.split('.') {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let Some(map) = at.as_object_mut() else { return };
        at = map.entry(key).or_insert(Value::Null);
    }
    *at = new;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_the_rfc_says() {
        for (base, over, want) in [
            (json!({"a": 1, "b": {"c": 1, "d": 2}}), json!({"b": {"c": 3}}), json!({"a": 1, "b": {"c": 3, "d": 2}})),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!({"a": {"b": 1}}), json!({"a": null}), json!({})),
            (json!({"a": 1}), json!({"a": {"b": 1, "c": null}}), json!({"a": {"b": 1}})),
            (json!({}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}})),
        ] {
            let mut got = base;
            merge(&mut got, &over);
            assert_eq!(got, want);
        }
    }

    #[test]
    fn paths() {
        let mut value = json!({"a": null});
        put(&mut value, "a.b.c", json!(1));
        assert_eq!(get(&value, "a.b.c"), Some(&json!(1)));
        assert_eq!(get(&value, "a.x.c"), None);
    }
}
