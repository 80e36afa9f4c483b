//! A node whose pods come from an API server.

use crate::world::{Options, Role, World};
use orlop_apiserver::{ApiServer, Request};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The node's name in every world.
const NODE: &str = "n1";
/// The node's part of the pods' addresses, of its Node object.
const POD_CIDR: &str = "10.244.7.0/24";

/// What differs from the usual cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// Of the API server.
    pub server: orlop_apiserver::Options,
    /// Of the node.
    pub node: Options,
    /// What the Node object has before the agent comes, merged into its metadata and spec.
    pub node_object: Value,
    /// Not the node's certificate but this bearer token is in a file of its own.
    pub token_file: bool,
}

/// A node that is part of a cluster. It ends with all its pods.
pub struct Cluster {
    world: World,
    /// The API server; it listens in the namespace of outside.
    pub server: Arc<ApiServer>,
}

impl Deref for Cluster {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Cluster {
    /// A node that has joined, without pods.
    #[must_use]
    pub fn new() -> Self {
        Self::with(ClusterOptions::default())
    }

    /// As [`Cluster::new`] with options.
    #[must_use]
    pub fn with(options: ClusterOptions) -> Self {
        let mut cluster = Self::without_agent(options);
        cluster.world.begin();
        cluster
    }

    /// A node whose agent was not started yet: [`Cluster::begin`] does.
    ///
    /// # Panics
    /// Without privilege.
    #[must_use]
    pub fn without_agent(options: ClusterOptions) -> Self {
        // Every frame of HTTP/2 would bury what the agent itself has to say.
        let log_level = match options.node.log_level {
            "debug" => "debug,h2=info,hyper_util=info",
            other => other,
        };
        let mut world = World::stopped(Options { pod_cidr: String::new(), log_level, ..options.node });
        let address = (Role::Outside.address(), 0);
        let listener = world.run(Role::Outside, || TcpListener::bind(address).expect("listen outside"));
        let server = Arc::new(ApiServer::on(listener, options.server));
        let mut object = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
            "spec": {"podCIDR": POD_CIDR, "podCIDRs": [POD_CIDR]},
        });
        merge(&mut object, &options.node_object);
        server.create("nodes", object).expect("the Node object");
        let (user, group) = (format!("system:node:{NODE}"), "system:nodes");
        let mut kubeconfig = server.kubeconfig_for(&user, &[group]);
        if options.token_file {
            let file = world.folder("token");
            std::fs::write(&file, server.token_for(&user, &[group])).expect("write the token");
            let mut config: Value = serde_json::from_str(&kubeconfig).expect("the server writes JSON");
            config["users"][0]["user"] = json!({"tokenFile": file});
            kubeconfig = config.to_string();
        }
        let file = world.folder("kubeconfig");
        std::fs::write(&file, kubeconfig).expect("write the kubeconfig");
        world.options.config.get_or_insert_default().push_str(&format!("\nkubeconfig: {}\n", file.display()));
        Self { world, server }
    }

    /// Starts the agent of [`Cluster::without_agent`].
    pub fn begin(&mut self) {
        self.world.begin();
    }

    /// Creates the objects of a YAML text, pods bound to the node unless they say where;
    /// gives the last one as stored.
    ///
    /// # Panics
    /// The server refuses one.
    pub fn create(&self, yaml: &str) -> Value {
        let mut stored = Value::Null;
        for mut object in objects(yaml) {
            let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
            if kind == "pod" && object["spec"]["nodeName"].is_null() {
                object["spec"]["nodeName"] = json!(NODE);
            }
            stored = self.server.create(&format!("{kind}s"), object).expect("the server takes the object");
        }
        stored
    }

    /// A pod of the namespace `default` at the API server.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn object(&self, pod: &str) -> Value {
        self.server.get("pods", "default", pod).unwrap_or_else(|| panic!("no pod {pod} at the API server"))
    }

    /// Waits until the API server has a pod of the namespace `default` as `is` says.
    ///
    /// # Panics
    /// It does not become so; the message has what there is to know of the node.
    pub fn wait_object(&self, pod: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.world.wait_until(&format!("the API server has pod {pod} {what}"), || {
            self.server.get("pods", "default", pod).filter(|object| is(object))
        })
    }

    /// Waits until the API server has the pod as Ready.
    pub fn wait_ready_object(&self, pod: &str) -> Value {
        self.wait_object(pod, "Ready", |object| condition(object, "Ready")["status"] == "True")
    }

    /// Waits until nothing has a pod of the namespace `default`: neither the API server nor the node.
    pub fn wait_all_gone(&self, pod: &str) {
        self.wait_until(&format!("the API server has pod {pod} no more"), || {
            self.server.get("pods", "default", pod).is_none().then_some(())
        });
        self.wait_gone(pod);
    }

    /// Tells a pod to go, with its own grace or another in seconds.
    ///
    /// # Panics
    /// The server refuses.
    pub fn delete_pod(&self, pod: &str, grace: Option<i64>) {
        self.server.delete("pods", "default", pod, grace).expect("the server takes the deletion");
    }

    /// Requests of the node for a verb on `pods`, `pods/status`, … since the server has begun,
    /// or since `ApiServer::forget_requests`.
    #[must_use]
    pub fn asked(&self, verb: &str, resource: &str) -> usize {
        self.server.count_of(verb, resource)
    }

    /// All requests that wrote pods, since the server has begun or `ApiServer::forget_requests`.
    #[must_use]
    pub fn writes(&self) -> Vec<Request> {
        let writes = |one: &Request| one.verb != "get" && one.verb != "list" && one.verb != "watch";
        let pods = |one: &Request| one.resource == "pods" && writes(one);
        self.server.requests().into_iter().filter(pods).collect()
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("pods at the API server when the test failed: {:#}", Value::Array(self.server.list("pods")));
        }
        self.server.faults().clear();
        // Listening twice is fine; a test that stopped the server may have failed.
        self.server.start_again();
        if self.world.agent.is_none() && !failed {
            self.world.start();
        }
        for entry in std::fs::read_dir(self.world.folder("manifests")).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
        for pod in self.server.list("pods") {
            let meta = &pod["metadata"];
            let name = |key: &str| meta[key].as_str().unwrap_or_default().to_owned();
            // One that goes meanwhile is what is wanted.
            let _ = self.server.delete("pods", &name("namespace"), &name("name"), None);
        }
        if self.world.agent.is_some() && !failed {
            let gone = crate::wait_for(|| self.server.list("pods").is_empty().then_some(()));
            assert!(gone.is_some(), "pods stay at the API server: {:#}", Value::Array(self.server.list("pods")));
        }
    }
}

/// A condition of a pod; null when it has none of this type.
#[must_use]
pub fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    let mut all = pod["status"]["conditions"].as_array().into_iter().flatten();
    all.find(|condition| condition["type"] == *kind).unwrap_or(&Value::Null)
}

/// A container's status; null when it has none.
#[must_use]
pub fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["containerStatuses", "initContainerStatuses"].into_iter();
    let mut all = lists.flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    all.find(|container| container["name"] == *name).unwrap_or(&Value::Null)
}

/// The documents of a YAML text.
pub(crate) fn objects(yaml: &str) -> Vec<Value> {
    let documents = yaml.split("---\n").filter(|document| !document.trim().is_empty());
    documents.map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))).collect()
}

pub(crate) fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
