//! What happened in a run, in order?
//!
//! Every fact goes into a digest, so that two runs of one seed can be compared without keeping
//! either. A run that is looked at prints them as well.

/// One field of a fact.
pub type Field = (&'static str, u64);

/// The facts of a run so far.
#[derive(Debug)]
pub struct Trace {
    digest: u64,
    is_printed: bool,
}

impl Trace {
    pub fn new(is_printed: bool) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, is_printed }
    }

    /// Notes what happened. `who` is a process: its node, and which of its starts.
    pub fn tell(&mut self, now_us: u64, who: Option<(u64, u64)>, what: &str, fields: &[Field]) {
        let (node, start) = who.unwrap_or_default();
        what.bytes().for_each(|byte| self.mix(u64::from(byte)));
        [now_us, node, start].into_iter().for_each(|number| self.mix(number));
        fields.iter().for_each(|(_, value)| self.mix(*value));
        if self.is_printed {
            print(now_us, who, what, fields);
        }
    }

    /// What tells this run from any other.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// FNV-1a, over whole numbers.
    fn mix(&mut self, number: u64) {
        self.digest = (self.digest ^ number).wrapping_mul(0x100_0000_01b3);
        // Multiplication alone carries upwards only.
        self.digest ^= self.digest >> 29;
    }
}

#[allow(clippy::print_stdout, reason = "whoever asks for one seed wants to read it")]
fn print(now_us: u64, who: Option<(u64, u64)>, what: &str, fields: &[Field]) {
    let who = who.map_or_else(|| "group".to_owned(), |(node, start)| format!("n{node}.{start}"));
    let fields: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    println!("{:>5}.{:06} {who:>6} {what}{fields}", now_us / 1_000_000, now_us % 1_000_000);
}
