use super::*;

/// A kubeconfig with these fields in its cluster and its user.
fn config(cluster: &str, user: &str) -> Result<Settings, String> {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\npreferences: {{}}\n\
         contexts: [{{name: c, context: {{cluster: k, user: u, namespace: web}}}}]\n\
         clusters: [{{name: k, cluster: {{server: 'https://api:6443', {cluster}}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\n"
    );
    let read = Kubeconfig::parse(&text, Path::new("/etc/kubernetes/x.conf")).map_err(|error| error.to_string())?;
    assert_eq!(read.namespace(), Some("web"));
    assert_eq!(read.warnings(), [""; 0]);
    read.settings().map_err(|error| error.to_string())
}

#[test]
fn clusters() {
    let data =
        config("certificate-authority-data: cGVt, tls-server-name: kubernetes, proxy-url: 'socks5://p:1'", "").unwrap();
    assert_eq!(data.authority, Some(Pem::Data(b"pem".to_vec())));
    assert_eq!((data.server_name.as_deref(), data.proxy.as_deref()), (Some("kubernetes"), Some("socks5://p:1")));
    let file = config("certificate-authority: pki/ca.crt", "").unwrap();
    assert_eq!(file.authority, Some(Pem::File("/etc/kubernetes/pki/ca.crt".into())));
    assert!(config("insecure-skip-tls-verify: true", "").unwrap().insecure);
    let both = config("insecure-skip-tls-verify: true, certificate-authority: ca", "").unwrap_err();
    assert!(both.contains("contradict"), "{both}");
}

#[test]
fn users() {
    let check = |user: &str, want: Bearer| assert_eq!(config("", user).unwrap().bearer, want, "{user}");
    check("", Bearer::None);
    check("token: t", Bearer::Token(Secret::new("t")));
    check("token: t, tokenFile: tok", Bearer::TokenFile("/etc/kubernetes/tok".into()));
    check("username: a, password: b", Bearer::Basic { user: "a".to_owned(), password: Secret::new("b") });
    let files = config("", "client-certificate: /pki/c.pem, client-key: k.pem").unwrap().identity.unwrap();
    assert_eq!(files.certificate, Pem::File("/pki/c.pem".into()));
    assert_eq!(files.key, Pem::File("/etc/kubernetes/k.pem".into()));
    let data = config("", "client-certificate-data: Yw==, client-key-data: aw==").unwrap().identity.unwrap();
    assert_eq!(data, Identity::from_pem("c", "k"));
}

#[test]
fn plugins() {
    let cluster = "certificate-authority-data: cGVt, \
        extensions: [{name: client.authentication.k8s.io/exec, extension: {audience: x}}]";
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: bin/login, args: [a], \
        env: [{name: N, value: v}], provideClusterInfo: true, interactiveMode: Never}";
    let Bearer::Plugin(plugin) = config(cluster, exec).unwrap().bearer else { panic!("no plugin") };
    assert_eq!(plugin.command, Path::new("/etc/kubernetes/bin/login"));
    assert_eq!((plugin.args.as_slice(), plugin.env["N"].as_str()), (["a".to_owned()].as_slice(), "v"));
    let told = serde_json::to_value(&plugin.cluster).unwrap();
    let want = serde_json::json!({"server": "https://api:6443", "certificate-authority-data": "cGVt", "config": {"audience": "x"}});
    assert_eq!(told, want);
}

#[test]
fn what_is_refused_is_named() {
    let check = |user: &str, want: &str| {
        let got = config("", user).unwrap_err();
        assert!(got.starts_with("kubeconfig /etc/kubernetes/x.conf: ") && got.contains(want), "{got}");
    };
    check("auth-provider: {name: gcp, config: {a: b}}", "auth-provider \"gcp\" is not supported");
    check("as: root", "impersonation");
    check("client-key: k", "no client-certificate");
    check("exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: x}", "exec.apiVersion");
    check("exec: {apiVersion: client.authentication.k8s.io/v1, command: x}, token: t", "one of them");
    check("exec: {apiVersion: client.authentication.k8s.io/v1, command: x, interactiveMode: Always}", "nobody to ask");
    check("client-key: [1]", "users[0].user.client-key");
}

#[test]
fn whole_files() {
    let settings = |text: &str| {
        let read = Kubeconfig::parse(text, Path::new("f")).map_err(|error| error.to_string())?;
        read.settings().map_err(|error| error.to_string()).map(|settings| (settings, read.warnings().to_vec()))
    };
    let fails = |text: &str, want: &str| {
        let got = settings(text).unwrap_err();
        assert!(got.contains(want), "{got}");
    };
    fails("kind: Pod", "it is a Pod");
    fails("{}", "current-context is not set");
    fails("current-context: a", "there is no context \"a\"");
    fails("contexts: [{name: a, context: {cluster: k}}]", "there is no cluster \"k\"");
    fails("clusters: 3", "clusters");
    let only = "contexts: [{name: a, context: {cluster: k}}]\nclusters: [{name: k, cluster: {server: s, colour: red}}]";
    let (read, warnings) = settings(only).unwrap();
    assert_eq!(read.server, "s");
    assert_eq!(warnings, ["the field clusters.0.cluster.colour is not known and not acted on"]);
    let nulls = "current-context: a\ncontexts: [{name: a, context: {cluster: k, user: u}}]\n\
        clusters: [{name: k, cluster: {server: s}}]\nusers: [{name: u, user: null}]";
    assert_eq!(settings(nulls).unwrap().0.bearer, Bearer::None);
}

#[test]
fn what_is_written_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubelet.conf");
    let mut reach = Settings::new("https://10.0.0.1:6443");
    reach.authority = Some(Pem::Data(b"pem".to_vec()));
    reach.server_name = Some("kubernetes".to_owned());
    let current = Path::new("/var/lib/kubelet/pki/kubelet-client-current.pem");
    write_kubeconfig(&path, &reach, current, current).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let read = Kubeconfig::read(&path).unwrap();
    assert_eq!(read.warnings(), [""; 0]);
    let settings = read.settings().unwrap();
    assert_eq!(
        (settings.server, settings.authority, settings.server_name),
        (reach.server, reach.authority, reach.server_name)
    );
    assert_eq!(settings.identity.unwrap().key, Pem::File(current.to_owned()));
}
