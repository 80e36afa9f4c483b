//! A machine becomes a node: `orlop join`, the bootstrap, static pods meanwhile, and refusals.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use orlop_apiserver::{ApiServer, Controllers, Options, Rule, Signing};
use orlop_tests::{Role, World, pod};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

const TOKEN: &str = "abcdef.0123456789abcdef";
const KUBELET: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
    clusterDNS: [10.96.0.10]\nrotateCertificates: true\nserverTLSBootstrap: true\n";

/// What kubeadm allows nobody, and whoever has a token.
fn rules() -> Vec<Rule> {
    let rule = |subject: &str, verb: &str, resource: &str| Rule {
        subject: subject.into(),
        verb: verb.into(),
        resource: resource.into(),
        ..Rule::default()
    };
    let mut rules = vec![Rule { namespace: "kube-public".into(), ..rule("system:anonymous", "get", "configmaps") }];
    for verb in ["get", "list", "watch", "create"] {
        rules.push(rule("system:bootstrappers", verb, "certificatesigningrequests"));
    }
    rules.push(rule("system:bootstrappers", "get", "configmaps"));
    rules.push(rule("system:bootstrappers", "get", "nodes"));
    rules
}

/// A cluster that takes nodes by token, with an API server in the node's network namespace.
fn cluster(world: &World, sign: Signing) -> ApiServer {
    let controllers = Controllers { sign, pod_cidr: Some("10.244.0.0/16".into()), ..Controllers::default() };
    let listener = world.run(Role::Node, || TcpListener::bind(("127.0.0.1", 0))).expect("listen");
    let api = ApiServer::on(listener, Options { rules: rules(), controllers, ..Options::default() });
    api.accept_token(TOKEN, "system:bootstrap:abcdef", &["system:bootstrappers"]);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": "", "cluster": {
            "server": api.url(), "certificate-authority-data": BASE64_STANDARD.encode(api.ca_pem()),
        }}],
    })
    .to_string();
    let data = json!({"kubeconfig": kubeconfig, "jws-kubeconfig-abcdef": signature(&kubeconfig)});
    config_map(&api, "kube-public", "cluster-info", data);
    config_map(&api, "kube-system", "kubelet-config", json!({"kubelet": KUBELET}));
    api
}

fn config_map(api: &ApiServer, namespace: &str, name: &str, data: Value) {
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "data": data});
    api.create("configmaps", object).expect("create a ConfigMap");
}

/// As the controller manager's bootstrapsigner signs: a JWS without its content.
fn signature(content: &str) -> String {
    let (id, secret) = TOKEN.split_once('.').expect("a token");
    let header = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let mac = ring::hmac::sign(&key, format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(content)).as_bytes());
    format!("{header}..{}", BASE64_URL_SAFE_NO_PAD.encode(mac))
}

/// `orlop join` with folders of the world's.
struct Join<'a> {
    world: &'a World,
    server: String,
    kubernetes: PathBuf,
    root: PathBuf,
}

impl<'a> Join<'a> {
    fn new(world: &'a World, api: &ApiServer) -> Self {
        let kubernetes = world.folder("root").with_file_name("kubernetes");
        let server = api.url().trim_start_matches("https://").to_owned();
        Self { world, server, kubernetes, root: world.folder("root") }
    }

    fn run(&self, more: &[&str]) -> orlop_tests::Output {
        let (kubernetes, root) = (self.kubernetes.display().to_string(), self.root.display().to_string());
        let mut args =
            vec!["join", &self.server, "--token", TOKEN, "--kubernetes-dir", &kubernetes, "--root-dir", &root];
        args.extend(more);
        self.world.orlop(&args)
    }
}

const UNPINNED: &str = "--discovery-token-unsafe-skip-ca-verification";

/// The pin of the CA, as the refusal of another one names it.
fn pin(join: &Join<'_>) -> String {
    let other = format!("sha256:{}", "0".repeat(64));
    let said = join.run(&["--discovery-token-ca-cert-hash", &other]).fails(1);
    assert!(said.contains("check --discovery-token-ca-cert-hash"), "{said}");
    let at = said.find("found sha256:").expect("the found pin") + "found ".len();
    said[at..at + "sha256:".len() + 64].to_owned()
}

/// An agent that ends with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command that `orlop join` prints, with the world's other folders.
fn start(world: &World, said: &str) -> Agent {
    let line = said.lines().find(|line| line.contains(" agent --bootstrap-kubeconfig ")).expect("the command to run");
    let mut words = line.split_whitespace();
    let mut command = world.node_command(words.next().expect("the program"));
    command.args(words).arg("--manifests").arg(world.folder("manifests")).args(["--cgroup-root", world.cgroup_root()]);
    for (flag, folder) in [("--state-dir", "state"), ("--run-dir", "run"), ("--log-dir", "log")] {
        command.arg(flag).arg(world.folder(folder));
    }
    let log = fs::File::options().create(true).append(true).open(world.folder("agent.log")).expect("the log");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let agent = Agent(command.spawn().expect("start the agent"));
    world.wait_until("the agent answers", || world.ask("node"));
    agent
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o7777
}

