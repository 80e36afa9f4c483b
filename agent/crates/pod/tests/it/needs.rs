//! What a pod waits for.

use crate::desired::desired;
use orlop_pod::{Need, needs};

#[track_caller]
fn check(fields: &str, want: &str) {
    let needs = needs(&desired(&format!("{{containers: [{{name: a, image: x}}], {fields}}}")));
    let list = |kind: &str, list: &std::collections::BTreeMap<String, Need>| {
        let mark = |need: &Need| if *need == Need::Optional { "?" } else { "" };
        list.iter().map(|(name, need)| format!("{kind} {name}{}", mark(need))).collect::<Vec<_>>()
    };
    let mut got = list("configmap", &needs.config_maps);
    got.extend(list("secret", &needs.secrets));
    got.extend(needs.tokens.iter().map(|ask| format!("token {:?} {}", ask.audience, ask.expiration_secs)));
    assert_eq!(got.join(", "), want, "{fields}");
}

#[test]
fn volumes_variables_and_pull_secrets() {
    check("", "");
    check("imagePullSecrets: [{name: p}, {}]", "secret p?");
    check("volumes: [{name: v, configMap: {name: c}}, {name: w, configMap: {name: c, optional: true}}]", "configmap c");
    check("volumes: [{name: v, secret: {secretName: s, optional: true}}]", "secret s?");
    let all = "volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 3607}},
        {configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}},
        {downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}},
        {secret: {name: s, optional: true}}]}}]";
    check(all, "configmap kube-root-ca.crt, secret s?, token None 3607");
    let twice = "volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: a}}, {serviceAccountToken: {path: b}}]}},
        {name: w, projected: {sources: [{serviceAccountToken: {path: c, audience: vault}}]}}]";
    check(twice, "token None 3600, token Some(\"vault\") 3600");
    let env = "initContainers: [{name: i, image: x, envFrom: [{configMapRef: {name: c1, optional: true}}, {secretRef: {name: s1}}],
        env: [{name: A, valueFrom: {configMapKeyRef: {name: c1, key: k}}}, {name: B, valueFrom: {secretKeyRef: {name: s2, key: k, optional: true}}}]}]";
    check(env, "configmap c1, secret s1, secret s2?");
}
