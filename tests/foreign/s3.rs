//! An S3 server that checks signatures, and boto3: what is signed for Ringway's address is right for
//! the server, and everything that an SDK does has the same result as without Ringway.

use crate::support::say::say;
use crate::tools::{Server, before, installed, same, script};

#[test]
fn boto3_sees_no_difference() {
    let (Some(rclone), Some(python)) = (installed("rclone"), installed("python")) else { return };
    let servers =
        [(); 2].map(|()| Server::start(&rclone, "s3", &["--auth-key", "access,secret-secret"]));
    // Signatures cover `Host`: the shard has to see the client's.
    let serve = before(servers[1].address, "client");
    let run = |address| {
        let said = script(&python, "s3.py", &[&format!("http://{address}")]);
        assert!(said.success, "{}\n{}", said.stdout, said.stderr);
        said.stdout
    };
    let (direct, through) = (run(servers[0].address), run(serve.data));
    same(&direct, &through);
    let worked = through.lines().filter(|line| line.contains(" ok ")).count();
    say(&format!(
        "boto3: {worked} of {} steps work, directly as through Ringway",
        through.lines().count()
    ));
    // What must work for the comparison to mean anything.
    for step in [
        "put small ok",
        "multipart get ok",
        "large put ok",
        "large get ok",
        "presigned get ok",
        "presigned put ok",
        "range ok",
        "wrong secret error 403",
        "chunked signature ok",
    ] {
        assert!(through.lines().any(|line| line.starts_with(step)), "{step}: {through}");
    }
}
