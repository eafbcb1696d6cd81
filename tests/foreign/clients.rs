//! Clients as people use them, with the options that few use: what they ask is what the shard hears,
//! and what it says is what they hear.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::backend::Backend;
use crate::support::process::run;
use crate::support::ringway::Serve;
use crate::support::say::require;
use crate::tools::{before, installed, script};

/// A shard that answers with the method, the path and the content of what it was asked.
fn echo() -> Backend {
    Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let body = [format!("{} ", request.asked()).as_bytes(), &request.body].concat();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let body = if request.asked().starts_with("HEAD ") { &[] } else { &body[..] };
            connection.say([head.as_bytes(), body].concat());
        }
    })
}

#[test]
fn python_clients_hear_what_they_asked() {
    let Some(python) = installed("python") else { return };
    let backend = echo();
    let serve = before(backend.address, "shard");
    let said = script(&python, "clients.py", &[&format!("http://{}", serve.data)]);
    assert!(said.success, "{}\n{}", said.stdout, said.stderr);
    // They kept their connections, and none of what they said was odd to us.
    assert_eq!(serve.count("ringway_downstream_cx_protocol_error_total"), 0);
    assert!(serve.count("ringway_downstream_cx_total") < 40);
}

/// A program, what it is called with and fed, and what it must say.
struct Case<'a> {
    arguments: &'a [&'a str],
    says: &'a str,
}

fn check(program: &Path, usual: &[&str], cases: &[Case<'_>], serve: &Serve, folder: &Path) {
    let address = serve.data.to_string();
    for Case { arguments, says } in cases {
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.replace("HOST", &address)).collect();
        let mut command = Command::new(program);
        command.current_dir(folder).args(usual).args(&arguments);
        let said = run("a client", &mut command);
        assert!(said.success, "{arguments:?}: {}", said.stderr);
        assert_eq!(said.stdout, says.replace("HOST", &address), "{arguments:?}: {}", said.stderr);
    }
}

/// A folder with a small file, and one that is longer than what is held for a repeat.
fn files() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let large = "0123456789".repeat(10_000);
    std::fs::write(folder.path().join("small"), "hello").expect("written");
    std::fs::write(folder.path().join("large"), &large).expect("written");
    (folder, large)
}

#[test]
fn curl_may_be_called_in_every_way() {
    let Some(curl) = require("curl") else { return };
    let backend = echo();
    let serve = before(backend.address, "shard");
    let (folder, large) = files();
    let put_large = format!("PUT /k {large}");
    let usual = ["-q", "-sS", "--noproxy", "*", "--max-time", "20"];
    let case = |arguments, says| Case { arguments, says };
    let cases = [
        case(&["http://HOST/k"][..], "GET /k "),
        case(&["--http1.0", "http://HOST/k"], "GET /k "),
        case(&["--http1.0", "-T", "small", "http://HOST/k"], "PUT /k hello"),
        case(&["--http1.0", "-T", "large", "http://HOST/k"], &put_large),
        // An upgrade to h2c that nobody takes up.
        case(&["--http2", "http://HOST/k"], "GET /k "),
        case(&["-T", "large", "-H", "Expect: 100-continue", "http://HOST/k"], &put_large),
        case(&["-T", "large", "-H", "Expect:", "http://HOST/k"], &put_large),
        case(&["-T", "small", "-H", "Expect: 100-continue", "http://HOST/k"], "PUT /k hello"),
        case(&["-T", "large", "-H", "Transfer-Encoding: chunked", "http://HOST/k"], &put_large),
        case(&["--raw", "http://HOST/k"], "GET /k "),
        case(&["--tr-encoding", "--compressed", "http://HOST/k"], "GET /k "),
        case(&["-X", "DELETE", "-d", "why", "http://HOST/k"], "DELETE /k why"),
        case(&["-G", "-d", "a=b", "http://HOST/k"], "GET /k?a=b "),
        case(&["-F", "f=@small;type=a/b", "-o", "/dev/null", "http://HOST/form"], ""),
        case(&["-o", "/dev/null", "-I", "http://HOST/k"], ""),
        case(
            &["-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", "http://HOST/a/../k"],
            "400",
        ),
        case(&["http://HOST/a/../k"], "GET /k "),
        case(
            &["-X", "OPTIONS", "-w", "%{http_code}", "--request-target", "*", "http://HOST/"],
            "204",
        ),
        // As a forward proxy: the target in absolute form.
        case(&["--noproxy", "", "-x", "http://HOST", "http://example.test/k"], "GET /k "),
        case(&["-r", "0-1", "http://HOST/k"], "GET /k "),
        case(&["http://HOST/[1-5]"], "GET /1 GET /2 GET /3 GET /4 GET /5 "),
        case(&["--no-keepalive", "-H", "Connection: close", "http://HOST/k"], "GET /k "),
    ];
    check(&curl, &usual, &cases, &serve, folder.path());
    // From a pipe, whose length nobody knows.
    let mut command = Command::new("sh");
    let line = format!("cat large | curl -q -sS --noproxy '*' -T - http://{}/k", serve.data);
    let said = run("curl -T -", command.current_dir(folder.path()).args(["-c", &line]));
    assert_eq!(said.stdout, put_large);
    assert_eq!(serve.count("ringway_downstream_cx_protocol_error_total"), 0);
}

#[test]
fn wget_may_be_called_in_every_way() {
    let Some(wget): Option<PathBuf> = require("wget") else { return };
    let backend = echo();
    let serve = before(backend.address, "shard");
    let (folder, large) = files();
    let put_large = format!("PUT /k {large}");
    let usual = ["-q", "--no-config", "--no-proxy", "--tries=1", "--timeout=20", "-O", "-"];
    let case = |arguments, says| Case { arguments, says };
    let cases = [
        case(&["http://HOST/k"][..], "GET /k "),
        case(&["http://HOST/1", "http://HOST/2"], "GET /1 GET /2 "),
        case(&["--no-http-keep-alive", "http://HOST/k"], "GET /k "),
        case(&["--method=PUT", "--body-file=large", "http://HOST/k"], &put_large),
        case(&["--post-data=hello", "http://HOST/k"], "POST /k hello"),
        case(&["--method=HEAD", "http://HOST/k"], ""),
        case(&["--spider", "http://HOST/k"], ""),
        case(&["--header=Range: bytes=0-1", "http://HOST/k"], "GET /k "),
    ];
    check(&wget, &usual, &cases, &serve, folder.path());
    assert_eq!(serve.count("ringway_downstream_cx_protocol_error_total"), 0);
}
