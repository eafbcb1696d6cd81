//! What is written down about each request?
//!
//! One line each, in JSON or in the common log format with a few words behind it. Workers format
//! into a buffer of their own and hand it to one writer thread, so that a slow disk or terminal
//! never delays a request: if the writer cannot keep up, lines are dropped and counted
//! (`ringway_access_log_dropped_total`).
//!
//! The flags are Envoy's letters: `UH` no healthy shard, `UF` no connection, `UC` connection
//! broken, `UO` overflow, `UT` shard timeout, `UPE` unusable answer, `URX` retries used up, `DC`
//! client gone, `DPE` bad request, `DT` request timeout, `SI` too slow, `NR` no route, `RL` the
//! client's rate limit, `OM` this node's limits.
//!
//! A request to a pool that keeps copies also says which level it asked for and which it reached.

use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use serde::Serialize;

use crate::dispatch::outcome::KeptNote;
use crate::level::Level;
use crate::time::{common_log, rfc3339};

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// NCSA common log format, then `shard= attempts= flags= time=`.
    Common,
}

/// Everything a line says.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    /// When the answer ended, in milliseconds since 1970; written as each form has it.
    #[serde(skip)]
    pub unix_ms: u64,
    /// The client's address.
    pub client: IpAddr,
    /// The method.
    pub method: &'a str,
    /// Canonical path and query.
    pub target: &'a str,
    /// HTTP/1.0 or HTTP/1.1.
    pub protocol: &'static str,
    /// What the client was answered; 0 if nothing.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From the head to the end of the answer, in milliseconds.
    pub duration_ms: f64,
    /// The route; empty if none was found.
    pub route: &'a str,
    /// The pool; empty if none was found.
    pub pool: &'a str,
    /// The shard asked last; empty if none was.
    pub shard: &'a str,
    /// The shard's status; 0 if it gave none.
    pub upstream_status: u16,
    /// How often a shard was asked.
    pub attempts: u32,
    /// Whether another shard than the owner answered.
    pub spilled: bool,
    /// Envoy's letters, joined by commas; `-` if all went well.
    pub flags: &'a str,
    /// The request's id, as the client was told.
    pub request_id: &'a str,
    /// How strong it was; only on a pool that keeps copies.
    #[serde(flatten)]
    pub strength: Option<Strength>,
}

/// How strong a request to a pool that keeps copies was.
#[derive(Debug, Serialize)]
pub struct Strength {
    /// The level that it asked for, or that of the pool.
    pub level: Level,
    /// The level that was reached: the same, or `none`.
    pub achieved: &'static str,
    /// Replicas that had acknowledged a write, or told what they hold, when the client was told.
    pub acks: usize,
    /// Replicas of the key.
    pub replicas: usize,
    /// The version that was written or read; empty if there was none.
    pub version: String,
}

impl Strength {
    /// What is remembered of a request.
    pub(super) fn of(note: &KeptNote) -> Self {
        Self {
            level: note.asked,
            achieved: note.achieved.map_or("none", Level::as_str),
            acks: note.acks,
            replicas: note.replicas,
            version: note.version.map_or_else(String::new, |version| version.to_string()),
        }
    }
}

impl Record<'_> {
    /// Appends the line to `out`.
    pub fn write(&self, format: LogFormat, out: &mut Vec<u8>) {
        let written = match format {
            LogFormat::Json => {
                #[derive(Serialize)]
                struct Line<'a> {
                    time: &'a str,
                    #[serde(flatten)]
                    record: &'a Record<'a>,
                }
                let time = rfc3339(self.unix_ms);
                serde_json::to_writer(&mut *out, &Line { time: &time, record: self })
                    .map_err(io::Error::from)
                    .and_then(|()| out.write_all(b"\n"))
            }
            LogFormat::Common => write!(
                out,
                "{} - - [{}] \"{} {} {}\" {} {} shard={} attempts={} flags={} time={:.3}ms id={}",
                self.client,
                common_log(self.unix_ms),
                self.method,
                // A quotation mark would end the field; the path has none, the query may.
                self.target.replace('"', "%22"),
                self.protocol,
                self.status,
                self.bytes_out,
                if self.shard.is_empty() { "-" } else { self.shard },
                self.attempts,
                self.flags,
                self.duration_ms,
                self.request_id,
            )
            .and_then(|()| match &self.strength {
                None => writeln!(out),
                Some(Strength { level, achieved, acks, replicas, version }) => writeln!(
                    out,
                    " level={level} achieved={achieved} acks={acks}/{replicas} version={}",
                    if version.is_empty() { "-" } else { version },
                ),
            }),
        };
        written.expect("a vector takes all");
    }
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to; opened anew on SIGHUP, for rotation.
    File(PathBuf),
}

/// Batches on their way to the writer. Each is at most [`BATCH_BYTES`] and a line.
const QUEUE_BATCHES_MAX: usize = 256;

/// A worker hands its lines over when so many bytes have come together, or at its next tick.
pub const BATCH_BYTES: usize = 16 * 1024;

/// The end at which workers hand lines in.
#[derive(Debug, Clone)]
pub struct LogSender {
    queue: SyncSender<Vec<u8>>,
    /// Whether the file is to be opened anew before the next batch is written.
    reopen: Arc<AtomicBool>,
}

impl LogSender {
    /// Hands a batch of whole lines over. False when the writer is behind or gone and the batch is
    /// lost.
    #[must_use]
    pub fn send(&self, lines: Vec<u8>) -> bool {
        self.queue.try_send(lines).is_ok()
    }

    /// Has the file opened anew, before anything that is handed in after this.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // An empty batch wakes a writer with nothing to do. If the queue is full, it has.
        let _: Result<(), TrySendError<Vec<u8>>> = self.queue.try_send(Vec::new());
    }
}

