//! The command line, as clap reads it and as a person on call reads its help.

use super::agent::AgentArgs;
use super::exit;
use super::join::JoinArgs;
use super::since::Since;
use crate::api::PodName;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;

/// Where the agent listens when nothing was said.
pub const SOCKET: &str = "/run/orlop/orlop.sock";

fn top_help() -> String {
    format!(
        "Examples:
  orlop ps                                what runs on this node
  orlop describe web                      why it waits, and its events
  orlop logs -f prod/web -c app           follow a container's output
  orlop exec -it web -- sh                a shell in it
  orlop services                          frontends, backends, states
  orlop counters web                      packets, bytes, drops
  orlop tables                            how full the eBPF tables are
  orlop agent --manifests /etc/orlop/manifests
  orlop join 10.0.0.1:6443 --token …      make this machine a node of a cluster

{}",
        exit::help()
    )
}

/// Orlop turns a Linux machine into a Kubernetes worker.
///
/// `orlop agent` is the node's one program; every other command asks it, over its Unix socket, what the node does.
#[derive(Debug, Parser)]
#[command(name = "orlop", version, after_help = top_help(), max_term_width = 110)]
pub struct Cli {
    /// Socket of the agent to ask; a second node on this machine has its own.
    #[arg(
        long,
        global = true,
        env = "ORLOP_SOCKET",
        hide_env_values = true,
        default_value = SOCKET,
        value_name = "PATH",
        display_order = 100
    )]
    pub socket: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the node: its pods, their network and its Services.
    #[command(after_help = "The agent listens on RUN-DIR/orlop.sock. A flag wins over the same key in --config.
Stopping it touches no pod: they run on, and the next agent takes them over.

Example:
  orlop agent --manifests /etc/orlop/manifests --pod-cidr 10.1.0.0/24 --service-cidr 10.96.0.0/16")]
    Agent(Box<AgentArgs>),
    /// Make this machine a node of a cluster.
    #[command(
        after_help = "Verifies the cluster with the token and the hash of its CA as kubeadm does, writes kubeadm's files,
and starts the service orlop, which asks for the node's certificate. A join that was cut short is run again.

Example, with what `kubeadm token create --print-join-command` prints on the control plane:
  orlop join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:1234…"
    )]
    Join(Box<JoinArgs>),
    /// End all pods of a node and remove everything it made.
    #[command(
        after_help = "The agent must not be running. Takes the agent's own flags, or its --config, to find what it made:
pods, cgroups, links, eBPF maps and programs, and the root, state, run and log folders with images and logs.

Example:
  systemctl stop orlop && orlop reset --config /etc/orlop/config.yaml"
    )]
    Reset(Box<AgentArgs>),
    /// List pods.
    #[command(after_help = "Examples:
  orlop ps -n prod        only one namespace
  orlop ps -c             each container with its id, process id and image
  orlop ps -o json")]
    Ps(PsArgs),
    /// Print a container's log, of all its rotated files.
    #[command(after_help = "What the container wrote to stdout goes to stdout, its stderr to stderr.
With -f the command goes on across rotation and restarts, and ends when the container is gone for good.

Examples:
  orlop logs web --tail 50
  orlop logs -f prod/web -c app --since 10m
  orlop logs web --previous        the attempt that ended last: why it restarts")]
    Logs(LogsArgs),
    /// Run a command in a container.
    #[command(after_help = "Ends with the command's exit code, or 128 plus the signal that ended it.
Without -i its stdin is empty.

Examples:
  orlop exec web -- cat /etc/resolv.conf
  orlop exec -it web -c app -- sh
  tar c . | orlop exec -i web -- tar x -C /srv")]
    Exec(ExecArgs),
    /// Show everything about a pod: containers, conditions, volumes, events, why it waits.
    #[command(after_help = "Examples:
  orlop describe web
  orlop describe prod/web -o yaml")]
    Describe(DescribeArgs),
    /// List images on the node.
    Images(OutputArg),
    /// Pull an image from its registry.
    #[command(after_help = "The agent pulls, as for a pod: with mirrors and certificates of /etc/orlop/certs.d and
/etc/containerd/certs.d, and with the node's credentials, which come after those of --creds.

Examples:
  orlop pull busybox:1.36
  orlop pull registry.example/team/app@sha256:…
  orlop pull registry.example/team/app:1 --creds me < password")]
    Pull(PullArgs),
    /// Load images from an OCI layout or archive.
    #[command(after_help = "Examples:
  orlop load app.tar
  orlop load ./layout --name registry.example/app:1.2")]
    Load(LoadArgs),
    /// List Services with their frontends, backends and states.
    #[command(after_help = "States: active takes new connections; active-terminating does because no other is left;
standby is ready and not used by this node (others are nearer, or local); draining only keeps the connections
it has; not-ready takes none. A frontend without a backend refuses connections. POLICY is what is not as usual:
external=Local and internal=Local lead to this node's backends only, affinity=SECONDS keeps a client's backend,
from=NETWORKS are the clients that a load balancer's address serves, health=PORT is asked by load balancers.
Ports of the node that lead to a pod (hostPort) come after the Services.")]
    Services(ServicesArgs),
    /// Show packets, bytes, connections and drops, by pod and by Service backend.
    #[command(after_help = "Examples:
  orlop counters
  orlop counters prod/web --exact
  orlop counters -o json")]
    Counters(CountersArgs),
    /// Show how full the tables of the eBPF programs are.
    #[command(
        after_help = "FAILED INSERTS is what the programs could not put into a table since it was made. FLOWS, SOCKETS,
