//! A cluster of real processes, and what an operator and a bad day do to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::links::{Links, Sources};
use crate::said::{Ledger, Outcome, View, act};
use crate::support::backend::Backend;
use crate::support::http::{Answer, get};
use crate::support::net::lasting_address;
use crate::support::process::{Said, run};
use crate::support::ringway::{Serve, ringway, ringway_says};
use crate::support::wait::until_within;

/// Within this, three nodes come to an agreement on a machine that is busy with other tests.
pub const AGREEMENT_MAX: Duration = Duration::from_secs(30);

/// So much longer, so that a message that says more comes first.
const SPARE: Duration = Duration::from_secs(10);

/// The one pool. Few tokens, so that a change costs little and what is measured is the agreement.
pub const POOL: &str = "objects";

/// What a cluster is made of.
pub struct Setup {
    /// Nodes that vote.
    pub voters: usize,
    /// Nodes that do not.
    pub observers: usize,
    /// The lease in seconds: at least four times the longest election time-out.
    pub lease_s: u64,
    /// How long nodes wait before they elect. A longer time where a test says that nobody does: on a
    /// machine that does much else, a leader may be silent for half a second.
    pub election: &'static str,
    /// What is needed for nodes to meet through wires that can be cut; without, there are none.
    pub wired: Option<Sources>,
    /// Shards of the pool, each of weight 100.
    pub shards: usize,
}

impl Setup {
    /// One in which nobody elects who has heard of the leader within some seconds.
    pub fn calm() -> Self {
        Self { lease_s: 8, election: "1500ms-2s", ..Self::default() }
    }
}

impl Default for Setup {
    fn default() -> Self {
        let election = "500ms-1s";
        Self { voters: 3, observers: 0, lease_s: 4, election, wired: None, shards: 3 }
    }
}

/// Some nodes in one cluster.
pub struct Cluster {
    /// Its nodes; the first founded it.
    pub members: Vec<Member>,
    /// The wires between them, if they have any.
    pub links: Option<Links>,
    /// The wires from each node to each shard, if a test put some there.
    pub views: Option<Links>,
    /// The shards of the pool.
    pub shards: Vec<Backend>,
    ledger: Mutex<Ledger>,
}

/// One node.
pub struct Member {
    /// Its label.
    pub name: String,
    /// Where clients go; the same after each start.
    pub data: SocketAddr,
    /// Where it listens for peers; the same after each start.
    pub peer: SocketAddr,
    /// What its file says beside `node` and `listen`.
    pub rest: String,
    /// What is set in its environment.
    pub environment: Vec<(String, PathBuf)>,
    life: Life,
    starts: usize,
}

enum Life {
    Runs(Box<Serve>),
    Is(TempDir),
    /// Between two states.
    Changes,
}