/// The thread that writes. Ends, with everything written, when all senders are gone.
pub struct LogWriter {
    thread: JoinHandle<()>,
}

impl LogWriter {
    /// Opens the target and starts the thread.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn start(target: LogTarget) -> io::Result<(Self, LogSender)> {
        let output = open(&target)?;
        let (queue, received) = sync_channel(QUEUE_BATCHES_MAX);
        let reopen = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn({
            let reopen = Arc::clone(&reopen);
            move || write_all(&target, output, &received, &reopen)
        })?;
        Ok((Self { thread }, LogSender { queue, reopen }))
    }

    /// Waits until everything handed in is written. All senders must be dropped before.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the access log's writer panicked; its last lines are lost");
        }
    }
}

fn open(target: &LogTarget) -> io::Result<Box<dyn Write + Send>> {
    Ok(match target {
        LogTarget::Stdout => Box::new(io::stdout()),
        LogTarget::File(path) => Box::new(open_file(path)?),
    })
}

fn open_file(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

fn write_all(
    target: &LogTarget,
    mut output: Box<dyn Write + Send>,
    received: &Receiver<Vec<u8>>,
    reopen: &AtomicBool,
) {
    // Said once per trouble, not once per line: the disk that is full also holds the node's log.
    let mut in_trouble = false;
    for lines in received {
        let reopened = match reopen.swap(false, Ordering::Acquire) {
            true => open(target).map(|reopened| output = reopened),
            false => Ok(()),
        };
        // A file that cannot be opened anew leaves the old one, which is better than none.
        let written = output.write_all(&lines).and_then(|()| output.flush());
        match reopened.and(written) {
            Ok(()) => in_trouble = false,
            Err(error) if !in_trouble => {
                in_trouble = true;
                tracing::error!(%error, "the access log cannot be written; lines are lost");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    fn record() -> Record<'static> {
        Record {
            unix_ms: 0,
            client: IpAddr::from([127, 0, 0, 1]),
            method: "GET",
            target: "/a?b=\"c\"",
            protocol: "HTTP/1.1",
            status: 200,
            bytes_in: 0,
            bytes_out: 5,
            duration_ms: 1.5,
            route: "all",
            pool: "objects",
            shard: "s1",
            upstream_status: 200,
            attempts: 1,
            spilled: false,
            flags: "-",
            request_id: "0123456789abcdef",
            strength: None,
        }
    }

    #[test]
    fn lines_have_their_form() {
        let mut out = Vec::new();
        record().write(LogFormat::Common, &mut out);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "127.0.0.1 - - [01/Jan/1970:00:00:00 +0000] \"GET /a?b=%22c%22 HTTP/1.1\" 200 5 shard=s1 \
             attempts=1 flags=- time=1.500ms id=0123456789abcdef\n"
        );
        let mut out = Vec::new();
        record().write(LogFormat::Json, &mut out);
        let line: serde_json::Value = serde_json::from_slice(&out).expect("one JSON object");
        assert_eq!(line["time"], "1970-01-01T00:00:00.000Z");
        assert_eq!(line["target"], "/a?b=\"c\"");
        assert_eq!(line["bytes_out"], 5);
        assert_eq!(line.get("achieved"), None, "a cache has no levels");
    }

    #[test]
    fn a_line_says_how_strong_a_request_was() {
        let note = KeptNote {
            asked: Level::All,
            achieved: None,
            acks: 2,
            replicas: 3,
            version: Some(Version::NONE),
        };
        let record = Record { strength: Some(Strength::of(&note)), ..record() };
        let mut out = Vec::new();
        record.write(LogFormat::Common, &mut out);
        let line = String::from_utf8(out).expect("text");
        let version = Version::NONE.to_string();
        let strength = format!("level=all achieved=none acks=2/3 version={version}\n");
        assert!(line.ends_with(&format!("id=0123456789abcdef {strength}")), "{line}");
        let mut out = Vec::new();
        record.write(LogFormat::Json, &mut out);
        let line: serde_json::Value = serde_json::from_slice(&out).expect("one JSON object");
        let told = (&line["level"], &line["achieved"], &line["acks"], &line["replicas"]);
        assert_eq!(told, (&"all".into(), &"none".into(), &2.into(), &3.into()));
        assert_eq!(line["version"], version);
    }

    #[test]
    fn a_file_is_opened_anew_for_rotation() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let (writer, sender) = LogWriter::start(LogTarget::File(path.clone())).expect("a file");
        assert!(sender.send(b"one\n".to_vec()));
        // The writer has the line when the file has it.
        while std::fs::read(&path).expect("the file").is_empty() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &moved).expect("moved");
        sender.reopen();
        // It happens without a line to write: who rotates waits for the new file.
        while !path.exists() {
            std::thread::yield_now();
        }
        assert!(sender.send(b"two\n".to_vec()));
        drop(sender);
        writer.join();
        assert_eq!(std::fs::read(&moved).expect("the old file"), b"one\n");
        assert_eq!(std::fs::read(&path).expect("the new file"), b"two\n");
    }

    /// A writer that was behind once forgot that it was to open its file anew, and wrote into the
    /// rotated one until the next rotation.
    #[test]
    fn a_full_queue_does_not_lose_a_rotation() {
        let (queue, received) = sync_channel(1);
        let sender = LogSender { queue, reopen: Arc::default() };
        assert!(sender.send(b"line\n".to_vec()));
        assert!(!sender.send(b"lost\n".to_vec()), "the queue is full");
        sender.reopen();
        drop(sender.queue);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let before = Box::new(io::sink());
        write_all(&LogTarget::File(path.clone()), before, &received, &sender.reopen);
        assert_eq!(std::fs::read(&path).expect("the new file"), b"line\n");
    }
}
