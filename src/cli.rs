//! What did the operator type?
//!
//! The command line and nothing else: each command hands what was said to its module in `app`.

mod cluster;
mod ring;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::cluster::ClusterCommand;
use self::ring::RingCommand;
use crate::app::certs::{self, CertsArguments, NodeHosts};
use crate::app::client::Client;
use crate::app::dev::{self, DEV_FOLDER, DevArguments};
use crate::app::error::AppError;
use crate::app::locate::{self, Question};
use crate::app::say::complain;
use crate::app::store::{self, StoreArguments};
use crate::app::{check, repair, serve, status};
use crate::ids::PoolName;
use crate::net::tls::{ClientCertificates, ListenerFiles};
use crate::store::Fsync;

/// A consistent-hashing sharding proxy in front of HTTP storage backends.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a proxy and its shards in one process, to try things.
    Dev(Dev),
    /// Run a proxy over the shards that a file names.
    Serve {
        #[command(flatten)]
        file: File,
    },
    /// Run the embedded storage backend as a process of its own.
    Store(Store),
    /// Say what a file means, or everything that is wrong with it.
    Check {
        #[command(flatten)]
        file: File,
    },
    /// Print a JSON Schema of the configuration, by which editors complete and check it.
    Schema,
    /// Say which shard owns a key, and why.
    Locate(Locate),
    /// Show how a running node and its shards do.
    Status {
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Show and change the ring: pools, shards, weights.
    #[command(subcommand)]
    Ring(RingCommand),
    /// Found a cluster, join one, and look after its nodes.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Compare all replicas of a pool, bring each to the newest, and watch it.
    Repair {
        /// A pool that keeps data.
        #[arg(value_name = "POOL", value_parser = PoolName::new)]
        pool: PoolName,
        /// Only look: say what differs, and copy nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
    /// Make the certificates by which the nodes of a cluster trust each other.
    Certs(Certs),
    /// Have a running node read its file again, as SIGHUP does.
    Reload {
        #[command(flatten)]
        node: RunningNode,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct File {
    /// The configuration.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Output {
    /// Print the node's whole answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RunningNode {
    /// The node's folder, where its admin address and token are found; ./ringway-data or, if that
    /// is not there, the folder of `ringway dev`.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The node's admin address, if it is not to be looked up in its folder.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
}

impl RunningNode {
    /// The node that was named, or the one that is likeliest meant.
    fn client(&self) -> Result<Client, AppError> {
        let (served, tried) = (Path::new("./ringway-data"), Path::new(DEV_FOLDER));
        match &self.data_dir {
            Some(folder) => Client::of(self.admin, folder),
            None if served.exists() || !tried.exists() => Client::of(self.admin, served),
            None => {
                let (folder, address) = dev::a_node(tried)?;
                Client::of(self.admin.or(Some(address)), &folder)
            }
        }
    }
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
struct Dev {
    /// Folder of the data; made if it does not exist.
    #[arg(long, value_name = "DIR", default_value = DEV_FOLDER)]
    data: PathBuf,
    /// Keep the data in a temporary folder that is removed at the end.
    #[arg(long, conflicts_with = "data")]
    temp: bool,
    /// How many shards.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    /// How many nodes; more than one are a cluster.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(dev::NODES_MAX)))]
    nodes: u16,
    /// Port for clients; 8080, or a free one if that is in use.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    #[command(subcommand)]
    verb: Option<DevVerb>,
}

#[derive(Debug, Subcommand)]
enum DevVerb {
    /// Stop a node or an embedded store of the running `ringway dev`.
    Stop(DevPart),
    /// Start it again.
    Start(DevPart),
}

#[derive(Debug, Args)]
struct DevPart {
    /// The id of a node or a shard, as `n1` or `s2`.
    id: String,
    /// Folder that `ringway dev` was started with.
    #[arg(long, value_name = "DIR", default_value = DEV_FOLDER)]
    data: PathBuf,
}

#[derive(Debug, Args)]
struct Store {
    /// Address to listen on, as IP:PORT; port 0 takes any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Address for /metrics, /livez and /readyz; none unless given.
    #[arg(long, value_name = "ADDR")]
    telemetry: Option<SocketAddr>,
    /// Folder of the data; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// When a write counts as durable.
    #[arg(long, value_enum, default_value_t = FsyncArgument::Always)]
    fsync: FsyncArgument,
    /// With `--fsync interval`: milliseconds between two syncs.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    fsync_interval_ms: u64,
    /// In how many days each value of a pool that keeps data is read once and compared with what was
    /// taken in, so that bytes which rot are noticed; 0 for never.
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    scrub_days: u16,
    /// Certificate of the store, and those that lead to its authority: it is then spoken to by
    /// `https://`. Read again on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Authorities whose clients' certificates are good: nobody connects without one.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// Beyond loopback: serve shards of pools that keep data to whoever connects. For networks where
    /// only nodes can.
    #[arg(long, conflicts_with = "client_ca")]
    insecure: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FsyncArgument {
    /// Before it is acknowledged.
    Always,
    /// After a while; a crash takes back what was acknowledged since.
    Interval,
    /// Never by our doing; a crash of the machine may cost the whole folder.
    Never,
}

#[derive(Debug, Args)]
struct Certs {
    /// Folder of the certificates; made if it does not exist. With an authority in it from before,
    /// that signs the new ones.
    #[arg(long, value_name = "DIR", default_value = "./ringway-certs")]
    out: PathBuf,
    /// The nodes, each with the names and addresses by which the others reach it.
    #[arg(long, value_name = "NAME=HOST[,HOST]", required = true, num_args = 1..)]
    nodes: Vec<NodeHosts>,
    /// For how many days they are good.
    #[arg(long, value_name = "N", default_value_t = 1095, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

#[derive(Debug, Args)]
struct Locate {
    /// Answer from this file alone, as a node with an empty folder would; otherwise a running node
    /// is asked.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["data_dir", "admin", "at", "json"])]
    config: Option<PathBuf>,
    /// Request targets: paths, perhaps with a query.
    #[arg(value_name = "KEY", required = true)]
    targets: Vec<String>,
    /// Take the keys as they are hashed, in this pool, and ask no route.
    #[arg(long, value_name = "POOL", value_parser = PoolName::new)]
    pool: Option<PoolName>,
    /// Under an earlier epoch of the pool, as far as the node remembers.
    #[arg(long, value_name = "EPOCH")]
    at: Option<u64>,
    /// The method that routes may look at.
    #[arg(long, default_value = "GET")]
    method: String,
    /// The host that routes may look at.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// A field that routes or key rules may look at; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// How many shards beyond the owner to name.
    #[arg(long, value_name = "N", default_value_t = 3)]
    next: usize,
    #[command(flatten)]
    node: RunningNode,
    #[command(flatten)]
    output: Output,
}

fn locate(arguments: &Locate) -> Result<(), AppError> {
    let question = Question {
        targets: &arguments.targets,
        pool: arguments.pool.as_ref(),
        at: arguments.at,
        method: &arguments.method,
        host: &arguments.host,
        fields: &arguments.headers,
        next: arguments.next,
    };
    match &arguments.config {
        Some(file) => locate::from_file(file, &question),
        None => locate::from_node(&arguments.node.client()?, &question, arguments.output.json),
    }
}

/// Runs what the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(AppError::Config(diagnostics)) => {
            complain(&diagnostics.to_string());
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&format!("ringway: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), AppError> {
    match command {
        Command::Dev(Dev { verb: Some(DevVerb::Stop(part)), .. }) => {
            dev::switch(&part.data, &part.id, false)
        }
        Command::Dev(Dev { verb: Some(DevVerb::Start(part)), .. }) => {
            dev::switch(&part.data, &part.id, true)
        }
        Command::Dev(Dev { data, temp, shards, nodes, port, verb: None }) => {
            dev::run(&DevArguments { data, temp, shards, nodes, port })
        }
        Command::Serve { file } => serve::run(&file.config),
        Command::Store(arguments) => store::run(StoreArguments {
            listen: arguments.listen,
            telemetry: arguments.telemetry,
            data: arguments.data,
            fsync: match arguments.fsync {
                FsyncArgument::Always => Fsync::Always,
                FsyncArgument::Interval => {
                    Fsync::Interval(Duration::from_millis(arguments.fsync_interval_ms))
                }
                FsyncArgument::Never => Fsync::Never,
            },
            scrub: match arguments.scrub_days {
                0 => None,
                days => Some(Duration::from_secs(u64::from(days) * 24 * 3600)),
            },
            tls: arguments.tls_cert.zip(arguments.tls_key).map(|pair| ListenerFiles {
                certificates: vec![pair],
                client_certificates: match arguments.client_ca {
                    Some(_) => ClientCertificates::Required,
                    None => ClientCertificates::Off,
                },
                client_ca: arguments.client_ca,
            }),
            insecure: arguments.insecure,
        }),
        Command::Check { file } => check::run(&file.config),
        Command::Schema => check::schema(),
        Command::Locate(arguments) => locate(&arguments),
        Command::Status { node, output } => status::run(&node.client()?, output.json),
        Command::Ring(command) => ring::run(command),
        Command::Cluster(command) => cluster::run(command),
        Command::Certs(Certs { out, nodes, days }) => {
            certs::run(&CertsArguments { out, nodes, days })
        }
        Command::Repair { pool, dry_run, node, output } => {
            repair::run(&node.client()?, &pool, dry_run, output.json)
        }
        Command::Reload { node, output } => status::reload(&node.client()?, output.json),
    }
}
