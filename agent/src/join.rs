//! `orlop join`: makes this machine a node of a cluster, from nothing but a token.
//!
//! ```text
//!   SERVER, token, pins ── discovery ──▶ whom to trust ── with the token ──▶ KubeletConfiguration, no node of this name
//!                                                              │
//!        kubelet.conf appears ◀── the agent bootstraps ◀── service ◀── files, the token's last
//! ```
//!
//! Each step can be repeated: a join that was cut short is simply run again.

mod discovery;
mod files;
mod preflight;
mod service;
mod wait;

use crate::cli::JoinArgs;
use anyhow::{Context, Result, bail};
use files::Planned;
use orlop_apiclient::{Bearer, Client, Pem, Secret, Settings};
use orlop_pki::{BootstrapToken, CaPins, ClusterInfo, JoinFiles};
use service::Start;

/// Joins, and waits until the node is registered.
///
/// # Errors
/// What is in the way, and what to do about it.
pub(crate) fn join(args: JoinArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(run(&args))
}

async fn run(args: &JoinArgs) -> Result<()> {
    let files = JoinFiles::new(&args.kubernetes_dir, &args.root_dir);
    if files.joined() {
        bail!(
            "this machine is a node already: {} is there. To leave that cluster, delete its Node with kubectl, then \
             `systemctl stop orlop` and `orlop reset`",
            files.kubeconfig.display()
        );
    }
    let node_name = args.node_name.clone().map_or_else(crate::config::default_node_name, Ok)?;
    let pins = CaPins::parse(&args.discovery_token_ca_cert_hash)?;
    let info = discovery::discover(&args.server, &args.token, &pins).await?;
    let client = with_token(&info, &args.token)?;
    let configuration = preflight::configuration(&client, args, &files).await?;
    preflight::no_other_node(&client, &node_name).await?;
    let planned = Planned { files: &files, flags: files::flags(args), root_dir: &args.root_dir };
    let start = Start::choose(args, &files)?;
    if args.dry_run {
        println!("{}", planned.in_words(&info, &configuration));
        println!("{}", start.in_words());
        return Ok(());
    }
    planned.write(&info, &args.token, &configuration)?;
    println!("written: {}, {}", files.configuration.display(), files.bootstrap_kubeconfig.display());
    if !start.carry_out()? {
        println!("{}", start.in_words());
        return Ok(());
    }
    wait::for_node(&files, &node_name).await
}

/// With the token, to the server that cluster-info names, which may be another than the one that was asked.
fn with_token(info: &ClusterInfo, token: &BootstrapToken) -> Result<Client> {
    let mut settings = Settings::new(&info.server);
    settings.authority = Some(Pem::Data(info.ca_pem.clone().into_bytes()));
    settings.bearer = Bearer::Token(Secret::new(token.reveal()));
    Ok(Client::new(settings)?)
}
