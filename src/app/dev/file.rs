//! The files that a user would write for what `ringway dev` runs, and what to try with it.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::stores::Shards;
use super::{DEV_FOLDER, DevArguments};
use crate::app::error::AppError;

/// The ports of the first node that are tried first: data, telemetry, admin, peers. The n-th node
/// tries those that are further on by `PORT_STEPS`.
const PORTS: [u16; 4] = [8080, 9600, 9601, 9602];

/// Replicas of an object, if there are as many shards.
const REPLICAS_MAX: usize = 3;

/// From one node to the next.
const PORT_STEPS: [u16; 4] = [1, 10, 10, 10];

/// Where one node of `dev` listens; 0 is a port that the system chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    data: u16,
    telemetry: u16,
    admin: u16,
    /// Other nodes remember it, so it is never one that changes from start to start.
    peer: Option<u16>,
}

/// One node of `dev`: its name, its folder and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its data_dir.
    pub folder: PathBuf,
    /// Its configuration.
    pub file: PathBuf,
}

impl Place {
    /// The places of `count` nodes. One alone has the names that it always had.
    #[must_use]
    pub fn all(folder: &Path, count: u16) -> Vec<Self> {
        let named = |name: String| Self {
            folder: folder.join(&name),
            file: folder.join(format!("{name}.yaml")),
            name,
        };
        match count {
            0 | 1 => vec![Self {
                name: "dev".to_owned(),
                folder: folder.join("node"),
                file: folder.join("ringway.yaml"),
            }],
            more => (1..=more).map(|number| named(format!("n{number}"))).collect(),
        }
    }
}

/// Chooses the ports of the `index`-th of several nodes, or of the only one: the usual ones where
/// they are free.
///
/// # Errors
/// When the port for peers that was chosen at the first start cannot be read or written.
pub fn ports(
    place: &Place,
    index: u16,
    alone: bool,
    asked: Option<u16>,
) -> Result<Ports, AppError> {
    let usual = |which: usize| PORTS[which] + index * PORT_STEPS[which];
    let or_any = |port| if free(port) { port } else { 0 };
    let data = match asked {
        Some(0) => 0,
        Some(port) => port.saturating_add(index),
        None => or_any(usual(0)),
    };
    let peer = if alone { None } else { Some(peer_port(place, usual(3))?) };
    Ok(Ports { data, telemetry: or_any(usual(1)), admin: or_any(usual(2)), peer })
}

fn free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The port for peers.
fn peer_port(place: &Place, usual: u16) -> Result<u16, AppError> {
    let folder = &place.folder;
    std::fs::create_dir_all(folder).map_err(AppError::system(folder.display().to_string()))?;
    kept_port(&folder.join("peer.port"), usual)
}

/// A port that others remember: the one that stands in `file`, or else one that is free now, the
/// usual one if it is, and stands there from now on.
///
/// # Errors
/// When the file cannot be read or written.
pub fn kept_port(file: &Path, usual: u16) -> Result<u16, AppError> {
    let told = |error| AppError::System { what: file.display().to_string(), error };
    if let Ok(text) = std::fs::read_to_string(file)
        && let Ok(port) = text.trim().parse()
    {
        return Ok(port);
    }
    let port = match usual != 0 && free(usual) {
        true => usual,
        false => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| Ok(socket.local_addr()?.port()))
            .map_err(told)?,
    };
    std::fs::write(file, format!("{port}\n")).map_err(told)?;
    Ok(port)
}

