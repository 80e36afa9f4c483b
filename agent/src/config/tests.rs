//! What wins over what, and what is found on a machine.

use super::*;
use crate::cli::agent_args;
use std::fs;
use tempfile::TempDir;

const KUBELET: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
pub(super) const ORLOP: &str = "apiVersion: orlop.dev/v1alpha1\nkind: OrlopConfiguration\n";

/// A machine with these files, and the configuration of an agent with these flags on it. `ROOT` in either is
/// where the machine is.
pub(crate) fn read(files: &[(&str, &str)], args: &[&str]) -> Result<Config> {
    let root = TempDir::new().unwrap();
    let here = root.path().to_str().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("ROOT", here)).unwrap();
    }
    let args: Vec<String> = args.iter().map(|arg| arg.replace("ROOT", here)).collect();
    let args = agent_args(&args);
    let told = Told::gather(&args, root.path())?;
    Config::from_told(args, told)
}

#[track_caller]
fn check(files: &[(&str, &str)], args: &[&str], shown: impl Fn(&Config) -> String, want: &str) {
    let config = read(files, args).unwrap();
    assert_eq!(shown(&config), want);
}

#[test]
fn a_machine_that_was_joined_needs_no_flags() {
    let machine = [
        ("var/lib/kubelet/config.yaml", format!("{KUBELET}clusterDNS: [10.96.0.10]\nstaticPodPath: /etc/static\n")),
        (
            "var/lib/kubelet/kubeadm-flags.env",
            "KUBELET_KUBEADM_ARGS=\"--hostname-override=n7 --node-ip=192.0.2.7 --node-labels=a=b\"\n".to_owned(),
        ),
        ("etc/kubernetes/bootstrap-kubelet.conf", String::new()),
    ];
    let machine = machine.each_ref().map(|(name, text)| (*name, text.as_str()));
    let shown = |config: &Config| {
        format!(
            "{} {:?} {} {:?} {:?} {} {:?}",
            config.node_name,
            config.node_ips,
            config.node_ip_given,
            config.cluster_dns,
            config.manifests.as_deref().unwrap(),
            config.kubeconfig.as_deref().unwrap().display(),
            config.node_labels,
        )
    };
    let as_found = "[192.0.2.7] true [10.96.0.10] \"/etc/static\" /etc/kubernetes/kubelet.conf {\"a\": \"b\"}";
    check(&machine, &[], shown, &format!("n7 {as_found}"));
    check(&machine, &["--node-name", "n8"], shown, &format!("n8 {as_found}"));
    check(&machine, &["--hostname-override=n9"], shown, &format!("n9 {as_found}"));
    let bootstrap = |config: &Config| {
        config
            .bootstrap_kubeconfig
            .as_ref()
            .map_or("none".to_owned(), |it| it.ends_with("bootstrap-kubelet.conf").to_string())
    };
    check(&machine, &[], bootstrap, "true");
    // Who names the node's work means that work.
    check(&machine, &["--manifests", "/m", "--node-name", "x"], bootstrap, "none");
    check(&machine, &["--manifests", "/m"], |config| format!("{:?}", config.kubeconfig), "None");
}

#[test]
fn flags_win_over_drop_ins_and_these_over_files() {
    let files = [
        (
            "a.yaml",
            format!(
                "{ORLOP}kubeconfig: /k\nclusterDNS: [10.0.0.1]\n---\n{KUBELET}maxPods: 1\nclusterDNS: [10.0.0.2]\n"
            ),
        ),
        ("b.yaml", format!("{KUBELET}maxPods: 2\npodPidsLimit: 7\n")),
        ("d/10.conf", format!("{KUBELET}maxPods: 3\n")),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let shown = |config: &Config| {
        let kubelet = &config.kubelet;
        format!("{} {:?} {:?}", kubelet.max_pods, kubelet.pod_pids_limit, config.cluster_dns)
    };
    check(&files, &["--config", "ROOT/a.yaml"], shown, "1 None [10.0.0.1]");
    check(&files, &["--config", "ROOT/a.yaml", "--config", "ROOT/b.yaml"], shown, "2 Some(7) [10.0.0.1]");
    let all = ["--config", "ROOT/a.yaml", "--config", "ROOT/b.yaml", "--config-dir", "ROOT/d"];
    check(&files, &all, shown, "3 Some(7) [10.0.0.1]");
    check(&files, &[&all[..], &["--max-pods", "4"]].concat(), shown, "4 Some(7) [10.0.0.1]");
    check(&files, &[&all[..], &["--kubelet-arg", "max-pods=5"]].concat(), shown, "5 Some(7) [10.0.0.1]");
    check(&files, &[&all[..], &["--cluster-dns", "10.0.0.3"]].concat(), shown, "3 Some(7) [10.0.0.3]");
}

#[test]
fn in_a_cluster_the_node_says_which_range_is_its_own() {
    let cidrs = |config: &Config| format!("{:?}", config.pod_cidrs);
    check(&[], &["--manifests", "/m"], cidrs, "[10.244.0.0/24]");
    check(&[], &["--kubeconfig", "/k"], cidrs, "[]");
    check(&[], &["--kubeconfig", "/k", "--pod-cidr", "10.1.0.0/24"], cidrs, "[10.1.0.0/24]");
    let file = format!("{KUBELET}podCIDR: 10.2.0.0/24\n");
    check(&[("c.yaml", file.as_str())], &["--manifests", "/m", "--config", "ROOT/c.yaml"], cidrs, "[10.2.0.0/24]");
}

#[test]
fn faults_name_flag_or_file() {
    #[track_caller]
    fn check(files: &[(&str, &str)], args: &[&str], part: &str) {
        let error = format!("{:#}", read(files, args).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
    check(&[], &["--manifests", "/m", "--max-pods", "many"], "max-pods");
    check(&[], &["--manifests", "/m", "--cloud-provider", "aws"], "must be \"external\" or empty");
    check(&[], &["--config", "/nowhere/c.yaml"], "/nowhere/c.yaml");
    let typo = format!("{ORLOP}kubeconfigg: /k\n");
    check(&[("c.yaml", typo.as_str())], &["--config", "ROOT/c.yaml"], "kubeconfigg");
}

#[test]
fn what_nobody_acts_on_is_told() {
    let config = read(&[], &["--manifests", "/m", "--kubelet-arg", "--runonce", "--kubelet-arg", "nope=1"]).unwrap();
    let told: Vec<&str> = config.warnings.iter().map(|warning| warning.field.as_str()).collect();
    assert_eq!(told, ["--nope", "KubeletConfiguration runOnce"]);
}

#[test]
fn unspecified_addresses_ask_for_the_default_of_their_family() {
    #[track_caller]
    fn check(said: &[&str], want: (bool, &[&str])) {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let said = (!said.is_empty()).then(|| parse(said));
        let got = defaults::node_ips(said, || parse(&["192.0.2.1", "2001:db8::1"]));
        assert_eq!(got, (want.0, parse(want.1)));
    }
    check(&[], (false, &["192.0.2.1", "2001:db8::1"]));
    check(&["192.0.2.9"], (true, &["192.0.2.9"]));
    check(&["0.0.0.0"], (false, &["192.0.2.1"]));
    check(&["::", "0.0.0.0"], (false, &["2001:db8::1", "192.0.2.1"]));
    check(&["192.0.2.9", "::"], (true, &["192.0.2.9", "2001:db8::1"]));
}
