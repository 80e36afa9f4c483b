use super::*;

const FILE: &str = "/etc/containerd/certs.d/r.example/hosts.toml";

/// One line a host: `URL [ns=…] capabilities [skip] [headers] [files]`.
fn show(hosts: &[Host]) -> Vec<String> {
    let line = |host: &Host| {
        let mut text = host.base.to_string();
        text.extend(host.namespace.iter().map(|namespace| format!(" ns={namespace}")));
        text += match (host.resolves, host.pulls) {
            (true, true) => " both",
            (true, false) => " resolve",
            (false, true) => " pull",
            (false, false) => " none",
        };
        text += if host.tls.skip_verify { " skip" } else { "" };
        text.extend(host.headers.iter().map(|(name, value)| format!(" {name}:{}", value.to_str().unwrap())));
        text.extend(host.tls.authorities.iter().map(|path| format!(" ca={}", path.display())));
        for (certificate, key) in &host.tls.identities {
            text += &format!(" client={}", certificate.display());
            text.extend(key.iter().map(|key| format!("+{}", key.display())));
        }
        text
    };
    hosts.iter().map(line).collect()
}

fn check(registry: &str, text: &str, want: &[&str]) {
    let hosts = parse(registry, Path::new(FILE), text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    assert_eq!(show(&hosts), want, "{text}");
}

fn refused(text: &str, key: &str, words: &str) {
    let error = parse("r.example", Path::new(FILE), text).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{FILE}: {key}: ")), "{text}\n{error} should name {key}");
    assert!(error.contains(words), "{text}\n{error} should say {words}");
}

#[test]
fn without_a_file() {
    for (registry, want) in [
        ("docker.io", "https://registry-1.docker.io/v2 both"),
        ("r.example", "https://r.example/v2 both"),
        ("r.example:5000", "https://r.example:5000/v2 both"),
        ("localhost:5000", "http://localhost:5000/v2 both skip"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2 both skip"),
        ("127.8.8.8:80", "http://127.8.8.8/v2 both skip"),
        ("[::1]:5000", "http://[::1]:5000/v2 both skip"),
        ("localhost", "https://localhost/v2 both skip"),
        ("localhost:443", "https://localhost/v2 both skip"),
    ] {
        assert_eq!(show(&hosts_of(registry, &[]).unwrap()), [want], "{registry}");
    }
}

#[test]
fn mirrors_in_the_files_order_and_the_server_last() {
    check(
        "docker.io",
        r#"
            server = "https://registry-1.docker.io"
            [host."https://z.example"]
              capabilities = ["pull", "resolve"]
            [host."http://a.example:8080/prefix"]
              capabilities = ["pull"]
            [host."https://m.example/v2/proxy"]
              override_path = true
            [host."m.example"]
        "#,
        &[
            "https://z.example/v2 ns=docker.io both",
            "http://a.example:8080/prefix/v2 ns=docker.io pull",
            "https://m.example/v2/proxy ns=docker.io both",
            "https://m.example/v2 ns=docker.io both",
            "https://registry-1.docker.io/v2 both",
        ],
    );
    check("r.example:5000", "", &["https://r.example:5000/v2 both"]);
    check("r.example:5000", "server = \"http://r.example:5000\"", &["http://r.example:5000/v2 both"]);
    check("r.example", "server = \"https://other.example\"", &["https://other.example/v2 ns=r.example both"]);
}

#[test]
fn settings_of_hosts_and_of_the_server() {
    check(
        "r.example",
        r#"
            skip_verify = true
            ca = "own.pem"
            [header]
              x-own = "1"
            [host."https://m.example"]
              capabilities = ["resolve", "push"]
              ca = ["a.pem", "/abs/b.pem"]
              client = [["c.pem", "c.key"], ["both.pem", ""]]
              dial_timeout = "3s"
              [host."https://m.example".header]
                x-token = ["t", "u"]
        "#,
        &[
            "https://m.example/v2 ns=r.example resolve x-token:t x-token:u \
             ca=/etc/containerd/certs.d/r.example/a.pem ca=/abs/b.pem \
             client=/etc/containerd/certs.d/r.example/c.pem+/etc/containerd/certs.d/r.example/c.key \
             client=/etc/containerd/certs.d/r.example/both.pem",
            "https://r.example/v2 both skip x-own:1 ca=/etc/containerd/certs.d/r.example/own.pem",
        ],
    );
    check(
        "r.example",
        "[host.\"https://m.example\"]\nclient = \"/c.pem\"\ncapabilities = []",
        &["https://m.example/v2 ns=r.example both client=/c.pem", "https://r.example/v2 both"],
    );
}

#[test]
fn a_broken_file_names_its_key() {
    refused("server = ", "line 1", "");
    refused("\n\n[host.\"x\"\n", "line 3", "");
    refused("server = 7", "server", "is no string");
    refused("host = 1", "host", "is no table");
    refused("skip_verify = \"yes\"", "skip_verify", "is not true or false");
    refused("[host.\"https://m.example\"]\nskip_verify = 1", "host.\"https://m.example\".skip_verify", "true or false");
    refused(
        "[host.\"https://m.example\"]\ncapabilities = [\"fly\"]",
        "host.\"https://m.example\".capabilities",
        "\"fly\" is none of",
    );
    refused("[host.\"https://\"]", "host.\"https://\"", "is no URL");
    refused("[header]\n\"a b\" = \"x\"", "server.header.a b", "is no header name");
    refused("[header]\nx = \"a\\nb\"", "server.header.x", "no header can have");
}

#[test]
fn the_folder_of_a_registry() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let hosts = |registry: &str| {
        let dirs = [dir.path().join("absent"), dir.path().to_path_buf()];
        show(&hosts_of(registry, &dirs).unwrap()).join(" | ").replace(&dir.path().display().to_string(), "DIR")
    };
    assert_eq!(hosts("r.example"), "https://r.example/v2 both");
    write("_default/hosts.toml", "server = \"http://all.example\"");
    assert_eq!(hosts("r.example"), "http://all.example/v2 ns=r.example both");
    write("r.example/ca.crt", "");
    write("r.example/me.cert", "");
    write("r.example/me.key", "");
    assert_eq!(
        hosts("r.example"),
        "https://r.example/v2 both ca=DIR/r.example/ca.crt client=DIR/r.example/me.cert+DIR/r.example/me.key"
    );
    write("r.example/hosts.toml", "");
    assert_eq!(hosts("r.example"), "https://r.example/v2 both");
    write("r.example:5000/hosts.toml", "skip_verify = true");
    assert_eq!(hosts("r.example:5000"), "https://r.example:5000/v2 both skip");
    write("r.example_5000_/hosts.toml", "");
    assert_eq!(hosts("r.example:5000"), "https://r.example:5000/v2 both");
}
