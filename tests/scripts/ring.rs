//! Speaks to the ring: builds one member by member and asks it questions.

use std::error::Error;
use std::fmt::Write as _;

use ringway::ids::{ShardId, Weight, Zone};
use ringway::ring::{Member, Ring, RingSpec};

/// The ring that a script is building, and the one that it marked to compare with.
pub struct Runner {
    spec: RingSpec,
    marked: Option<Ring>,
}

impl Default for Runner {
    fn default() -> Self {
        let spec = RingSpec {
            hash_seed: "pool".to_owned(),
            vnodes: 256,
            replicas: 1,
            members: vec![],
            ketama: None,
        };
        Self { spec, marked: None }
    }
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut output = String::new();
        match command.name.as_str() {
            // ring [seed=TEXT] [vnodes=N] [replicas=N]
            "ring" => {
                if let Some(seed) = args.take_key("seed") {
                    self.spec.hash_seed = seed.to_owned();
                }
                if let Some(vnodes) = args.take_key("vnodes") {
                    self.spec.vnodes = vnodes.parse()?;
                }
                if let Some(replicas) = args.take_key("replicas") {
                    self.spec.replicas = replicas.parse()?;
                }
            }
            // member ID [zone=ZONE] [weight=N]
            "member" => {
                let id = ShardId::new(args.next_pos().ok_or("which member?")?)?;
                let zone = args.take_key("zone").map_or(Ok(Zone::default()), Zone::new)?;
                let units = args.take_key("weight").map_or(Ok(1), str::parse)?;
                self.spec.members.retain(|member| member.id != id);
                self.spec.members.push(Member { id, zone, weight: Weight::try_from(units)? });
            }
            // leave ID
            "leave" => {
                let id = args.next_pos().ok_or("which member?")?;
                self.spec.members.retain(|member| member.id.as_str() != id);
            }
            // explain KEY [next=N]
            "explain" => {
                let key = args.next_pos().ok_or("which key?")?;
                let next = args.take_key("next").map_or(Ok(0), str::parse)?;
                write!(output, "{}", Ring::build(&self.spec)?.explain(key.as_bytes(), next))?;
            }
            // shares
            "shares" => {
                let ring = Ring::build(&self.spec)?;
                let shares = ring.shares();
                for (member, share) in ring.members().iter().zip(&shares.shards) {
                    writeln!(
                        output,
                        "{:<8} weight {:<3} primary {:>8} held {:>8} fair {:>8}",
                        member.id.as_str(),
                        member.weight.get(),
                        share.primary,
                        share.held,
                        share.fair
                    )?;
                }
                let peak = shares.peak_to_mean.thousandths();
                writeln!(output, "peak to mean {}.{:03}", peak / 1000, peak % 1000)?;
            }
            // mark: remembers this ring; moved: how much of its copies the marked one lacks.
            "mark" => self.marked = Some(Ring::build(&self.spec)?),
            "moved" => {
                let marked = self.marked.as_ref().ok_or("mark a ring first")?;
                writeln!(output, "moved {}", marked.moved(&Ring::build(&self.spec)?))?;
            }
            other => return Err(format!("no command `{other}`").into()),
        }
        args.reject_next()?;
        Ok(output)
    }
}
