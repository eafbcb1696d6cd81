//! Which frames does a client send, and how many of those that cost us more than they cost it?
//!
//! The library bounds what it has to remember: streams, resets of streams that were not taken up
//! yet, CONTINUATION frames, header lists, small DATA frames. It does not bound what it answers or
//! passes over at once: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown frames, and resets of
//! streams that were taken up. So the bytes are looked at on their way in, nine of each frame, and
//! each such kind has a bucket of tokens. A client that empties one is told to calm down.
//!
//! | frame | at once | per second | why so many |
//! |---|---|---|---|
//! | PING | 100 | 10 | Go's client sends one per DATA frame to measure the path, then stops |
//! | SETTINGS | 50 | 5 | one per connection, and one per change of a window |
//! | RST_STREAM | 200 | 50, and one for each answer | a browser that leaves a page gives up all of its streams, 100 of them; a balancer gives up those of many users |
//! | PRIORITY | 500 | 100 | old browsers send a tree of them first |
//! | WINDOW_UPDATE | 1000 | 1000 | and one for each KiB that we sent |
//! | others | 100 | 10 | extensions that nobody here knows |
//! | DATA of less than 64 bytes | 1000 | 5000 | who writes a body in small pieces |
//!
//! | a section of three times the fields that a head may have | 20 | 2 | cookies in pieces are one field of the head; the rest is answered 431 |
//! | a section of four times as many | 0 | 0 | nobody: each field is some hundred instructions, and may be a single byte |
//!
//! That of tiny DATA is honest work, and dear: some hundred times that of the same bytes in large
//! frames. So its bucket ends nothing; when it is empty the connection is not read for a moment.
//!
//! What the buckets let through is still work, and the library does all of it at once that it is
//! given. So a connection's task is given no more than a *ration* in each of its turns: a number of
//! streams, and of all frames together. Where it ends in the midst of what was read, the rest waits
//! for the next turn, and who else has news comes first.

use super::paths::Paths;
use crate::net::timers::TICK_MS;

/// Kinds of frames that bear fields (RFC 9113, sections 6.2 and 6.10).
pub(super) const HEADERS: u8 = 1;
pub(super) const CONTINUATION: u8 = 9;

/// Streams with a `#` in their path that were not taken up yet: more than a turn can bring, if each
/// is one that the library will take up.
const MARKED_MAX: usize = 2000;

/// Frames of a turn for each stream that it may begin: an ordinary request is two, of head and body,
/// or a head that is given up; the rest is for windows.
const FRAMES_PER_STREAM: usize = 8;

/// Frames of a turn that may begin few streams: who uploads asks for none.
const TURN_FRAMES_MIN: usize = 32;

/// Fields that cost as much as a small frame does.
const FIELDS_PER_FRAME: usize = 8;

/// DATA with less content than this, behind which more comes, is tiny.
const TINY_BYTES: usize = 64;

/// The flag of DATA and HEADERS that ends a stream.
const END_STREAM: u8 = 1;

/// What a client sent too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    Pings,
    Settings,
    Resets,
    Priorities,
    WindowUpdates,
    Fields,
    Others,
}

/// Tokens that come with time, up to a most.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
struct Bucket {
    flood: Flood,
    per_second: u64,
    /// In thousandths.
    most: u64,
    left: u64,
    since_ms: u64,
}

impl Bucket {
    fn new(flood: Flood, most: u64, per_second: u64, now_ms: u64) -> Self {
        Self { flood, per_second, most: most * 1000, left: most * 1000, since_ms: now_ms }
    }

    fn take(&mut self, now_ms: u64) -> Result<(), Flood> {
        let earned = now_ms.saturating_sub(self.since_ms).saturating_mul(self.per_second);
        self.earn(earned);
        self.since_ms = now_ms;
        match self.left.checked_sub(1000) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.flood),
        }
    }

    fn earn(&mut self, thousandths: u64) {
        self.left = self.left.saturating_add(thousandths).min(self.most);
    }
}

/// Bytes of a frame's head (RFC 9113, section 4.1).
const FRAME_HEAD_BYTES: usize = 9;

/// Where a frame's head has the frame's kind.
const KIND_AT: usize = 3;

/// The flag of HEADERS and CONTINUATION that ends a field section.
const END_HEADERS: u8 = 4;