impl Member {
    /// A node that was not started yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            data: lasting_address(),
            peer: lasting_address(),
            rest: String::new(),
            environment: Vec::new(),
            life: Life::Is(tempfile::tempdir().expect("a folder")),
            starts: 0,
        }
    }

    /// Starts it.
    #[track_caller]
    pub fn start(&mut self) {
        let Life::Is(folder) = std::mem::replace(&mut self.life, Life::Changes) else {
            panic!("{} runs", self.name);
        };
        self.write(folder.path());
        let mut command = ringway();
        command.envs(self.environment.iter().cloned());
        self.starts += 1;
        self.life = Life::Runs(Box::new(Serve::start_prepared(&self.name, folder, &mut command)));
    }

    /// Starts it and waits until it has ended, as it should; what it said on standard error.
    #[track_caller]
    pub fn start_in_vain(&mut self) -> String {
        let file = self.folder().join("ringway.yaml");
        let said = run(&self.name, ringway().args(["serve", "-c"]).arg(&file));
        assert!(!said.success, "{} starts: {}", self.name, said.stdout);
        said.stderr
    }

    fn write(&self, folder: &Path) {
        let text = format!(
            "node: {{ name: {}, data_dir: {}, workers: 1 }}\nlisten: {{ data: \"{}\", telemetry: \
             \"127.0.0.1:0\", admin: \"127.0.0.1:0\", peer: \"{}\" }}\ndrain_timeout: 5s\n{}",
            self.name,
            folder.join("node").display(),
            self.data,
            self.peer,
            self.rest
        );
        std::fs::write(folder.join("ringway.yaml"), text).expect("the file can be written");
    }

    /// The running process.
    #[track_caller]
    pub fn serve(&self) -> &Serve {
        match &self.life {
            Life::Runs(serve) => serve,
            _ => panic!("{} does not run", self.name),
        }
    }

    /// The same, to be ended.
    #[track_caller]
    pub fn serve_mut(&mut self) -> &mut Serve {
        match &mut self.life {
            Life::Runs(serve) => serve,
            _ => panic!("{} does not run", self.name),
        }
    }

    /// Whether it was started and not ended since.
    pub fn runs(&self) -> bool {
        matches!(self.life, Life::Runs(_))
    }

    /// Its folder, whether it runs or not.
    pub fn folder(&self) -> &Path {
        match &self.life {
            Life::Runs(serve) => serve.folder(),
            Life::Is(folder) => folder.path(),
            Life::Changes => unreachable!("no start and no end is under way"),
        }
    }

    /// Has it ask this node, and no other, to be let in.
    pub fn join_instead(&mut self, peer: SocketAddr) {
        let (_, after) = self.rest.split_once(']').expect("a list of nodes");
        self.rest = format!("cluster: {{ join: [\"{peer}\"]{after}");
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("node")
    }

    /// kill -9.
    pub fn kill_9(&mut self) {
        if let Life::Runs(serve) = std::mem::replace(&mut self.life, Life::Changes) {
            self.life = Life::Is(serve.into_folder());
        } else {
            panic!("{} does not run", self.name);
        }
    }

    /// SIGTERM, until it has ended in good order.
    #[track_caller]
    pub fn terminate(&mut self) {
        let serve = self.serve_mut();
        serve.process.signal(Signal::TERM);
        let status = serve.process.ended();
        assert!(status.success(), "{}: {status}: {}", self.name, self.serve().process.stderr());
        self.kill_9();
    }

    /// Stops it where it stands, until [`wake`](Self::wake).
    pub fn freeze(&self) {
        self.serve().process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn wake(&self) {
        self.serve().process.signal(Signal::CONT);
    }

    /// Which start of which node this is.
    fn life_name(&self) -> String {
        format!("{} (start {})", self.name, self.starts)
    }

    /// The token of its operators.
    pub fn token(&self) -> String {
        let file = self.data_dir().join("admin.token");
        std::fs::read_to_string(file).expect("a node that was started has one").trim().to_owned()
    }

    /// Asks it for something to be done.
    pub fn act(&self, method: &str, path: &str, document: &Value) -> Outcome {
        act(self.serve().admin, &self.token(), method, path, document, AGREEMENT_MAX)
    }

    /// Runs a command of the operator's against it.
    #[track_caller]
    pub fn ringway(&self, arguments: &[&str]) -> Said {
        let (admin, folder) =
            (self.serve().admin.to_string(), self.data_dir().display().to_string());
        ringway_says(&[arguments, &["--admin", &admin, "--data-dir", &folder]].concat())
    }

    /// The answer of its telemetry listener.
    #[track_caller]
    pub fn telemetry(&self, path: &str) -> Answer {
        get(self.serve().telemetry, path)
    }
}

/// The file of a node, without `node` and `listen`.
#[derive(Debug, Clone)]
pub struct Rest {
    /// Whom it asks to be let in.
    pub join: Vec<SocketAddr>,
    /// Where peers reach it, if not where it listens.
    pub advertise: Option<SocketAddr>,
    /// `voter` or `observer`.
    pub role: &'static str,
    /// In seconds.
    pub lease_s: u64,
    /// From how long to how long.
    pub election: &'static str,
    /// The path that it probes shards with.
    pub probe: &'static str,
    /// The shards.
    pub shards: Vec<SocketAddr>,
    /// The weight of each.
    pub weight: u16,
    /// Where its certificate is, as `ringway certs` made it.
    pub certificates: Option<PathBuf>,
    /// Copies of each key; with none it is a cache pool.
    pub replicas: Option<usize>,
}