/// The file that a user would write for this node. `first_peer` is where the first node takes in
/// others.
#[must_use]
pub fn configuration(
    place: &Place,
    shards: &Shards,
    ports: Ports,
    first_peer: Option<u16>,
) -> String {
    let Ports { data, telemetry, admin, peer } = ports;
    let mut text = format!(
        "# Written by `ringway dev` at each start. Copy it to begin a file of your own.\n\
         node:\n  name: {}\n  data_dir: {}\n\
         listen:\n  data: 127.0.0.1:{data}\n  telemetry: 127.0.0.1:{telemetry}\n  admin: 127.0.0.1:{admin}\n",
        place.name,
        serde_json::Value::String(place.folder.display().to_string())
    );
    if let (Some(peer), Some(first)) = (peer, first_peer) {
        write!(text, "  peer: 127.0.0.1:{peer}\ncluster:\n  join: [127.0.0.1:{first}]\n")
            .expect("a string takes all");
    }
    text.push_str("log: { level: warn }\ndrain_delay: 0s\npools:\n");
    let replicas = shards.addresses().count().min(REPLICAS_MAX);
    let pools = [
        (
            "objects",
            format!("kind: replicated\n    replicas: {replicas}\n    consistency: quorum"),
            "each object is on several shards; a write is acknowledged by more than half of them",
        ),
        (
            "blobs",
            "kind: cache\n    immutable: true".to_owned(),
            "one copy of what can be fetched again and never changes (content-addressed), under /blobs",
        ),
    ];
    for (pool, kind, comment) in pools {
        write!(
            text,
            "  # {comment}\n  - name: {pool}\n    {kind}\n    \
             health:\n      active: {{ path: /_ringway/health, interval: 1s }}\n    shards:\n"
        )
        .expect("a string takes all");
        for (id, address) in shards.addresses() {
            writeln!(text, "      - {{ id: {id}, url: \"http://{address}\" }}")
                .expect("a string takes all");
        }
    }
    text.push_str(
        "routes:\n  - name: blobs\n    match: { path_prefix: /blobs }\n    pool: blobs\n  \
         - name: objects\n    pool: objects\n",
    );
    text
}

impl Ports {
    /// Where peers find this node, if it has any.
    #[must_use]
    pub fn peer(self) -> Option<u16> {
        self.peer
    }
}

/// What to try, as lines for a shell. `data` is the first node's data port.
#[must_use]
pub fn hints(
    folder: &Path,
    arguments: &DevArguments,
    places: &[Place],
    shards: &Shards,
    data: SocketAddr,
) -> String {
    let mut text = String::from("shards\n");
    for (id, address) in shards.addresses() {
        writeln!(text, "  {id:<9}  http://{address}").expect("a string takes all");
    }
    let (shown, program) = (folder.display(), program());
    let with_data = match arguments.temp || arguments.data != Path::new(DEV_FOLDER) {
        true => format!(" --data {shown}"),
        false => String::new(),
    };
    let first = &places[0];
    let with_node = match with_data.is_empty() && places.len() == 1 {
        true => String::new(),
        false => format!(" --data-dir {}", first.folder.display()),
    };
    let put = |body: &str| format!("curl -i -X PUT -d {body} http://{data}/hello");
    let locate = format!("{program} locate{with_node} /hello");
    let mut lines = vec![
        (put("hello"), "stored on three shards; Ringway-Consistency says how surely"),
        (format!("curl -i http://{data}/hello"), "read from one that has the newest"),
        (locate.clone(), "which shards have it, and why those"),
        (format!("{program} dev stop s2{with_data}"), "a shard goes away ..."),
        (put("changed"), "... and writes go on: two of three are enough"),
        (format!("{program} status{with_node}"), "s2 is down, and what it misses is noted"),
        (format!("{program} dev start s2{with_data}"), "it comes back ..."),
        (locate, "... and is brought the newest, in a few seconds"),
        (format!("{program} repair objects --dry-run{with_node}"), "all replicas hold the same"),
    ];
    if shards.addresses().count() != REPLICAS_MAX {
        // What the words say is true of three.
        lines.iter_mut().for_each(|(_, comment)| *comment = "");
    }
    if places.len() > 1 {
        lines.extend([
            (format!("{program} dev stop n1{with_data}"), "a node goes away; the others elect"),
            (
                format!(
                    "{program} ring weight blobs/s2 2 --now --data-dir {}",
                    places[1].folder.display()
                ),
                "and agree on changes",
            ),
            (format!("{program} dev start n1{with_data}"), "back, it learns what it missed"),
        ]);
    }
    text.push_str("\ntry, in another terminal:\n");
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, comment) in &lines {
        let line = match comment.is_empty() {
            true => format!("  {command}"),
            false => format!("  {command:<width$}  # {comment}"),
        };
        writeln!(text, "{line}").expect("a string takes all");
    }
    let kept = match arguments.temp {
        true => "everything is forgotten then".to_owned(),
        false => format!("what was stored stays in {shown}"),
    };
    writeln!(text, "Ctrl-C ends it; {kept}.").expect("a string takes all");
    text
}

/// This program, as whoever started it can name it: `cargo run` starts one that is on no path.
fn program() -> String {
    std::env::args()
        .next()
        .filter(|name| name.contains('/'))
        .unwrap_or_else(|| "ringway".to_owned())
}