/// What a turn may give to the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ration {
    streams: usize,
    frames: usize,
}

impl Ration {
    /// Whether a frame of this kind may come.
    fn allows(self, kind: u8) -> bool {
        self.frames > 0 && (kind != HEADERS || self.streams > 0)
    }

    fn take(&mut self, kind: u8) {
        self.take_frames(1);
        self.streams = self.streams.saturating_sub(usize::from(kind == HEADERS));
    }

    fn take_frames(&mut self, frames: usize) {
        self.frames = self.frames.saturating_sub(frames);
    }
}

/// Looks at what a client sends, from its preface on.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
pub(super) struct Meter {
    head: [u8; FRAME_HEAD_BYTES],
    /// Bytes of the head that came.
    have: usize,
    /// Bytes of the payload that did not come yet, or of the preface.
    left: usize,
    /// Whether a field section has begun and not ended.
    in_fields: bool,
    pings: Bucket,
    settings: Bucket,
    resets: Bucket,
    priorities: Bucket,
    window_updates: Bucket,
    fields: Bucket,
    others: Bucket,
    tiny: Bucket,
    rests_until_ms: u64,
    /// Fields that one head may have.
    fields_max: usize,
    /// What this turn may still take.
    ration: Ration,
    /// Frames that came, counted at their heads.
    frames: u64,
    resets_seen: u64,
    sections: u64,
    paths: Paths,
}

/// The least that a head is taken to be allowed, whatever the limit: browsers send each pair of a
/// cookie as a field of its own (RFC 9113, section 8.2.3), up to some hundred of them, and all of them
/// count as one where the limit itself is looked at.
const FIELDS_MIN: usize = 100;