UDP_PEERS, AFFINITY and FRAGMENTS forget what was used least when they are full. More room: mapEntries in
OrlopConfiguration, which counts when a map is made anew, after a reboot or `orlop reset`."
    )]
    Tables(OutputArg),
    /// Show the node: addresses, ranges, trouble with manifests.
    Node(OutputArg),
    /// Print a completion script.
    #[command(after_help = "Examples:
  orlop completions bash > /etc/bash_completion.d/orlop
  orlop completions zsh > /usr/local/share/zsh/site-functions/_orlop
  orlop completions fish > ~/.config/fish/completions/orlop.fish")]
    Completions {
        /// For which shell.
        shell: CompletionShell,
    },
    /// Print the version of this program and of the agent that runs.
    Version,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Shells with a completion script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletionShell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// `-o`.
#[derive(Debug, Args)]
pub struct OutputArg {
    /// How to print: table, json or yaml.
    #[arg(
        short,
        long = "output",
        value_enum,
        default_value = "table",
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub output: Format,
}

/// `-n` of a listing.
#[derive(Debug, Args)]
pub struct NamespaceFilter {
    /// Only this namespace; all of them when not said.
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// A pod: `web`, `web -n prod` or `prod/web`.
#[derive(Debug, Args)]
pub struct PodArg {
    /// Pod, as NAME or NAMESPACE/NAME.
    #[arg(value_name = "POD")]
    pub pod: PodText,
    /// Its namespace; `default` when not said.
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// A pod as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodText {
    namespace: Option<String>,
    name: String,
}

/// A pod as typed that is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pod is NAME or NAMESPACE/NAME")]
pub struct PodTextError;

impl FromStr for PodText {
    type Err = PodTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `kubectl get -o name` gives `pod/web`, but a namespace may be called `pod` too: take it as a namespace.
        match text.split_once('/') {
            None if !text.is_empty() => Ok(Self { namespace: None, name: text.into() }),
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: Some(namespace.into()), name: name.into() })
            }
            _ => Err(PodTextError),
        }
    }
}

impl PodText {
    /// The pod, in the namespace it names itself or the one of `-n`.
    ///
    /// # Errors
    /// [`exit::CliError::Usage`] when the two differ.
    pub fn resolve(&self, namespace: Option<&str>) -> Result<PodName, exit::CliError> {
        match (self.namespace.as_deref(), namespace) {
            (Some(own), Some(said)) if own != said => {
                Err(exit::CliError::Usage(format!("{own}/{} is not in the namespace {said} of -n", self.name)))
            }
            (own, said) => Ok(PodName { namespace: own.or(said).unwrap_or("default").into(), name: self.name.clone() }),
        }
    }
}

impl PodArg {
    /// See [`PodText::resolve`].
    ///
    /// # Errors
    /// See [`PodText::resolve`].
    pub fn resolve(&self) -> Result<PodName, exit::CliError> {
        self.pod.resolve(self.namespace.as_deref())
    }
}

/// `orlop ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Containers with their ids, process ids and images instead of pods.
    #[arg(short, long)]
    pub containers: bool,
    #[command(flatten)]
    pub filter: NamespaceFilter,
    #[command(flatten)]
    pub output: OutputArg,
}

/// `orlop logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    pub pod: PodArg,
    /// Container; may be left out when the pod has only one.
    #[arg(short, long)]
    pub container: Option<String>,
    /// Go on as the log grows.
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last LINES lines.
    #[arg(long, value_name = "LINES")]
    pub tail: Option<usize>,
    /// Print when each line was written.
    #[arg(long)]
    pub timestamps: bool,
    /// The attempt that ended last, not the one that runs.
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
    /// Only lines since then: `90s`, `5m`, `3h`, or a time as 2026-01-31T10:00:00Z.
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Since>,
}

/// `orlop exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    pub pod: PodArg,
    /// Container; the first when not said.
    #[arg(short, long)]
    pub container: Option<String>,
    /// Give the command this stdin.
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the command a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// Command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// `orlop describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    #[command(flatten)]
    pub pod: PodArg,
    #[command(flatten)]
    pub output: OutputArg,
}

/// `orlop load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Folder with an OCI layout, or an archive of one, on this node.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Name for an image that carries none.
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub output: OutputArg,
}

/// `orlop pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Image, as in a pod; a name without a registry is one of docker.io.
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Who pulls; without a password it is asked for, or read from stdin.
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub creds: Option<String>,
    #[command(flatten)]
    pub output: OutputArg,
}

/// `orlop services`.
#[derive(Debug, Args)]
pub struct ServicesArgs {
    #[command(flatten)]
    pub filter: NamespaceFilter,
    #[command(flatten)]
    pub output: OutputArg,
}

/// `orlop counters`.
#[derive(Debug, Args)]
pub struct CountersArgs {
    /// Only this pod, as NAME or NAMESPACE/NAME.
    #[arg(value_name = "POD")]
    pub pod: Option<PodText>,
    /// Its namespace; without POD, only the pods of this namespace.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Bytes as plain numbers instead of KiB, MiB, ….
    #[arg(long)]
    pub exact: bool,
    #[command(flatten)]
    pub output: OutputArg,
}
