//! JSON patch, RFC 6902.

use serde_json::Value;

use crate::status::Status;

/// The target after all operations; the first that fails refuses the whole.
pub(crate) fn json_patch(mut target: Value, patch: &Value) -> Result<Value, Status> {
    let operations = patch.as_array().ok_or_else(|| Status::bad_request("a JSON patch is a list of operations"))?;
    for operation in operations {
        step(&mut target, operation)?;
    }
    Ok(target)
}

fn refused(message: String) -> Status {
    Status::new(422, "Invalid", format!("the server rejected our request due to an error in our request: {message}"))
}

fn step(target: &mut Value, operation: &Value) -> Result<(), Status> {
    let text = |field: &str| {
        operation[field].as_str().ok_or_else(|| Status::bad_request(format!("operation without {field}: {operation}")))
    };
    let path = text("path")?;
    let value = || {
        operation
            .get("value")
            .cloned()
            .ok_or_else(|| Status::bad_request(format!("operation without value: {operation}")))
    };
    match text("op")? {
        "add" => add(target, path, value()?),
        "remove" => remove(target, path).map(drop),
        "replace" => {
            let value = value()?;
            let place = target
                .pointer_mut(path)
                .ok_or_else(|| refused(format!("replace operation does not apply: doc is missing key: {path}")))?;
            *place = value;
            Ok(())
        }
        "move" => {
            let value = remove(target, text("from")?)?;
            add(target, path, value)
        }
        "copy" => {
            let from = text("from")?;
            let value = target.pointer(from).cloned();
            add(target, path, value.ok_or_else(|| refused(format!("copy operation: doc is missing path: {from}")))?)
        }
        "test" => {
            let wanted = value()?;
            // An absent member equals null, as the library of the API server has it.
            if *target.pointer(path).unwrap_or(&Value::Null) == wanted {
                Ok(())
            } else {
                Err(refused(format!("testing path {path} failed")))
            }
        }
        other => Err(Status::bad_request(format!("unexpected kind: {other}"))),
    }
}

fn split(path: &str) -> Result<(&str, String), Status> {
    let (parent, last) =
        path.rsplit_once('/').ok_or_else(|| Status::bad_request(format!("path {path:?} does not start with /")))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), Status> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (parent, last) = split(path)?;
    let missing = || refused(format!("add operation does not apply: doc is missing path: {path:?}"));
    match target.pointer_mut(parent).ok_or_else(missing)? {
        Value::Object(fields) => {
            fields.insert(last, value);
            Ok(())
        }
        Value::Array(items) => {
            let at = if last == "-" { Some(items.len()) } else { last.parse().ok() };
            let at = at.filter(|at| *at <= items.len()).ok_or_else(missing)?;
            items.insert(at, value);
            Ok(())
        }
        _ => Err(missing()),
    }
}

fn remove(target: &mut Value, path: &str) -> Result<Value, Status> {
    let (parent, last) = split(path)?;
    let missing = || refused(format!("remove operation does not apply: doc is missing path: {path:?}"));
    match target.pointer_mut(parent).ok_or_else(missing)? {
        Value::Object(fields) => fields.remove(&last).ok_or_else(missing),
        Value::Array(items) => {
            let at = last.parse::<usize>().ok().filter(|at| *at < items.len()).ok_or_else(missing)?;
            Ok(items.remove(at))
        }
        _ => Err(missing()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_apply_in_order() {
        for (target, patch, result) in [
            (json!({"a": 1}), json!([{"op": "add", "path": "/b", "value": 2}]), Some(json!({"a": 1, "b": 2}))),
            (
                json!({"a": [1, 3]}),
                json!([{"op": "add", "path": "/a/1", "value": 2}, {"op": "add", "path": "/a/-", "value": 4}]),
                Some(json!({"a": [1, 2, 3, 4]})),
            ),
            (json!({"a/b": 1}), json!([{"op": "replace", "path": "/a~1b", "value": 2}]), Some(json!({"a/b": 2}))),
            (json!({"a": 1}), json!([{"op": "replace", "path": "/b", "value": 2}]), None),
            (json!({"a": 1}), json!([{"op": "remove", "path": "/a"}]), Some(json!({}))),
            (json!({"a": 1}), json!([{"op": "remove", "path": "/b"}]), None),
            (json!({"a": 1}), json!([{"op": "move", "from": "/a", "path": "/b"}]), Some(json!({"b": 1}))),
            (json!({"a": 1}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), Some(json!({"a": 1, "b": 1}))),
            (
                json!({"a": 1}),
                json!([{"op": "test", "path": "/a", "value": 1}, {"op": "remove", "path": "/a"}]),
                Some(json!({})),
            ),
            (json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 2}]), None),
            (json!({}), json!([{"op": "test", "path": "/a", "value": null}]), Some(json!({}))),
            (json!({}), json!([{"op": "add", "path": "/a/b", "value": 1}]), None),
        ] {
            assert_eq!(json_patch(target.clone(), &patch).ok(), result, "{target} with {patch}");
        }
    }
}
