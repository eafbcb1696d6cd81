//! nginx with the DAV module, as a shard.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::http::Client;
use super::net::lasting_address;
use super::process::Process;
use super::wait::until;

/// A running nginx.
pub struct Nginx {
    /// The process. It is the only one, so killing it ends it whole.
    pub process: Process,
    program: PathBuf,
    folder: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts `program` with a folder of its own.
    #[track_caller]
    pub fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for part in ["root", "temp"] {
            std::fs::create_dir(folder.path().join(part)).expect("a folder");
        }
        let address = lasting_address();
        let process = spawn(program, folder.path(), address);
        Self { process, program: program.to_owned(), folder, address }
    }

    /// Starts it again after it was killed: same folder, same port.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.process.kill_9();
        self.process = spawn(&self.program, self.folder.path(), self.address);
    }

    /// The folder that it serves.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// How many files it holds.
    pub fn files(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let entries = std::fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
            entries
                .map(|entry| match entry.path().is_dir() {
                    true => count(&entry.path()),
                    false => 1,
                })
                .sum()
        }
        count(&self.root())
    }
}

fn spawn(program: &Path, folder: &Path, address: SocketAddr) -> Process {
    let configuration = format!(
        "daemon off; master_process off; pid {f}/nginx.pid; error_log stderr warn;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n\
           access_log off; client_body_temp_path {f}/temp; proxy_temp_path {f}/temp;\n\
           fastcgi_temp_path {f}/temp; uwsgi_temp_path {f}/temp; scgi_temp_path {f}/temp;\n\
           keepalive_requests 1000000;\n\
           server {{\n\
             listen {address};\n\
             location / {{ root {f}/root; dav_methods PUT DELETE MKCOL COPY MOVE;\n\
               create_full_put_path on; client_max_body_size 0; }}\n\
             location = /probe {{ return 204; }}\n\
           }}\n\
         }}\n",
        f = folder.display()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration).expect("written");
    let mut command = Command::new(program);
    command.arg("-c").arg(&file).arg("-p").arg(folder).args(["-e", "stderr"]);
    let mut process = Process::start("nginx", &mut command);
    until("nginx answers", || {
        assert!(process.is_running(), "nginx ended: {}", process.stderr());
        let answer = Client::try_connect(address).ok()?.ask("GET", "/probe", "", b"").ok()?;
        (answer.status == 204).then_some(())
    });
    process
}