impl Rest {
    /// As YAML, for a node of this name.
    pub fn text(&self, node: &str) -> String {
        let join: Vec<String> = self.join.iter().map(|address| format!("\"{address}\"")).collect();
        let advertise = self
            .advertise
            .map_or_else(String::new, |address| format!("advertise: \"{address}\", "));
        let tls = self.certificates.as_ref().map_or_else(String::new, |folder| {
            let file = |name: &str| folder.join(format!("{name}.pem")).display().to_string();
            let (cert, key) = (file(node), file(&format!("{node}-key")));
            format!(", tls: {{ ca: {}, cert: {cert}, key: {key} }}", file("ca"))
        });
        let kind = match self.replicas {
            None => "    vnodes: 1\n".to_owned(),
            Some(replicas) => format!("    kind: replicated\n    replicas: {replicas}\n"),
        };
        let mut text = format!(
            "cluster: {{ join: [{}], {advertise}role: {}, lease: {}s, heartbeat: 150ms, election: \
             {}{tls} }}\npools:\n  - name: {POOL}\n{kind}    health: {{ active: {{ path: {}, interval: \
             200ms, timeout: 500ms }} }}\n    shards:\n",
            join.join(", "),
            self.role,
            self.lease_s,
            self.election,
            self.probe,
        );
        for (at, address) in self.shards.iter().enumerate() {
            text.push_str(&format!(
                "      - {{ id: s{}, url: \"http://{address}\", weight: {} }}\n",
                at + 1,
                self.weight
            ));
        }
        text + &format!("routes:\n  - {{ name: all, pool: {POOL} }}\n")
    }
}

impl Cluster {
    /// Starts all nodes, founds the cluster with the first, and waits until all agree.
    #[track_caller]
    pub fn start(setup: &Setup) -> Self {
        Self::start_with(setup, |_, _, _| {})
    }

    /// The same; `adjust` may change each node and its file beforehand.
    #[track_caller]
    pub fn start_with(setup: &Setup, adjust: impl FnMut(usize, &mut Member, &mut Rest)) -> Self {
        Self::prepare(setup, adjust).founded()
    }

    /// Starts the nodes of a cluster that was [prepared](Self::prepare), and founds it.
    #[track_caller]
    pub fn founded(mut self) -> Self {
        let cluster = &mut self;
        for at in 0..cluster.members.len() {
            cluster.start_member(at);
        }
        let said = cluster.members[0].ringway(&["cluster", "init"]);
        assert!(said.success, "{}", said.stderr);
        cluster.until_agreed();
        self
    }

    /// Everything but the processes.
    pub fn prepare(setup: &Setup, mut adjust: impl FnMut(usize, &mut Member, &mut Rest)) -> Self {
        let names = ["a", "b", "c", "d", "e"];
        let shards: Vec<Backend> = (0..setup.shards).map(|n| Backend::tireless(names[n])).collect();
        let count = setup.voters + setup.observers;
        let mut members: Vec<Member> =
            (1..=count).map(|number| Member::new(&format!("n{number}"))).collect();
        let own: Vec<SocketAddr> = members.iter().map(|member| member.peer).collect();
        let links = setup.wired.as_ref().map(|_| Links::new(&own, count));
        let reached = links.as_ref().map_or(&own, |links| &links.addresses).clone();
        for (at, member) in members.iter_mut().enumerate() {
            let mut rest = Rest {
                join: reached.iter().copied().filter(|&address| address != reached[at]).collect(),
                advertise: links.as_ref().map(|links| links.addresses[at]),
                role: if at < setup.voters { "voter" } else { "observer" },
                lease_s: setup.lease_s,
                election: setup.election,
                probe: "/",
                shards: shards.iter().map(|shard| shard.address).collect(),
                weight: 100,
                certificates: None,
                replicas: None,
            };
            if at == 0 {
                rest.join.clear();
            }
            if let Some(sources) = &setup.wired {
                member.environment = sources.environment(at);
            }
            adjust(at, member, &mut rest);
            member.rest = rest.text(&member.name);
        }
        Self { members, links, views: None, shards, ledger: Mutex::default() }
    }

    /// Starts a node, again or for the first time.
    #[track_caller]
    pub fn start_member(&mut self, at: usize) {
        self.members[at].start();
    }

