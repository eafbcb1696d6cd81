//! A child process: what it says, how it is told things, and its certain end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::{PATIENCE, until};

/// The most lines of one stream that are kept: no test's process has more to say.
const LINES_MAX: usize = 100_000;

/// A running process. It is killed, by its id, when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

/// The lines of one stream, as they come.
#[derive(Default)]
struct Lines {
    so_far: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Lines {
    fn follow(stream: impl Read + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let of_thread = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok).take(LINES_MAX) {
                of_thread.lock().0.push(String::from_utf8_lossy(&line).into_owned());
                of_thread.more.notify_all();
            }
            of_thread.lock().1 = true;
            of_thread.more.notify_all();
        });
        lines
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Vec<String>, bool)> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the first line, from number `from` on, of which `pick` makes something. `None`
    /// when the stream ends without one, or patience does.
    fn wait_for<T>(&self, from: usize, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        let begun = Instant::now();
        let mut looked_at = from;
        let mut lines = self.lock();
        loop {
            while let Some(line) = lines.0.get(looked_at) {
                looked_at += 1;
                if let Some(found) = pick(line) {
                    return Some(found);
                }
            }
            let left = PATIENCE.checked_sub(begun.elapsed())?;
            if lines.1 {
                return None;
            }
            let waited = self.more.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Process {
    /// Starts `command`; both of its output streams are read from now on.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let started = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stdout = Lines::follow(child.stdout.take().expect("a pipe was asked for"));
        let stderr = Lines::follow(child.stderr.take().expect("a pipe was asked for"));
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    /// Waits for a line of standard output of which `pick` makes something.
    ///
    /// # Panics
    /// When there is none; the message has what was said instead.
    #[track_caller]
    pub fn stdout_line<T>(&self, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        self.try_stdout_line(pick).unwrap_or_else(|| panic!("{what}: {}", self.everything()))
    }

    /// The same, for a process that may end without such a line: then there is none.
    pub fn try_stdout_line<T>(&self, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.stdout.wait_for(0, pick)
    }

    /// The same for standard error, looking at line `from` and later ones only.
    #[track_caller]
    pub fn stderr_line<T>(&self, what: &str, from: usize, pick: impl Fn(&str) -> Option<T>) -> T {
        self.stderr.wait_for(from, pick).unwrap_or_else(|| panic!("{what}: {}", self.everything()))
    }

    /// How many lines standard error has so far.
    pub fn stderr_lines(&self) -> usize {
        self.stderr.lock().0.len()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().0.join("\n")
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().0.join("\n")
    }

    fn everything(&self) -> String {
        format!("{} said\n{}\nand on stderr\n{}", self.name, self.stdout(), self.stderr())
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Ends the process as a loss of power to it alone would, and waits until it is gone.
    pub fn kill_9(&mut self) {
        // An error means that it is gone already.
        drop(self.child.kill());
        self.child.wait().expect("a child can be waited for");
    }

    /// Waits until the process has ended by itself, and all that it said is here.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let status = until(&what, || self.child.try_wait().expect("a child can be asked"));
        // The streams end with the process, but their readers may be a moment behind.
        for lines in [&self.stdout, &self.stderr] {
            lines.wait_for(usize::MAX, |_| None::<()>);
        }
        status
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// The most memory that the process ever had resident, in bytes.
    pub fn peak_resident_bytes(&self) -> u64 {
        self.bytes_of_status("VmHWM:")
    }

    /// The memory that the process has resident now, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.bytes_of_status("VmRSS:")
    }

    fn bytes_of_status(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("a number of kB") * 1024
    }
}

impl Drop for Process {
    #[allow(clippy::print_stderr, reason = "shown with what the failed test printed")]
    fn drop(&mut self) {
        self.kill_9();
        if std::thread::panicking() {
            eprintln!("{}", self.everything());
        }
    }
}

/// What a command that ends by itself said.
pub struct Said {
    /// Whether it was content.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end.
#[track_caller]
pub fn run(name: &str, command: &mut Command) -> Said {
    run_fed(name, command, Stdio::null())
}

/// The same, with something on its standard input.
#[track_caller]
pub fn run_fed(name: &str, command: &mut Command, input: impl Into<Stdio>) -> Said {
    let mut process = Process::start(name, command.stdin(input));
    let success = process.ended().success();
    Said { success, stdout: process.stdout(), stderr: process.stderr() }
}
