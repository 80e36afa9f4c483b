use super::*;

const DIGITS: &str = "0123456789";

fn ring(auths: &[(&str, &str)]) -> Keyring {
    let auths: serde_json::Map<String, serde_json::Value> = auths
        .iter()
        .map(|(place, user)| ((*place).to_owned(), serde_json::json!({"username": user, "password": "p"})))
        .collect();
    let json = serde_json::json!({ "auths": auths }).to_string();
    let mut ring = Keyring::new();
    ring.add_secrets([("s", "kubernetes.io/dockerconfigjson", [(".dockerconfigjson", json)])]).unwrap();
    ring
}

/// Users in the order in which they are tried for an image.
fn check(auths: &[(&str, &str)], image: &str, want: &[&str]) {
    let got = ring(auths).lookup(&Reference::parse(image).unwrap());
    let got: Vec<&str> = got.iter().map(|credential| credential.username.as_str()).collect();
    assert_eq!(got, want, "{auths:?} for {image}");
}

#[test]
fn hosts_ports_paths_and_globs() {
    check(&[("quay.io", "u")], "quay.io/a/b", &["u"]);
    check(&[("https://quay.io", "u")], "quay.io/a/b", &["u"]);
    check(&[("http://quay.io/v2/", "u")], "quay.io/a/b", &["u"]);
    check(&[("quay.io", "u")], "gcr.io/a/b", &[]);
    check(&[("quay.io:5000", "u")], "quay.io/a", &[]);
    check(&[("quay.io:5000", "u")], "quay.io:5000/a", &["u"]);
    check(&[("quay.io", "u")], "quay.io:5000/a", &[]);
    check(&[("*.io", "u")], "quay.io/a", &["u"]);
    check(&[("*.*", "u")], "quay.io/a", &["u"]);
    check(&[("*", "u")], "quay.io/a", &[]);
    check(&[("*.example", "u")], "a.b.example/x", &[]);
    check(&[("r*g.[a-f]xample", "u")], "reg.example/x", &["u"]);
    check(&[("quay.io/team", "u")], "quay.io/team/x", &["u"]);
    check(&[("quay.io/te", "u")], "quay.io/team/x", &["u"]);
    check(&[("quay.io/other", "u")], "quay.io/team/x", &[]);
    check(&[("quay.io/v1/team", "u")], "quay.io/team/x", &["u"]);
    check(&[("[::1]:5000", "u")], "[::1]:5000/x", &["u"]);
}

#[test]
fn the_more_specific_entry_comes_first() {
    let auths = [("quay.io", "host"), ("quay.io/team", "path"), ("*.io", "glob")];
    check(&auths, "quay.io/team/x", &["path", "host", "glob"]);
    check(&auths, "quay.io/x", &["host", "glob"]);
}

#[test]
fn dockers_hub_has_three_names() {
    check(&[("https://index.docker.io/v1/", "u")], "busybox", &["u"]);
    check(&[("index.docker.io", "u")], "docker.io/team/x", &["u"]);
    check(&[("docker.io", "u")], "busybox", &["u"]);
    check(&[("docker.io/library", "own"), ("https://index.docker.io/v1/", "hub")], "busybox", &["own"]);
    check(&[("https://index.docker.io/v1/", "u")], "quay.io/x", &[]);
}

#[test]
fn secrets_come_before_files_and_duplicates_go() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("config.json"), dir.path().join("broken.json"));
    std::fs::write(&good, r#"{"auths":{"quay.io":{"auth":"bm9kZTpw"},"*.io":{"username":"u","password":"p"}}}"#)
        .unwrap();
    std::fs::write(&bad, r#"{"auths": 7}"#).unwrap();
    let mut ring = ring(&[("quay.io", "u")]);
    let problems = ring.add_files(&[dir.path().join("none.json"), bad, good]);
    let users: Vec<String> =
        ring.lookup(&Reference::parse("quay.io/x").unwrap()).into_iter().map(|c| c.username).collect();
    assert_eq!(users, ["u", "node"]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().contains("broken.json"), "{}", problems[0]);
}

#[test]
fn forms_of_an_entry() {
    for (json, want) in [
        (r#"{"r.example":{"auth":"dTpw"}}"#, Ok(("u", "p"))),
        (r#"{"r.example":{"auth":"dXM6cGE6eA=="}}"#, Ok(("us", "pa:x"))),
        (r#"{"r.example":{"auth":"dTpw","username":"other","password":"x"}}"#, Ok(("u", "p"))),
        (r#"{"r.example":{"username":"u","password":"p","email":"e"}}"#, Ok(("u", "p"))),
        (r#"{"r.example":{"auth":"!"}}"#, Err("no base64")),
        (r#"{"r.example":{"auth":"dXA="}}"#, Err("not base64 of username:password")),
        (r#"{"r.example":{"password":5}}"#, Err("line 1 column")),
        ("[]", Err("no docker configuration")),
    ] {
        let mut ring = Keyring::new();
        let added = ring.add_secrets([("team/pull", "kubernetes.io/dockercfg", [(".dockercfg", json)])]);
        match want {
            Ok((username, password)) => {
                added.unwrap();
                let want = Credential { username: username.into(), password: password.into() };
                assert_eq!(ring.lookup(&Reference::parse("r.example/x").unwrap()), [want], "{json}");
            }
            Err(words) => {
                let error = added.unwrap_err().to_string();
                assert!(error.contains(words) && error.contains("team/pull"), "{json}: {error}");
            }
        }
    }
}

#[test]
fn other_secrets_are_passed_over_and_passwords_stay_hidden() {
    let mut keyring = Keyring::new();
    keyring.add_secrets([("s", "Opaque", [(".dockerconfigjson", "{")])]).unwrap();
    assert!(keyring.is_empty());
    let secret = Credential { username: "u".into(), password: DIGITS.into() };
    assert!(!format!("{secret:?}").contains(DIGITS));
    let json = format!(r#"{{"auths":{{"r.example":{{"password":["{DIGITS}"]}}}}}}"#);
    let error = keyring.add_secrets([("s", "kubernetes.io/dockerconfigjson", [(".dockerconfigjson", json)])]);
    assert!(!error.unwrap_err().to_string().contains(DIGITS));
}