    /// What a node says of itself, if it answers.
    #[track_caller]
    pub fn view(&self, at: usize) -> Option<View> {
        let member = &self.members[at];
        if !member.runs() {
            return None;
        }
        let view = View::of(member.serve().admin)?;
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.note(&member.life_name(), &view);
        Some(view)
    }

    /// The numbers of the nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|&at| self.members[at].runs()).collect()
    }

    /// Waits until all nodes that run have a lease, know the same leader and serve the same rings
    /// at the same term; what the first of them says.
    #[track_caller]
    pub fn until_agreed(&self) -> View {
        self.until_agreed_among(&self.running())
    }

    /// The same for some of the nodes.
    #[track_caller]
    pub fn until_agreed_among(&self, nodes: &[usize]) -> View {
        let what = format!("nodes {nodes:?} have leases, one leader and one ring");
        let mut last = Vec::new();
        let begun = Instant::now();
        until_within(&what, AGREEMENT_MAX + SPARE, || {
            last.clear();
            let views: Vec<View> = nodes.iter().filter_map(|&at| self.view(at)).collect();
            last.extend(views.iter().map(View::summary));
            assert!(begun.elapsed() < AGREEMENT_MAX, "waited in vain: {what}: {last:#?}");
            let all = views.len() == nodes.len() && views.iter().all(|v| v.agrees_with(&views[0]));
            all.then(|| views.into_iter().next().expect("at least one node"))
        })
    }

    /// Waits until some node that runs leads, by the word of at least half of those that run; which.
    #[track_caller]
    pub fn leader(&self) -> usize {
        until_within("somebody leads", AGREEMENT_MAX, || {
            let running = self.running();
            let mut votes: BTreeMap<String, usize> = BTreeMap::new();
            for leader in running.iter().filter_map(|&at| self.view(at)?.leader()) {
                *votes.entry(leader).or_default() += 1;
            }
            let (name, _) = votes.into_iter().max_by_key(|(_, count)| *count)?;
            running.into_iter().find(|&at| self.members[at].name == name)
        })
    }

    /// All nodes that run but this one.
    pub fn others(&self, than: usize) -> Vec<usize> {
        self.running().into_iter().filter(|&at| at != than).collect()
    }

    /// Where the clients of these nodes go.
    pub fn data(&self, nodes: &[usize]) -> Vec<SocketAddr> {
        nodes.iter().map(|&at| self.members[at].data).collect()
    }

    /// Asks a node for another weight of a shard, at once.
    pub fn weigh(&self, at: usize, shard: &str, weight: u16) -> Outcome {
        self.members[at].act("POST", "/v1/ring/changes", &weight_change(shard, weight))
    }

    /// Changes a weight, asking again while nobody can tell or nothing was done, and returns how
    /// long it took until some node agreed.
    #[track_caller]
    pub fn weigh_at_last(&self, at: usize, shard: &str, weight: u16) -> Duration {
        let begun = Instant::now();
        let mut last = None;
        let has_it =
            |view: View| Some(number(view.shard(POOL, shard)?.get("weight")?) == u64::from(weight));
        until_within(&format!("{shard} has weight {weight}"), AGREEMENT_MAX, || {
            let outcome = self.weigh(at, shard, weight);
            let done = outcome == Outcome::Done || self.view(at).and_then(has_it).unwrap_or(false);
            last = Some(outcome);
            done.then_some(())
        });
        begun.elapsed()
    }

    /// The sentences of the history that a node tells, all of them.
    #[track_caller]
    pub fn history(&self, at: usize) -> Vec<String> {
        let answer = get(self.members[at].serve().admin, "/v1/ring/history?last=1000");
        assert_eq!(answer.status, 200, "{answer:?}");
        let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let records = document["records"].as_array().expect("a list");
        records.iter().map(|record| record["what"].as_str().expect("a text").to_owned()).collect()
    }

    /// The wires between the nodes.
    #[track_caller]
    pub fn links(&self) -> &Links {
        self.links.as_ref().expect("a cluster with wires")
    }
}

/// One weight, to be asked for.
pub fn weight_change(shard: &str, weight: u16) -> Value {
    json!({
        "now": true,
        "changes": [{ "set_weight": { "pool": POOL, "shard": shard, "weight": weight } }],
    })
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}
