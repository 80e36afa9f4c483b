//! A node that is part of a cluster.

use crate::world::{Options, Role, World};
use orlop_apiserver::ApiServer;
use std::fs;
use std::net::TcpListener;

impl World {
    /// A node with a running agent that is told of an API server, which listens in the
    /// node's network namespace. Its pod CIDR is the server's to give.
    ///
    /// # Panics
    /// Without privilege.
    #[must_use]
    pub fn joined(server: orlop_apiserver::Options, options: Options) -> (ApiServer, Self) {
        // Every frame of HTTP/2 would bury what the agent itself has to say.
        let log_level = if options.log_level == "debug" { "debug,h2=info,hyper_util=info" } else { options.log_level };
        let mut world = Self::stopped(Options { pod_cidr: String::new(), log_level, ..options });
        let listener = world.run(Role::Node, || TcpListener::bind(("127.0.0.1", 0)));
        let api = ApiServer::on(listener.expect("listen in the node's namespace"), server);
        let kubeconfig = world.places.sub("kubeconfig");
        fs::write(&kubeconfig, api.kubeconfig_for("system:node:n1", &["system:nodes"])).expect("write the kubeconfig");
        let config = world.options.config.get_or_insert_default();
        config.push_str(&format!("\nkubeconfig: {}\n", kubeconfig.display()));
        world.begin();
        (api, world)
    }
}
