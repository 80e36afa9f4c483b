//! Environments: sources, order, expansion, and what is missing.

use crate::desired::desired;
use orlop_model::NodeAllocatable;
use orlop_pod::Objects;
use orlop_pod::env::{EnvContext, ResolvedEnv, resolve};
use std::collections::BTreeMap;

struct Store {
    maps: BTreeMap<&'static str, BTreeMap<String, String>>,
    secrets: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
}

impl Objects for Store {
    fn config_map(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, String>> {
        (namespace == "default").then(|| self.maps.get(name))?
    }
    fn secret(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, Vec<u8>>> {
        (namespace == "default").then(|| self.secrets.get(name))?
    }
}

fn resolved(fields: &str) -> Result<ResolvedEnv, String> {
    let pod = desired(&format!("{{containers: [{{name: a, image: x, {fields}}}], volumes: [{{name: v}}]}}"));
    let store = Store {
        maps: BTreeMap::from([
            ("c", BTreeMap::from([("k".into(), "v".into()), ("e".into(), String::new())])),
            ("odd", BTreeMap::from([("a.b".into(), "1".into()), ("x=y".into(), "2".into())])),
            ("nul", BTreeMap::from([("k".into(), "a\0b".into())])),
        ]),
        secrets: BTreeMap::from([
            ("s", BTreeMap::from([("k".into(), b"hidden".to_vec())])),
            ("bin", BTreeMap::from([("k".into(), vec![0xff, 0xfe])])),
        ]),
    };
    let ips = ["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    let image_env = ["PATH=/bin".to_owned(), "A=image".to_owned(), "IMG=i".to_owned()];
    let cx = EnvContext {
        objects: &store,
        pod_ips: &ips,
        host_ips: &["192.0.2.1".parse().unwrap()],
        image_env: &image_env,
        allocatable: NodeAllocatable { cpu_milli: 2000, memory: 4 << 30, ephemeral_storage: 10 << 30, pods: 110 },
        services: &[],
    };
    resolve(&pod.containers[0], &pod, &cx).map_err(|error| error.to_string())
}

/// The variables besides those that the image and the runtime give.
#[track_caller]
fn check(fields: &str, want: &str) {
    let got = match resolved(fields) {
        Ok(env) => {
            let own = env.env.iter().filter(|(name, _)| !["PATH", "HOSTNAME", "IMG", "TERM"].contains(&name.as_str()));
            own.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        }
        Err(error) => format!("error: {error}"),
    };
    assert_eq!(got, want, "{fields}");
}

#[test]
fn values_and_their_order() {
    check("", "A=image");
    check("env: [{name: B, value: x}]", "A=image B=x");
    check("env: [{name: A}]", "A=");
    check("env: [{name: B, value: x}, {name: C, value: \"$(B)y\"}]", "A=image B=x C=xy");
    check("env: [{name: C, value: \"$(B)y\"}, {name: B, value: x}]", "A=image C=$(B)y B=x");
    check("env: [{name: B, value: x}, {name: B, value: \"$(B)$(B)\"}]", "A=image B=xx");
    check("env: [{name: B, value: \"$(IMG) $(A) $$(C)\"}]", "A=image B=$(IMG) $(A) $(C)");
    check("envFrom: [{configMapRef: {name: c}}], env: [{name: k, value: \"$(k)2\"}]", "A=image e= k=v2");
    check("envFrom: [{prefix: P_, configMapRef: {name: c}}, {secretRef: {name: s}}]", "A=image P_e= P_k=v k=hidden");
}

#[test]
fn command_and_arguments_expand() {
    let env =
        resolved("command: [\"$(A)\", \"$(B)\"], args: [\"$$(B)\", \"$(B\"], env: [{name: B, value: x}]").unwrap();
    assert_eq!(env.command, ["$(A)", "x"]);
    assert_eq!(env.args, ["$(B)", "$(B"]);
}

#[test]
fn what_the_runtime_adds() {
    let get = |fields: &str, name: &str| {
        resolved(fields).unwrap().env.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    };
    assert_eq!(get("", "PATH").as_deref(), Some("/bin"));
    assert_eq!(get("", "HOSTNAME").as_deref(), Some("web"));
    assert_eq!(get("", "TERM"), None);
    assert_eq!(get("tty: true", "TERM").as_deref(), Some("xterm"));
    assert_eq!(get("env: [{name: HOSTNAME, value: h}]", "HOSTNAME").as_deref(), Some("h"));
}

#[test]
fn the_downward_api() {
    let field = |path: &str| format!("env: [{{name: F, valueFrom: {{fieldRef: {{fieldPath: \"{path}\"}}}}}}]");
    for (path, want) in [
        ("metadata.name", "web"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "u1"),
        ("metadata.labels['app']", ""),
        ("spec.nodeName", "n1"),
        ("spec.serviceAccountName", "default"),
        ("status.podIP", "10.1.0.2"),
        ("status.podIPs", "10.1.0.2,fd00::2"),
        ("status.hostIP", "192.0.2.1"),
        ("status.hostIPs", "192.0.2.1"),
    ] {
        check(&field(path), &format!("A=image F={want}"));
    }
    let resource = |resource: &str, divisor: &str| {
        format!(
            "resources: {{limits: {{cpu: 1500m}}, requests: {{memory: 100Mi}}}}, env: [{{name: R, valueFrom: {{resourceFieldRef: {{resource: {resource}, divisor: {divisor}}}}}}}]"
        )
    };
    for (name, divisor, want) in [
        ("limits.cpu", "1", "2"),
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "1m", "1500"),
        ("requests.memory", "1Mi", "100"),
        ("requests.memory", "1", "104857600"),
        ("requests.memory", "1Gi", "1"),
        ("limits.memory", "1Gi", "4"),
        ("limits.ephemeral-storage", "1Gi", "10"),
    ] {
        check(&resource(name, divisor), &format!("A=image R={want}"));
    }
}

#[test]
fn objects_that_are_not_there() {
    let key = |kind: &str, name: &str, key: &str, optional: bool| {
        format!("env: [{{name: K, valueFrom: {{{kind}: {{name: {name}, key: {key}, optional: {optional}}}}}}}]")
    };
    check(&key("configMapKeyRef", "c", "k", false), "A=image K=v");
    check(&key("secretKeyRef", "s", "k", false), "A=image K=hidden");
    check(&key("configMapKeyRef", "z", "k", false), "error: configmap \"z\" not found");
    check(&key("secretKeyRef", "z", "k", false), "error: secret \"z\" not found");
    check(&key("configMapKeyRef", "c", "z", false), "error: couldn't find key z in ConfigMap default/c");
    check(&key("secretKeyRef", "s", "z", false), "error: couldn't find key z in Secret default/s");
    for (kind, name, missing) in [
        ("configMapKeyRef", "z", "k"),
        ("secretKeyRef", "z", "k"),
        ("configMapKeyRef", "c", "z"),
        ("secretKeyRef", "s", "z"),
    ] {
        check(&key(kind, name, missing, true), "A=image");
    }
    check("envFrom: [{configMapRef: {name: z}}]", "error: configmap \"z\" not found");
    check("envFrom: [{secretRef: {name: z}}]", "error: secret \"z\" not found");
    check("envFrom: [{secretRef: {name: z, optional: true}}]", "A=image");
    let not_text = "cannot be an environment variable";
    check(
        &key("secretKeyRef", "bin", "k", false),
        &format!("error: the value of key k in Secret default/bin {not_text}"),
    );
    check(
        &key("configMapKeyRef", "nul", "k", false),
        &format!("error: the value of key k in ConfigMap default/nul {not_text}"),
    );
    check(
        "envFrom: [{secretRef: {name: bin}}]",
        &format!("error: the value of key k in Secret default/bin {not_text}"),
    );
    let odd = resolved("envFrom: [{configMapRef: {name: odd}}]").unwrap();
    assert_eq!(
        odd.warnings,
        [
            "Keys [x=y] from the EnvFrom configMap default/odd were skipped since they are considered invalid environment variable names."
        ]
    );
}

#[test]
fn sub_paths_from_variables() {
    let env = "env: [{name: N, value: web}, {name: E}, {name: UP, value: ..}, {name: ROOT, value: /etc}]";
    for (expression, want) in [
        ("logs/$(N)", Ok("logs/web")),
        ("$$(N)", Ok("$(N)")),
        ("$(N)/$(X)/$(E)", Err("missing value for E, X")),
        // The image's variables are not the container's.
        ("$(IMG)", Err("missing value for IMG")),
        ("a/$(UP)", Err("unable to provision SubPath `a/..`: must not contain '..'")),
        ("$(ROOT)", Err("unable to provision SubPath `/etc`: must not be an absolute path")),
    ] {
        let fields = format!("{env}, volumeMounts: [{{name: v, mountPath: /v, subPathExpr: {expression}}}]");
        let got = resolved(&fields).map(|env| env.mounts[0].sub_path.clone().unwrap());
        assert_eq!(got, want.map(std::path::PathBuf::from).map_err(str::to_owned), "{expression}");
    }
}
