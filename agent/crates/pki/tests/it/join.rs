//! The files of a join.

use orlop_pki::{BootstrapToken, CaPins, ClusterInfo, JoinFiles, PkiError, default_kubelet_configuration};
use orlop_pki::{kubelet_configuration, verify_cluster_info};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn token() -> BootstrapToken {
    "abcdef.0123456789abcdef".parse().expect("a token")
}

fn info() -> ClusterInfo {
    let signature = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..xsatGyVEVE2L4ysoT5ilcM35lh-6D8we-l71h3ii7W8";
    let kubeconfig = include_str!("../data/cluster-info.yaml");
    let data = [("kubeconfig", kubeconfig), ("jws-kubeconfig-abcdef", signature)];
    let data = data.map(|(key, value)| (key.into(), value.into())).into();
    verify_cluster_info(&data, &token(), &CaPins::default()).expect("trusted")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

#[test]
fn a_join_can_be_run_twice_and_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = JoinFiles::new(&folder.path().join("kubernetes"), &folder.path().join("kubelet"));
    files.write(&info(), &token(), "first").expect("written");
    assert!(!files.joined(), "it is not a node yet");
    files.write(&info(), &token(), "second").expect("written again");
    assert_eq!(fs::read_to_string(&files.configuration).expect("a file"), "second");
    assert_eq!(fs::read_to_string(&files.ca).expect("a file"), info().ca_pem);
    assert_eq!(mode(&files.bootstrap_kubeconfig), 0o600);
    assert_eq!((mode(&files.ca), mode(&files.configuration)), (0o644, 0o644));

    fs::write(&files.kubeconfig, "the agent's").expect("a file");
    assert!(files.joined());
    files.drop_bootstrap().expect("removed");
    files.drop_bootstrap().expect("nothing to remove is fine");
    assert!(!files.bootstrap_kubeconfig.exists());
}

#[test]
fn a_ca_file_stays_when_it_is_this_clusters() {
    #[track_caller]
    fn check(found: &str, stays: bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let files = JoinFiles::new(folder.path(), &folder.path().join("kubelet"));
        fs::create_dir(files.ca.parent().expect("a folder")).expect("a folder");
        fs::write(&files.ca, found).expect("a file");
        match files.write(&info(), &token(), "") {
            Ok(()) => assert!(stays),
            Err(err) => assert!(!stays && matches!(err, PkiError::OtherCluster { .. }), "{err}"),
        }
        assert_eq!(fs::read_to_string(&files.ca).expect("a file"), found);
        assert_eq!(files.bootstrap_kubeconfig.exists(), stays, "nothing is started with another cluster's CA");
    }
    let ours = info().ca_pem;
    let other = include_str!("../data/kubelet-ec.pem");
    check(&ours, true);
    check(&format!("# the administrator's\n{other}{ours}"), true);
    check(other, false);
    check(&ours[ours.len() / 2..], false);
    check("", false);
}

#[test]
fn the_bootstrap_kubeconfig_has_kubeadms_names() {
    let text = orlop_pki::bootstrap_kubeconfig("https://10.0.0.1:6443", "CA", &token()).expect("a kubeconfig");
    let want = "\
apiVersion: v1
kind: Config
clusters:
- name: kubernetes
  cluster:
    certificate-authority-data: Q0E=
    server: https://10.0.0.1:6443
contexts:
- name: tls-bootstrap-token-user@kubernetes
  context:
    cluster: kubernetes
    user: tls-bootstrap-token-user
current-context: tls-bootstrap-token-user@kubernetes
users:
- name: tls-bootstrap-token-user
  user:
    token: abcdef.0123456789abcdef
";
    assert_eq!(text, want);
}

#[test]
fn a_token_that_looks_like_a_number_stays_text() {
    // 123456.7890123456789012 is a token and, unquoted in YAML, a number.
    let token: BootstrapToken = "123456.7890123456789012".parse().expect("a token");
    let text = orlop_pki::bootstrap_kubeconfig("https://10.0.0.1:6443", "CA", &token).expect("a kubeconfig");
    let ca = info().ca_pem;
    let long = orlop_pki::bootstrap_kubeconfig("https://10.0.0.1:6443", &ca, &token).expect("a kubeconfig");
    let longest = long.lines().map(str::len).max().expect("lines");
    assert!(longest > ca.len(), "a CA stays on its line: not every reader of kubeconfigs folds as we do");
    let quoted = ["\"123456.7890123456789012\"", "'123456.7890123456789012'"];
    assert!(quoted.iter().any(|it| text.contains(it)), "{text}");
}

#[test]
fn kubeadms_configuration_is_taken_as_it_is() {
    #[track_caller]
    fn check(key: &str, text: &str, resolv_conf: Option<&str>, want: Result<&str, &str>) {
        let data = BTreeMap::from([(key.to_owned(), text.to_owned())]);
        match (kubelet_configuration(&data, resolv_conf.map(Path::new)), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want),
            (Err(err), Err(part)) => assert!(err.to_string().contains(part), "{err}"),
            (got, want) => panic!("{got:?}, not {want:?}"),
        }
    }
    let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    let dns = format!("{head}clusterDNS:\n- 10.96.0.10\n");
    check("kubelet", &dns, None, Ok(&dns));
    check("kubelet-1.20", head, None, Err("no key kubelet"));
    check("kubelet", "apiVersion: v1\nkind: Pod\n", None, Err("it is v1 Pod"));
    check("kubelet", "[", None, Err("cannot be used"));

    let resolved = Some("/run/systemd/resolve/resolv.conf");
    let with = format!("{dns}resolvConf: \"/run/systemd/resolve/resolv.conf\"\n");
    check("kubelet", &dns, resolved, Ok(&with));
    check("kubelet", dns.trim_end(), resolved, Ok(&with));
    let own = format!("{dns}resolvConf: /etc/resolv.conf\n");
    check("kubelet", &own, resolved, Ok(&own));
    let flow = "{apiVersion: kubelet.config.k8s.io/v1beta1, kind: KubeletConfiguration}";
    check("kubelet", flow, None, Ok(flow));
    check("kubelet", flow, resolved, Err("block style"));
}

#[test]
fn a_default_configuration_is_one() {
    #[track_caller]
    fn check(ca: &str, dns: &[&str], resolv_conf: Option<&str>, lines: &[&str]) {
        let dns: Vec<_> = dns.iter().map(|ip| ip.parse().expect("an address")).collect();
        let text = default_kubelet_configuration(Path::new(ca), &dns, resolv_conf.map(Path::new));
        let data = BTreeMap::from([("kubelet".to_owned(), text.clone())]);
        assert_eq!(kubelet_configuration(&data, None).expect("one"), text);
        for line in lines {
            assert!(text.lines().any(|it| it == *line), "no {line:?} in {text}");
        }
    }
    check("/pki/ca.crt", &[], None, &["    clientCAFile: \"/pki/ca.crt\"", "rotateCertificates: true"]);
    check("/p k/ca.crt", &["10.96.0.10", "fd00::a"], Some("/r"), &["- \"fd00::a\"", "resolvConf: \"/r\""]);
}
