//! What a node's operators see while others hold on to its telemetry.

use std::net::SocketAddr;
use std::process::Command;

use crate::support::http::{Client, get};
use crate::support::net::lasting_address;
use crate::support::process::Process;
use crate::support::ringway::{Serve, shards};

#[test]
fn whoever_does_not_read_keeps_nobody_else_from_an_answer() {
    let serve = Serve::start(&format!(
        "pools:\n  - name: p\n{}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&[lasting_address()])
    ));
    // More answers than any buffers hold, to more connections than are served at once.
    let ask = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
    let mut idlers: Vec<Client> = (0..100).map(|_| Client::connect(serve.telemetry)).collect();
    for idler in &mut idlers {
        // One that was closed meanwhile is one of the oldest.
        drop(idler.send(&ask));
    }
    assert_eq!(get(serve.telemetry, "/livez").status, 200);
}

#[test]
fn clients_beyond_the_descriptors_are_told_so_and_operators_get_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ringway.yaml");
    let text = format!(
        "node: {{ name: test, data_dir: {}, workers: 1 }}\nlisten: {{ data: \"127.0.0.1:0\", \
         telemetry: \"127.0.0.1:0\", admin: off }}\npools:\n  - name: p\n{}routes:\n  - {{ name: \
         all, pool: p }}\n",
        folder.path().join("node").display(),
        shards(&[lasting_address()])
    );
    std::fs::write(&file, text).expect("written");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 300; exec \"$0\" serve -c \"$1\""]);
    command.arg(env!("CARGO_BIN_EXE_ringway")).arg(&file).env_remove("RINGWAY_LOG");
    let process = Process::start("serve", &mut command);
    let announced = |what: &str| -> SocketAddr {
        process.stdout_line(&format!("serve announces {what}"), |line| {
            let url = line.trim().strip_prefix(what)?.trim().strip_prefix("http://")?;
            url.split('/').next()?.parse().ok()
        })
    };
    let (data, telemetry) = (announced("data"), announced("telemetry"));
    let mut clients: Vec<Client> = (0..400).map(|_| Client::connect(data)).collect();
    let last = clients.last_mut().expect("there are many");
    let answer = last.hear(false).expect("told without having asked");
    assert_eq!((answer.status, answer.closes()), (503, true));
    assert_eq!(get(telemetry, "/livez").status, 200);
    assert!(!process.stderr().contains("cannot be accepted"), "{}", process.stderr());
}
