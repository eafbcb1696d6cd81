//! What does the file mean, once every word of it was found to be right?
//!
//! Each room gets its part of a [`Config`] as a finished value; nothing here is text that someone
//! must still understand. Every type has the defaults of its section.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::cluster::{ClusterState, Desired, DesiredPool, PoolSpec, Role, ShardSpec, drift};
use crate::ids::{BaseUrl, NodeName, PeerAddress, PoolName, ShardId, Zone};
use crate::limits::{
    ClientLimits, ClientTimeouts, KeptSettings, PoolLimits, RetryPolicy, UpstreamTimeouts,
};
use crate::protocol::health::HealthSettings;
use crate::route::RouteSpec;

/// Virtual nodes per unit of weight unless a pool says otherwise.
pub const VNODES_DEFAULT: u16 = 256;

/// Everything that one file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The process itself.
    pub node: NodeConfig,
    /// Where it listens.
    pub listen: ListenConfig,
    /// What it says about itself, on standard error.
    pub log: LogConfig,
    /// What it says about each request. `None` says nothing.
    pub access_log: Option<AccessLogConfig>,
    /// How long a process that was told to stop still takes connections, saying at `/readyz` that
    /// it is going. Answers ask clients to close their connections meanwhile.
    pub drain_delay: Duration,
    /// How long requests in flight may take to end once the process was told to stop; what is
    /// left is cut off. Zero cuts at once.
    pub drain_timeout: Duration,
    /// How requests are traced. `None`: not at all.
    pub tracing: Option<TracingConfig>,
    /// What clients may do.
    pub client: ClientConfig,
    /// How the node takes part in a cluster. `None`: it is standalone.
    pub cluster: Option<ClusterConfig>,
    /// The pools in the order of the file; without a cluster at least one. No two share a name.
    pub pools: Vec<PoolConfig>,
    /// The routes in the order in which they are tried, at least one. No two share a name. Without
    /// a cluster each leads to one of `pools`.
    pub routes: Vec<RouteSpec>,
}

/// The process itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its label in logs, metrics and `Via`. `None`: the host's name.
    pub name: Option<NodeName>,
    /// Where it keeps its epoch and its admin token. Relative to the working directory.
    pub data_dir: PathBuf,
    /// How many threads serve requests.
    pub workers: Workers,
    /// Its failure domain: of the replicas that may answer a read, those there are asked first.
    pub zone: Option<Zone>,
}

/// How many threads serve requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One for each core that the process may use.
    Auto,
    /// So many.
    Fixed(NonZeroU16),
}

impl Default for NodeConfig {
    fn default() -> Self {
        let data_dir = PathBuf::from("./ringway-data");
        Self { name: None, data_dir, workers: Workers::Auto, zone: None }
    }
}

/// Where a process listens. No two addresses are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenConfig {
    /// For clients; at least one.
    pub data: Vec<DataListener>,
    /// For metrics and health. `None`: nowhere.
    pub telemetry: Option<SocketAddr>,
    /// For the operator. `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// For the other nodes. `None` exactly if there is no cluster.
    pub peer: Option<SocketAddr>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (telemetry, admin) = (Some(local(9600)), Some(local(9601)));
        let data = vec![DataListener::clear(local(8080))];
        Self { data, telemetry, admin, peer: None }
    }
}

/// One address at which clients are listened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataListener {
    /// Where.
    pub address: SocketAddr,
    /// How it speaks TLS. `None`: in the clear.
    pub tls: Option<ListenerTls>,
    /// Whether each connection must begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

impl DataListener {
    /// In the clear, for clients without a proxy between.
    #[must_use]
    pub fn clear(address: SocketAddr) -> Self {
        Self { address, tls: None, proxy_protocol: false }
    }
}

/// How a listener speaks TLS. Paths are relative to the working directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenerTls {
    /// At least one. A client is shown the one for the name that it asks for, or the first.
    pub certificates: Vec<CertificateFiles>,
    /// The authorities that sign for clients. There exactly if clients are asked.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show certificates.
    pub client_certificates: ClientCertificates,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, perhaps with those that lead to its authority, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked; one that is shown must be good.
    Optional,
    /// No connection without a good one.
    Required,
}

/// What a process says about itself, on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// The least important messages that are written.
    pub level: LogLevel,
    /// Their form.
    pub format: LogFormat,
}

/// How important a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Something failed that somebody must look at.
    Error,
    /// Something is not as it should be.
    Warn,
    /// Something changed.
    #[default]
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// The form of the process's own messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What a process says about each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// The form of a line.
    pub format: AccessLogFormat,
    /// Where the lines go.
    pub target: AccessLogTarget,
}

/// The form of a line of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object.
    Json,
    /// The Common Log Format.
    Common,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// A file, which is appended to. Relative to the working directory.
    File(PathBuf),
}

/// How requests are traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingConfig {
    /// Where an OpenTelemetry collector takes spans; not by TLS.
    pub otlp: BaseUrl,
    /// Of the requests that bring no trace along, how many are recorded; 0 to 100.
    pub sample_percent: u8,
}