#[test]
fn a_token_and_a_pin_make_a_node() {
    let mut world = World::new();
    world.stop();
    let api = cluster(&world, Signing::Automatic);
    let join = Join::new(&world, &api);
    let pin = pin(&join);
    let flags = ["--discovery-token-ca-cert-hash", &pin, "--node-name", "n1", "--node-ip", "10.99.0.1"];

    let said = join.run(&[&flags[..], &["--dry-run"]].concat()).ok();
    assert!(said.contains("clusterDNS: [10.96.0.10]") && !said.contains("0123456789abcdef"), "{said}");
    assert!(!join.kubernetes.exists(), "a dry run writes nothing");

    // Cut short before the agent ran, it is run again.
    join.run(&flags).ok();
    let said = join.run(&flags).ok();
    let bootstrap = join.kubernetes.join("bootstrap-kubelet.conf");
    assert_eq!((mode(&bootstrap), mode(&join.kubernetes.join("pki/ca.crt"))), (0o600, 0o644));
    let environment = fs::read_to_string(join.root.join("kubeadm-flags.env")).expect("the flags");
    assert_eq!(environment, "KUBELET_KUBEADM_ARGS=\"--hostname-override=n1 --node-ip=10.99.0.1\"\n");

    let agent = start(&world, &said);
    api.wait_for("nodes", "", "n1", is_ready);
    let (kubeconfig, pki) = (join.kubernetes.join("kubelet.conf"), join.root.join("pki"));
    world.wait_until("the token is gone", || (!bootstrap.exists()).then_some(()));
    let current = pki.join("kubelet-client-current.pem");
    assert_eq!((mode(&kubeconfig), mode(&current)), (0o600, 0o600));
    world
        .wait_until("there is a serving certificate", || pki.join("kubelet-server-current.pem").exists().then_some(()));

    let said = join.run(&flags).fails(1);
    assert!(said.contains("is a node already") && said.contains("orlop reset"), "{said}");

    // Another start keeps the certificate.
    let (before, requests) = (fs::read(&current).unwrap(), api.list("certificatesigningrequests").len());
    drop(agent);
    let command = format!(
        "{} agent --bootstrap-kubeconfig {} --kubeconfig {} --config {} --root-dir {} --node-name n1 --node-ip 10.99.0.1",
        join.world.folder("bin/orlop").display(),
        bootstrap.display(),
        kubeconfig.display(),
        join.root.join("config.yaml").display(),
        join.root.display()
    );
    let _agent = start(&world, &command);
    let renewed = |lease: &Value| lease["spec"]["renewTime"].clone();
    let at = renewed(&api.get("leases", "kube-node-lease", "n1").expect("a Lease"));
    api.wait_for("leases", "kube-node-lease", "n1", |lease| renewed(lease) != at);
    assert_eq!((fs::read(&current).unwrap(), api.list("certificatesigningrequests").len()), (before, requests));
}

#[test]
fn static_pods_run_while_the_certificate_waits_for_approval() {
    let mut world = World::new();
    world.stop();
    let api = cluster(&world, Signing::Manual);
    let join = Join::new(&world, &api);
    let said = join.run(&[UNPINNED, "--node-name", "n1", "--node-ip", "10.99.0.1"]).ok();
    world.apply("still", &pod("still", "hostNetwork: true\ncontainers: [{name: c, image: IMAGE, command: IDLE}]"));
    let _agent = start(&world, &said);
    world.wait_ready("still-n1");
    assert_eq!(api.list("nodes").len(), 0);
    assert_eq!(api.count_of("list", "pods") + api.count_of("watch", "pods"), 0, "nobody asks as the token");

    let request = api.wait_until("certificatesigningrequests", "the node's request", |all| {
        all.first().and_then(|request| request["metadata"]["name"].as_str().map(str::to_owned))
    });
    api.approve(&request).expect("approve");
    api.wait_for("nodes", "", "n1", is_ready);
    api.wait_for("pods", "default", "still-n1", |_| true);
}

#[test]
fn joins_that_must_not_be() {
    let mut world = World::new();
    world.stop();
    let api = cluster(&world, Signing::Automatic);
    let join = Join::new(&world, &api);
    let check = |more: &[&str], code: i32, part: &str| {
        let said = join.run(more).fails(code);
        assert!(said.contains(part), "{more:?}: {said}");
        assert!(!join.kubernetes.exists(), "{more:?} wrote something");
    };
    check(&[], 2, "--discovery-token-ca-cert-hash");
    check(&["--discovery-token-ca-cert-hash", "sha256:12"], 2, "has not 64 digits");
    api.create("nodes", json!({"metadata": {"name": "n1"}})).expect("a Node");
    // Its range is given to it meanwhile, which is a conflict.
    world.wait_until("the Node is Ready", || {
        let mut node = api.get("nodes", "", "n1")?;
        node["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        api.update_status("nodes", node).ok()
    });
    check(&[UNPINNED, "--node-name", "n1"], 1, "give this machine another name with --node-name");
    api.refuse_token(TOKEN);
    check(&[UNPINNED, "--node-name", "n2"], 1, "does not take the token abcdef");
}
