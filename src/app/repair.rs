//! `ringway repair`: have a node compare all replicas of a pool, and watch it.
//!
//! The node goes on if the watching ends. On a terminal there is a bar; elsewhere a line now and
//! then, so that a log of it can be read. The command succeeds if in the end all replicas of all
//! shards hold the same; a `--dry-run` if they do so already.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::client::Client;
use super::error::AppError;
use super::say::{complain, say};
use super::table::duration;
use crate::admin::repair::{RepairAsked, Repairs};
use crate::background::heal::{Pass, PassEnd};
use crate::ids::PoolName;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Looks between two lines where there is no terminal: 5 s.
const LINE_LOOKS: u32 = 25;

/// The bar, without its ends.
const BAR_CHARS: usize = 30;

/// Begins a repair and shows how it goes, to its end.
///
/// # Errors
/// When no node answers, it refuses, or not everything could be compared and mended.
pub fn run(client: &Client, pool: &PoolName, dry_run: bool, json: bool) -> Result<(), AppError> {
    let path = format!("/v1/repair/{pool}");
    let begun: Repairs = client.read(client.change("POST", &path, &RepairAsked { dry_run })?)?;
    let id = begun.pass.map(|pass| pass.id);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(AppError::system("cannot start a runtime"))?;
    let shows_bar = std::io::stderr().is_terminal() && !json;
    let mut looks = 0;
    let pass = loop {
        runtime.block_on(async { tokio::time::sleep(LOOK).await });
        let repairs: Repairs = client.read(client.get(&path)?)?;
        let pass = repairs.pass.filter(|pass| Some(pass.id) == id);
        let Some(pass) = pass else {
            let lost =
                "the node was started anew, or has begun another repair meanwhile: ask again";
            return Err(AppError::Refused(lost.to_owned()));
        };
        if pass.end != PassEnd::Running {
            break pass;
        }
        looks += 1;
        if shows_bar {
            // Whoever watches may have gone.
            drop(write!(std::io::stderr(), "\r{}", bar(&pass)));
        } else if looks % LINE_LOOKS == 0 && !json {
            complain(&line(&pass));
        }
    };
    if shows_bar {
        drop(write!(std::io::stderr(), "\r{:width$}\r", "", width = bar(&pass).chars().count()));
    }
    match json {
        true => say(&serde_json::to_string_pretty(&pass).expect("a pass is JSON"))?,
        false => say(&summary(&pass))?,
    }
    judge(&pass)
}

fn bar(pass: &Pass) -> String {
    let percent = usize::try_from(pass.percent()).unwrap_or(100);
    let done = percent * BAR_CHARS / 100;
    let (done, left) = ("#".repeat(done), ".".repeat(BAR_CHARS - done));
    format!("[{done}{left}] {}", line(pass))
}

fn line(pass: &Pass) -> String {
    let Pass { pool, keys_differing, copied, bytes, .. } = pass;
    let percent = pass.percent();
    format!(
        "{pool} {percent:3} %, {keys_differing} keys differ, {copied} copied ({})",
        size(*bytes)
    )
}

fn summary(pass: &Pass) -> String {
    let Pass { pool, slots, slots_differing, keys_differing, copied, .. } = pass;
    let Pass { failed, lost, stuck, .. } = pass;
    let keys = if *keys_differing == 1 { "key" } else { "keys" };
    let mut text = format!(
        "pool {pool}: {slots} slots compared, {slots_differing} differed; {keys_differing} {keys} \
         differed, "
    );
    text.push_str(&match pass.dry_run {
        true => "none was copied (dry run)".to_owned(),
        false => format!("{copied} copied ({})", size(pass.bytes)),
    });
    text.push_str(&format!("; {}\n", duration(pass.took_ms)));
    if *failed > 0 {
        text.push_str(&format!("  {failed} could not be brought; they stay for the next repair\n"));
    }
    if *lost > 0 {
        text.push_str(&format!(
            "  {lost} are damaged wherever their newest version is held, and reads of them fail: \
             write them again, or delete them; the node's log names them\n"
        ));
    }
    if *stuck > 0 {
        text.push_str(&format!("  {stuck} are not taken any more: the node's log names them\n"));
    }
    if !pass.away.is_empty() {
        text.push_str(&format!("  not compared everywhere: {}\n", pass.away.join(", ")));
    }
    for key in &pass.examples {
        text.push_str(&format!("  /{key}\n"));
    }
    text
}

/// Whether all is well.
fn judge(pass: &Pass) -> Result<(), AppError> {
    let refused = |why: &str| Err(AppError::Refused(why.to_owned()));
    match &pass.end {
        PassEnd::Failed(why) => refused(why),
        _ if !pass.is_whole() => {
            refused("not everything was compared and mended: see which shards are down, and repeat")
        }
        _ if pass.lost > 0 => refused("some values are lost: write them again, or delete them"),
        _ if pass.dry_run && pass.keys_differing > 0 => {
            refused("replicas differ: repair without --dry-run, or wait for the scheduled one")
        }
        _ => Ok(()),
    }
}

/// Bytes in the largest unit that still tells something.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        10_485_760..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::background::heal::PassKind;

    fn pass() -> Pass {
        Pass {
            id: 1,
            pool: "p".to_owned(),
            kind: PassKind::Asked,
            dry_run: false,
            end: PassEnd::Done,
            begun_unix_ms: 0,
            took_ms: 1500,
            slots: 65536,
            slots_differing: 2,
            keys: 40,
            keys_differing: 3,
            copied: 4,
            bytes: 20_480,
            failed: 0,
            lost: 0,
            stuck: 0,
            away: vec![],
            examples: vec!["a/b".to_owned()],
        }
    }

    #[test]
    fn a_pass_is_summed_up_and_judged() {
        let done = pass();
        let said = "pool p: 65536 slots compared, 2 differed; 3 keys differed, 4 copied (20 KiB); \
                    1 s\n  /a/b\n";
        assert_eq!(summary(&done), said);
        assert!(judge(&done).is_ok());
        let looked = Pass { dry_run: true, copied: 0, ..pass() };
        assert!(summary(&looked).contains("none was copied"), "{}", summary(&looked));
        assert!(judge(&looked).is_err(), "a script can tell that they differ");
        assert!(judge(&Pass { keys_differing: 0, ..looked }).is_ok());
        let away = Pass { away: vec!["s2".to_owned()], ..pass() };
        assert!(summary(&away).contains("not compared everywhere: s2"), "{}", summary(&away));
        assert!(judge(&away).is_err());
        let lost = Pass { lost: 2, ..pass() };
        assert!(summary(&lost).contains("  2 are damaged wherever"), "{}", summary(&lost));
        assert!(judge(&lost).is_err());
        assert!(judge(&Pass { end: PassEnd::Failed("gone".to_owned()), ..pass() }).is_err());
    }

    #[test]
    fn the_bar_is_as_long_at_its_end_as_at_its_beginning() {
        let bar = |slots| bar(&Pass { slots, ..pass() });
        assert!(bar(0).starts_with(&format!("[{}]", ".".repeat(BAR_CHARS))));
        assert!(bar(65536).starts_with(&format!("[{}]", "#".repeat(BAR_CHARS))));
        assert_eq!(bar(0).len(), bar(32768).len());
    }
}