/// What clients may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientConfig {
    /// What becomes of the `X-Forwarded-…` fields that they send.
    pub forwarded: ForwardedRule,
    /// In which fields shards are told of them.
    pub forwarded_fields: ForwardedFields,
    /// What they may send.
    pub limits: ClientLimits,
    /// How long they may take.
    pub timeouts: ClientTimeouts,
}

/// What becomes of the `X-Forwarded-…` fields that clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedRule {
    /// They are replaced by what this node sees: clients are not trusted.
    #[default]
    Replace,
    /// They are kept and the client's address is appended: the client is a proxy of ours.
    Append,
}

/// In which fields shards are told who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedFields {
    /// `X-Forwarded-For`, `-Host` and `-Proto`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// All of them.
    Both,
}

/// How a node takes part in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How the other nodes reach this one. `None`: where it turns out to listen, since the system
    /// chooses the port.
    pub advertise: Option<PeerAddress>,
    /// Nodes that a node without an identity asks to be taken in. Never its own address.
    pub join: Vec<PeerAddress>,
    /// Whether it may vote.
    pub role: Role,
    /// How long a serving lease lasts, for a cluster that this node founds; at least four times
    /// the longest election timeout.
    pub lease: Duration,
    /// How often a leader is heard.
    pub heartbeat: Duration,
    /// How long nobody is heard before an election.
    pub election: Election,
    /// How nodes prove to each other who they are. `None` only if all addresses are of this host.
    pub tls: Option<TlsConfig>,
}

/// How long a node waits before it stands for election: each time anew between the two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Election {
    /// At least; several heartbeats.
    pub min: Duration,
    /// At most; more than `min`.
    pub max: Duration,
}

/// PEM files, as `ringway certs` makes them. Relative to the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate of the authority that all nodes' certificates are signed by.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            advertise: None,
            join: Vec::new(),
            role: Role::Voter,
            lease: Duration::from_secs(10),
            heartbeat: Duration::from_millis(150),
            election: Election { min: Duration::from_millis(500), max: Duration::from_secs(1) },
            tls: None,
        }
    }
}

/// One pool of shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Its name.
    pub name: PoolName,
    /// What all nodes must agree on.
    pub spec: PoolSpec,
    /// Whose name its shards are addressed by.
    pub host: HostRule,
    /// How its shards are judged.
    pub health: HealthSettings,
    /// How long its shards may take.
    pub timeouts: UpstreamTimeouts,
    /// What its connections may grow to.
    pub limits: PoolLimits,
    /// When requests are repeated.
    pub retry: RetryPolicy,
    /// The most that a shard may have in flight, in percent of its fair share. `None`: any.
    pub hash_balance_factor: Option<u32>,
    /// How long what a key's owner does not have is looked for where it was before. `None`: not at
    /// all. Only with immutable keys.
    pub warm_up: Option<Duration>,
    /// What this node does for it beside serving, if it keeps data.
    pub kept: KeptSettings,
    /// How shards that are reached by `https` are known.
    pub tls: PoolTlsConfig,
    /// Its shards in the order of the file: at least one, and one with a weight above zero, so
    /// that a ring can be made of them. No two share an id or a URL. Empty only in a cluster: then
    /// the file has nothing but this node's settings for the pool.
    pub shards: Vec<ShardConfig>,
}

/// How a pool's shards that are reached by `https` are known. Paths are relative to the working
/// directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolTlsConfig {
    /// A PEM file with the authorities that are trusted. `None`: the system's.
    pub ca: Option<PathBuf>,
    /// What their certificates are for. `None`: the host in the URL.
    pub server_name: Option<ServerName<'static>>,
    /// The files of certificate and key that this node shows when it is asked for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Whose name a shard is addressed by in `Host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostRule {
    /// The shard's own authority: what a server with virtual hosts expects.
    #[default]
    Shard,
    /// What the client sent: what signed requests (S3) need.
    Client,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardConfig {
    /// What its part of the ring is derived from.
    pub id: ShardId,
    /// Where it is, and what the operator wants of it.
    pub spec: ShardSpec,
}

impl Config {
    /// The pools and shards as the file wants them, for [`crate::cluster::changes`]: all of them on
    /// a standalone node; in a cluster what a new one begins with.
    #[must_use]
    pub fn desired(&self) -> Desired {
        let desired = |pool: &PoolConfig| {
            let shards = pool.shards.iter().map(|shard| (shard.id.clone(), shard.spec.clone()));
            let wanted = DesiredPool { spec: pool.spec.clone(), shards: shards.collect() };
            (pool.name.clone(), wanted)
        };
        self.pools.iter().filter(|pool| !pool.shards.is_empty()).map(desired).collect()
    }

    /// What differs between the file's pools and those that are agreed, in sentences. Nothing on a
    /// standalone node, which does what its file says, nor for a file that leaves the pools to the
    /// cluster.
    #[must_use]
    pub fn drift(&self, agreed: &ClusterState) -> Vec<String> {
        if self.cluster.is_none() || self.pools.is_empty() {
            return Vec::new();
        }
        let settings_only = self.pools.iter().filter(|pool| pool.shards.is_empty());
        let settings_only = settings_only.map(|pool| pool.name.clone()).collect();
        drift(agreed, &self.desired(), &settings_only)
    }
}