/// Bytes of the client's preface (RFC 9113, section 3.4).
pub(in super::super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Meter {
    /// Before the first byte of the preface. `fields_max`: of one head as HTTP/1.1 has it, where a
    /// cookie that came in pieces is one field.
    pub(super) fn new(now_ms: u64, fields_max: usize) -> Self {
        let bucket = |flood, most, per_second| Bucket::new(flood, most, per_second, now_ms);
        Self {
            head: [0; FRAME_HEAD_BYTES],
            have: 0,
            left: PREFACE.len(),
            in_fields: false,
            pings: bucket(Flood::Pings, 100, 10),
            settings: bucket(Flood::Settings, 50, 5),
            resets: bucket(Flood::Resets, 200, 50),
            priorities: bucket(Flood::Priorities, 500, 100),
            window_updates: bucket(Flood::WindowUpdates, 1000, 1000),
            fields: bucket(Flood::Fields, 20, 2),
            others: bucket(Flood::Others, 100, 10),
            tiny: bucket(Flood::Others, 1000, 5000),
            rests_until_ms: 0,
            fields_max: fields_max.max(FIELDS_MIN),
            ration: Ration { streams: 0, frames: 0 },
            frames: 0,
            resets_seen: 0,
            sections: 0,
            paths: Paths::new(),
        }
    }

    /// A turn begins, which may begin so many streams.
    pub(super) fn begin_turn(&mut self, streams_max: usize) {
        let frames = (streams_max * FRAMES_PER_STREAM).max(TURN_FRAMES_MIN);
        self.ration = Ration { streams: streams_max, frames };
    }

    /// Whether this turn takes no frame more, of whatever kind.
    pub(super) fn is_full(&self) -> bool {
        self.ration.frames == 0
    }

    /// Looks at bytes that came; returns how many of them belong to this turn. The others are to be
    /// shown again in the next one.
    ///
    /// # Errors
    /// What there was too much of. Nothing more is to be taken from this client.
    pub(super) fn see(&mut self, bytes: &[u8], now_ms: u64) -> Result<usize, Flood> {
        let mut rest = bytes;
        loop {
            let here = self.left.min(rest.len());
            if self.bears_fields() {
                self.paths.see(&rest[..here]);
                if self.paths.fields() > self.fields_max.saturating_mul(4) {
                    return Err(Flood::Fields);
                }
            }
            self.left -= here;
            if self.left == 0 && self.bears_fields() && self.head[4] & END_HEADERS != 0 {
                let fields = self.paths.end();
                self.ration.take_frames(fields / FIELDS_PER_FRAME);
                if fields > self.fields_max.saturating_mul(3) {
                    self.fields.take(now_ms)?;
                }
            }
            rest = &rest[here..];
            // What stands in a part of a head is not known before the rest of it comes.
            let next =
                rest.get(KIND_AT).filter(|_| self.have == 0 && rest.len() >= FRAME_HEAD_BYTES);
            if rest.is_empty() || next.is_some_and(|kind| !self.ration.allows(*kind)) {
                return Ok(bytes.len() - rest.len());
            }
            let here = (FRAME_HEAD_BYTES - self.have).min(rest.len());
            self.head[self.have..self.have + here].copy_from_slice(&rest[..here]);
            self.have += here;
            rest = &rest[here..];
            if self.have < FRAME_HEAD_BYTES {
                return Ok(bytes.len());
            }
            self.have = 0;
            self.ration.take(self.head[KIND_AT]);
            self.frame(now_ms)?;
        }
    }

    fn frame(&mut self, now_ms: u64) -> Result<(), Flood> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = self.head;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.frames += 1;
        match kind {
            // DATA is bounded by windows and by the library's own count of small frames.
            0 => {
                let is_tiny = self.left < TINY_BYTES && flags & END_STREAM == 0;
                if is_tiny && self.tiny.take(now_ms).is_err() {
                    self.rests_until_ms = now_ms + TICK_MS;
                }
                Ok(())
            }
            // HEADERS, CONTINUATION.
            HEADERS | CONTINUATION => {
                let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
                self.paths.begin(kind, flags, stream, self.left);
                self.in_fields = flags & END_HEADERS == 0;
                self.sections += u64::from(!self.in_fields);
                match self.paths.marked() > MARKED_MAX {
                    true => Err(Flood::Others),
                    false => Ok(()),
                }
            }
            2 => self.priorities.take(now_ms),
            3 => {
                self.resets_seen += 1;
                self.resets.take(now_ms)
            }
            4 => self.settings.take(now_ms),
            6 => self.pings.take(now_ms),
            8 => self.window_updates.take(now_ms),
            _ => self.others.take(now_ms),
        }
    }

    /// Whether the frame that came last is one of fields.
    fn bears_fields(&self) -> bool {
        self.have == 0 && matches!(self.head[3], HEADERS | CONTINUATION)
    }

    /// Whether the path of this stream, which is taken up, has a `#`.
    pub(super) fn take_mark(&mut self, stream: u32) -> bool {
        self.paths.take(stream)
    }

    /// Tells of bytes that went to the client, for which it may answer with WINDOW_UPDATE.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.window_updates.earn(bytes as u64);
    }

    /// Tells of streams that were answered to their ends: who takes so many answers may give up as
    /// many requests.
    pub(super) fn answered(&mut self, streams: u64) {
        self.resets.earn(streams.saturating_mul(1000));
    }

    /// Until when nothing is to be read, since too much came in tiny pieces.
    pub(super) fn rests_until_ms(&self) -> u64 {
        self.rests_until_ms
    }

    /// Resets that came since this was asked last.
    pub(super) fn take_resets(&mut self) -> u64 {
        std::mem::take(&mut self.resets_seen)
    }

    /// If a frame or a field section has begun and not ended: a number that names it.
    pub(super) fn unfinished(&self) -> Option<u64> {
        let in_frame = self.have > 0 || (self.left > 0 && self.head[3] != 0);
        (self.in_fields || in_frame).then_some(match self.in_fields {
            // All frames of one field section are one thing that must end in time.
            true => self.sections << 1,
            false => self.frames << 1 | 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of `length` bytes.
    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).expect("a small frame").to_be_bytes();
        let mut frame = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, 1];
        frame.resize(FRAME_HEAD_BYTES + length, 4);
        frame
    }

    fn meter() -> Meter {
        let mut meter = Meter::new(0, 100);
        see(&mut meter, PREFACE, 0).expect("no frame yet");
        meter
    }

    /// Shows bytes in a turn that takes all of them.
    fn see(meter: &mut Meter, bytes: &[u8], now_ms: u64) -> Result<(), Flood> {
        meter.begin_turn(10_000);
        meter.see(bytes, now_ms).map(|given| assert_eq!(given, bytes.len()))
    }

    #[test]
    fn pieces_of_any_size_are_the_same_frames() {
        let all = [PREFACE.to_vec(), frame(4, 0, 18), frame(1, 4, 300), frame(0, 1, 0)].concat();
        for size in 1..all.len() {
            let mut meter = Meter::new(0, 100);
            all.chunks(size).for_each(|piece| see(&mut meter, piece, 0).expect("no flood"));
            assert_eq!((meter.frames, meter.sections), (3, 1), "{size}");
            assert_eq!(meter.unfinished(), None);
        }
    }

    #[test]
    fn each_kind_has_its_most_and_comes_back_with_time() {
        for (kind, flood, most, per_second) in [
            (6, Flood::Pings, 100, 10),
            (4, Flood::Settings, 50, 5),
            (3, Flood::Resets, 200, 50),
            (2, Flood::Priorities, 500, 100),
            (8, Flood::WindowUpdates, 1000, 1000),
            (250, Flood::Others, 100, 10),
        ] {
            let mut meter = meter();
            let bytes = frame(kind, 0, 8);
            for _ in 0..most {
                assert_eq!(see(&mut meter, &bytes, 0), Ok(()), "{flood:?}");
            }
            assert_eq!(see(&mut meter.clone(), &bytes, 0), Err(flood));
            for _ in 0..per_second {
                assert_eq!(see(&mut meter, &bytes, 1000), Ok(()), "{flood:?}");
            }
            assert_eq!(see(&mut meter, &bytes, 1000), Err(flood));
        }
    }

    #[test]
    fn who_downloads_may_say_so() {
        let mut meter = meter();
        for _ in 0..10_000 {
            meter.sent(1024);
            assert_eq!(see(&mut meter, &frame(8, 0, 4), 0), Ok(()));
        }
    }

    /// A balancer sends the requests of many users over one connection. Those of one slow shard run
    /// into their time, more than 50 in a second, while the others are answered.
    #[test]
    fn who_takes_answers_may_give_up_as_many_requests() {
        let mut meter = meter();
        for _ in 0..10_000 {
            meter.answered(1);
            assert_eq!(see(&mut meter, &frame(3, 0, 4), 0), Ok(()));
        }
        // What was earned is no store for later.
        meter.answered(1_000_000);
        for _ in 0..200 {
            assert_eq!(see(&mut meter, &frame(3, 0, 4), 0), Ok(()));
        }
        assert_eq!(see(&mut meter, &frame(3, 0, 4), 0), Err(Flood::Resets));
    }

    #[test]
    fn tiny_data_is_waited_with_and_no_flood() {
        let mut meter = meter();
        for _ in 0..1000 {
            assert_eq!(see(&mut meter, &frame(0, 0, 63), 0), Ok(()));
            // Large ones, and the last of a body, are none of it.
            assert_eq!(see(&mut meter, &frame(0, 0, 64), 0), Ok(()));
            assert_eq!(see(&mut meter, &frame(0, END_STREAM, 0), 0), Ok(()));
        }
        assert_eq!(meter.rests_until_ms(), 0);
        assert_eq!(see(&mut meter, &frame(0, 0, 1), 0), Ok(()));
        assert_eq!(meter.rests_until_ms(), TICK_MS);
        for _ in 0..5000 * TICK_MS / 1000 {
            assert_eq!(see(&mut meter, &frame(0, 0, 1), TICK_MS), Ok(()));
        }
        assert_eq!(meter.rests_until_ms(), TICK_MS, "it may go on as fast as that");
    }

    #[test]
    fn data_and_heads_are_not_counted_here() {
        let mut meter = meter();
        for _ in 0..10_000 {
            assert_eq!(see(&mut meter, &frame(1, 4, 10), 0), Ok(()));
            assert_eq!(see(&mut meter, &frame(0, 1, 10), 0), Ok(()));
        }
    }

    #[test]
    fn what_has_begun_and_not_ended_has_one_name_until_it_ends() {
        let mut meter = meter();
        assert_eq!(meter.unfinished(), None);
        see(&mut meter, &frame(1, 0, 10), 0).expect("no flood");
        let name = meter.unfinished();
        assert!(name.is_some(), "a field section is open");
        see(&mut meter, &frame(9, 0, 1), 0).expect("no flood");
        assert_eq!(meter.unfinished(), name, "and still the same one");
        see(&mut meter, &frame(9, 4, 1), 0).expect("no flood");
        assert_eq!(meter.unfinished(), None);
        see(&mut meter, &frame(6, 0, 8)[..12], 0).expect("no flood");
        assert!(meter.unfinished().is_some_and(|other| Some(other) != name));
    }

    #[test]
    fn a_body_under_way_is_judged_by_its_rate_and_not_here() {
        let mut meter = meter();
        see(&mut meter, &frame(0, 0, 100)[..50], 0).expect("no flood");
        assert_eq!(meter.unfinished(), None);
    }

    /// The kinds of the frames that one turn is given.
    fn turn(meter: &mut Meter, bytes: &mut &[u8], streams_max: usize) -> Vec<u8> {
        meter.begin_turn(streams_max);
        let given = meter.see(bytes, 0).expect("no flood");
        let (mut now, later) = bytes.split_at(given);
        *bytes = later;
        let mut kinds = Vec::new();
        while let [0, a, b, kind, ..] = *now {
            kinds.push(kind);
            now = &now[FRAME_HEAD_BYTES + usize::from(u16::from_be_bytes([a, b]))..];
        }
        assert!(now.is_empty(), "frames are given whole");
        kinds
    }

    #[test]
    fn a_turn_is_given_its_ration_of_frames_and_the_next_one_goes_on() {
        let all = frame(2, 0, 5).repeat(100);
        let (mut meter, mut bytes) = (meter(), &all[..]);
        let turns: Vec<usize> = std::iter::repeat_with(|| turn(&mut meter, &mut bytes, 4).len())
            .take_while(|frames| *frames > 0)
            .collect();
        assert_eq!(turns, [32, 32, 32, 4]);
    }

    /// A stream that is given up at once costs little if both frames are seen in one turn, and the
    /// work of a shard if not.
    #[test]
    fn a_turn_begins_its_ration_of_streams_and_parts_none_from_its_reset() {
        let pair = [frame(HEADERS, END_HEADERS, 10), frame(3, 0, 4)].concat();
        let all = pair.repeat(10);
        let (mut meter, mut bytes) = (meter(), &all[..]);
        for streams in [4, 4, 2] {
            let kinds = turn(&mut meter, &mut bytes, 4);
            assert_eq!(kinds, [HEADERS, 3].repeat(streams));
        }
        assert!(bytes.is_empty());
    }

    #[test]
    fn many_fields_are_more_work_and_too_many_a_flood() {
        // Indexed fields, of one byte each.
        let section = |fields: usize| {
            let mut bytes = frame(HEADERS, END_HEADERS, fields);
            bytes[FRAME_HEAD_BYTES..].fill(0x82);
            bytes
        };
        let all = section(160).repeat(4);
        let (mut meter, mut bytes) = (meter(), &all[..]);
        assert_eq!(turn(&mut meter, &mut bytes, 4).len(), 2, "21 frames' work each");
        for _ in 0..20 {
            assert_eq!(see(&mut meter, &section(301), 0), Ok(()));
            assert_eq!(see(&mut meter, &section(300), 0), Ok(()));
        }
        assert_eq!(see(&mut meter.clone(), &section(301), 0), Err(Flood::Fields));
        // Under whatever limit: a cookie in pieces is one field of it.
        let mut low = Meter::new(0, 30);
        assert_eq!(see(&mut low, PREFACE, 0), Ok(()));
        for _ in 0..100 {
            assert_eq!(see(&mut low, &section(130), 0), Ok(()));
        }
        // In no frame more than that, nor in all of one section.
        let mut meter = Meter::new(0, 100);
        assert_eq!(see(&mut meter, PREFACE, 0), Ok(()));
        assert_eq!(see(&mut meter.clone(), &section(401), 0), Err(Flood::Fields));
        let (mut begun, mut more) = (section(250), section(151));
        (begun[4], more[KIND_AT], more[4]) = (0, CONTINUATION, 0);
        assert_eq!(see(&mut meter, &begun, 0), Ok(()));
        assert_eq!(see(&mut meter, &more, 0), Err(Flood::Fields));
    }
}
