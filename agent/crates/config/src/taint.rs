//! Taints as flags write them.

use k8s_openapi::api::core::v1::Taint;

/// The effects there are.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// `key=value:NoSchedule,key:NoExecute`, as `--register-with-taints` takes it.
///
/// # Errors
/// Says which taint is wrong and how.
pub fn parse_taints(text: &str) -> Result<Vec<Taint>, String> {
    let mut taints: Vec<Taint> = Vec::new();
    for one in text.split(',').filter(|one| !one.is_empty()) {
        let taint = parse_taint(one)?;
        if taints.iter().any(|other| other.key == taint.key && other.effect == taint.effect) {
            return Err(format!("taint {one:?}: its key and effect are there twice"));
        }
        taints.push(taint);
    }
    Ok(taints)
}

fn parse_taint(text: &str) -> Result<Taint, String> {
    let form = || format!("taint {text:?} must be KEY=VALUE:EFFECT or KEY:EFFECT");
    let (name, effect) = text.split_once(':').ok_or_else(form)?;
    let (key, value) = name.split_once('=').map_or((name, None), |(key, value)| (key, Some(value)));
    let taint =
        Taint { key: key.to_owned(), value: value.map(str::to_owned), effect: effect.to_owned(), time_added: None };
    check_taint(&taint).map_err(|problem| format!("taint {text:?}: {problem}"))?;
    Ok(taint)
}

/// Checks what the API server checks of a Node's taint.
pub(crate) fn check_taint(taint: &Taint) -> Result<(), String> {
    if !EFFECTS.contains(&taint.effect.as_str()) {
        return Err(format!("effect {:?} must be one of {}", taint.effect, EFFECTS.join(", ")));
    }
    let name = taint.key.rsplit_once('/').map_or(taint.key.as_str(), |(_, name)| name);
    if name.is_empty() || !is_label_text(name) || taint.key.len() > 253 + 1 + 63 {
        return Err(format!("key {:?} must be a label key such as example.com/dedicated", taint.key));
    }
    match &taint.value {
        Some(value) if !is_label_text(value) => Err(format!("value {value:?} must be a label value")),
        _ if taint.time_added.is_some() => Err("timeAdded must not be set".to_owned()),
        _ => Ok(()),
    }
}

fn is_label_text(text: &str) -> bool {
    let end = |c: u8| c.is_ascii_alphanumeric();
    let ends = text.bytes().next().is_none_or(end) && text.bytes().next_back().is_none_or(end);
    ends && text.len() <= 63 && text.bytes().all(|c| end(c) || b"-_.".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taints as `key=value:effect`, `-` for no value.
    #[track_caller]
    fn check(text: &str, want: Result<&[&str], &str>) {
        match (parse_taints(text), want) {
            (Ok(taints), Ok(want)) => {
                let value = |t: &Taint| t.value.clone().unwrap_or_else(|| "-".to_owned());
                let got: Vec<_> = taints.iter().map(|t| format!("{}={}:{}", t.key, value(t), t.effect)).collect();
                assert_eq!(got, want);
            }
            (Err(problem), Err(part)) if problem.contains(part) => {}
            (got, want) => panic!("{text:?}: {got:?}, wanted {want:?}"),
        }
    }

    #[test]
    fn taints() {
        check("", Ok(&[]));
        check(
            "a=b:NoSchedule,example.com/c:NoExecute,d=:PreferNoSchedule",
            Ok(&["a=b:NoSchedule", "example.com/c=-:NoExecute", "d=:PreferNoSchedule"]),
        );
        check("a=b", Err("KEY=VALUE:EFFECT"));
        check("a=b:Never", Err("effect \"Never\""));
        check("=b:NoSchedule", Err("key \"\""));
        check("a=-:NoSchedule", Err("value \"-\""));
        check("a:NoSchedule,a=b:NoSchedule", Err("twice"));
    }
}
