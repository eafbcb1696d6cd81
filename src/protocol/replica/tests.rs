//! Are the words of the replica protocol read as they are written, and are the forms pinned?

use super::*;
use crate::ids::Token;
use crate::ids::{
    Birth, ClusterId, Epoch, Generation, Incarnation, NodeId, PoolName, ShardId, StoreId,
};
use crate::version::{Proposer, Stamp, Version};

fn version(ms: u64) -> Version {
    let proposer = Proposer { node: NodeId(3), incarnation: Incarnation(17), worker: 2 };
    Version { stamp: Stamp::of_ms(ms), proposer }
}

#[test]
fn the_digest_of_an_entry_is_pinned() {
    let sum = Sum::of(b"a/b%20c", version(1_763_762_400_125), false);
    assert_eq!(format!("{:032x}", sum.digest), "7f5a5748023a202b8d725b9ab28dab56");
    let gone = Sum::of(b"a/b%20c", version(1_763_762_400_125), true);
    assert_ne!(sum, gone);
    let damaged = Sum::of_damaged(b"a/b%20c", version(1_763_762_400_125));
    assert_eq!((damaged.count, damaged == sum, damaged == gone), (1, false, false));
    let mut both = sum;
    both += gone;
    assert_eq!(Sum::from_bytes(&both.to_bytes()), both);
    both -= sum;
    assert_eq!(both, gone);
    both -= gone;
    assert_eq!(both, Sum::default());
}

#[test]
fn slots_are_the_first_16_bits_of_a_token() {
    for (token, slot) in [(0, 0), (1 << 48, 1), (u64::MAX, 0xffff), ((1 << 48) - 1, 0)] {
        assert_eq!(slot_of(Token(token)), slot);
    }
}

#[test]
fn targets_are_read_as_they_are_written() {
    let pool = PoolName::new("objects").expect("a name");
    for op in Op::ALL {
        let key: &[u8] = if op.has_key() { b"a//b%2F/" } else { b"" };
        let mut path = Vec::new();
        Target::write(&mut path, &pool, op, key);
        let path = String::from_utf8(path).expect("ASCII");
        let rest = path.strip_prefix(words::PREFIX).expect("the prefix");
        let key = std::str::from_utf8(key).expect("ASCII");
        assert_eq!(Target::parse(rest), Some(Target { pool: "objects", op, key }), "{path}");
    }
    for other in ["", "objects", "objects/", "objects/stage", "objects/keys/", "objects/x/k"] {
        assert_eq!(Target::parse(other), None, "{other}");
    }
}

#[test]
fn refusals_come_back_from_their_words() {
    for word in ["foreign", "not-staged", "stale-epoch", "unknown", "full"] {
        assert_eq!(word.parse::<Refusal>().map(Refusal::word), Ok(word));
    }
    assert_eq!("syntax".parse::<Refusal>(), Err(words::OtherWord));
    assert_eq!(Refusal::Foreign.status(), 421);
}

#[test]
fn ids_have_one_spelling() {
    let proposer = Proposer { node: NodeId(3), incarnation: Incarnation(17), worker: 2 };
    let stage = StageId { proposer, sequence: 451 };
    assert_eq!(stage.to_string(), "3-17-2-451");
    assert_eq!("3-17-2-451".parse(), Ok(stage));
    for other in
        ["", "3-17-2", "3-17-2-451-1", "03-17-2-451", "3-17-65536-1", "3-17-2-+1", "3-17-2-"]
    {
        assert!(other.parse::<StageId>().is_err(), "{other}");
    }
    let epoch = PoolEpoch { generation: Generation(1), epoch: Epoch(7) };
    assert_eq!(epoch.to_string(), "1.7");
    assert_eq!("1.7".parse(), Ok(epoch));
    for other in ["", "1", "1.", ".7", "1.07", "1.7.0", "-1.7"] {
        assert!(other.parse::<PoolEpoch>().is_err(), "{other}");
    }
    assert!("1.10".parse::<PoolEpoch>().expect("an epoch") > epoch);
    assert!("2.0".parse::<PoolEpoch>().expect("an epoch") > epoch);
    assert_eq!(parse_token("00ff00ff00ff00ff"), Ok(Token(0x00ff_00ff_00ff_00ff)));
    assert!(parse_token("ff").is_err() && parse_token("+0ff00ff00ff00ff").is_err());
}

#[test]
fn the_json_is_pinned() {
    let entry = Entry {
        key: "a/b".to_owned(),
        token: Token(0xfe),
        version: version(1_763_762_400_125),
        tombstone: true,
        size: 0,
        digest: String::new(),
        damaged: false,
        modified_ms: 1_763_762_400_125,
    };
    let page = Page { keys: vec![entry], next: Some("00".to_owned()) };
    let json = concat!(
        r#"{"keys":[{"key":"a/b","token":"00000000000000fe","version":"019aa86e6b7d0000-3-17-2","#,
        r#""tombstone":true,"size":0,"modified_ms":1763762400125}],"next":"00"}"#
    );
    assert_eq!(serde_json::to_string(&page).expect("plain values"), json);
    assert_eq!(serde_json::from_str::<Page>(json).expect("our own"), page);
    let entry = Entry { tombstone: false, damaged: true, ..page.keys[0].clone() };
    let said = serde_json::to_string(&entry).expect("plain values");
    assert!(said.contains(r#""tombstone":false,"size":0,"damaged":true,"modified_ms""#), "{said}");
    assert_eq!(serde_json::from_str::<Entry>(&said).expect("our own"), entry);
    let bound = Bound {
        cluster: ClusterId([1; 16]),
        shard: ShardId::new("s1").expect("a name"),
        birth: Birth { generation: Generation(0), epoch: Epoch(4) },
        epoch: PoolEpoch { generation: Generation(0), epoch: Epoch(7) },
        values: 1,
        bytes: 2,
        tombstones: 3,
        damaged: 5,
        stages: 4,
    };
    let state =
        State { store: StoreId([2; 16]), now_ms: 5, fenced: None, full: false, pool: Some(bound) };
    let json = serde_json::to_string(&state).expect("plain values");
    assert!(
        json.contains(
            r#""pool":{"cluster":"01010101010101010101010101010101","shard":"s1","birth":"0.4","epoch":"0.7","#
        ),
        "{json}"
    );
    assert_eq!(serde_json::from_str::<State>(&json).expect("our own"), state);
}
