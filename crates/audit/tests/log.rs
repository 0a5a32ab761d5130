//! The hash-chained log: whatever is done to it, the verifier names the first line that is wrong.

use audit::{
    ChainBreak, ChainFault, Chained, Checkpoint, Event, GENESIS, Start, Summary, chain, checkpoint_message,
    verify, verify_from,
};
use types::{Blame, Wall};

const LINES: u64 = 8;

fn event(seq: u64) -> Event {
    Event::TokenRevoked { token_id: format!("token-{seq}"), device: "pump-7".into(), actor: "eve".into() }
}

fn log() -> Vec<Chained> {
    let mut prev = GENESIS;
    (1..=LINES)
        .map(|seq| {
            let line = chain(prev, seq, Wall::from_secs(1_785_542_400), &event(seq).to_json());
            prev = line.hash;
            line
        })
        .collect()
}

/// Rebuilds all hashes from the line at `from`, as somebody would who can write the log.
fn rechained(mut lines: Vec<Chained>, from: usize) -> Vec<Chained> {
    let mut prev = if from == 0 { GENESIS } else { lines[from - 1].hash };
    for line in &mut lines[from..] {
        *line = chain(prev, line.seq, line.at, &line.body);
        prev = line.hash;
    }
    lines
}

/// A signature that only this test can make: the message itself under a secret prefix.
fn sign(message: &[u8]) -> Vec<u8> {
    [b"secret", message].concat()
}

fn is_signed(message: &[u8], signature: &[u8]) -> bool {
    sign(message) == signature
}

fn checkpoint(line: &Chained) -> Checkpoint {
    let signature = sign(&checkpoint_message(line.seq, &line.hash, line.at));
    Checkpoint { seq: line.seq, hash: line.hash, at: line.at, signature }
}

fn check(lines: Vec<Chained>, checkpoints: &[Checkpoint]) -> Result<Summary, ChainBreak> {
    verify(lines.into_iter(), checkpoints, is_signed)
}

#[test]
fn a_whole_log_with_its_checkpoints_is_sound() {
    let lines = log();
    let marks = [checkpoint(&lines[7]), checkpoint(&lines[2])];
    let last_hash = lines[7].hash;
    assert_eq!(
        check(lines, &marks),
        Ok(Summary { lines: 8, last_seq: 8, last_hash, checkpoints: 2, signed_through: 8 })
    );
    assert_eq!(
        check(vec![], &[]),
        Ok(Summary { lines: 0, last_seq: 0, last_hash: GENESIS, checkpoints: 0, signed_through: 0 })
    );
}

#[test]
fn an_edited_line_is_named() {
    for at in 0..LINES as usize {
        let edits: [fn(&mut Chained); 4] = [
            |line| line.body = line.body.replace("pump-7", "pump-8"),
            |line| line.at = line.at.plus(std::time::Duration::from_millis(1)),
            |line| line.hash[31] ^= 1,
            |line| line.prev[0] ^= 1,
        ];
        for edit in edits {
            let mut lines = log();
            edit(&mut lines[at]);
            let broken = check(lines, &[]).unwrap_err();
            assert_eq!(broken.seq, at as u64 + 1);
            assert!(matches!(broken.fault, ChainFault::Edited { .. }), "{broken}");
            assert_eq!(broken.code(), "log.edited");
        }
    }
}

#[test]
fn an_edited_line_with_a_hash_to_fit_breaks_the_line_after_it() {
    let mut lines = log();
    lines[3] = chain(lines[3].prev, 4, lines[3].at, "{}");
    let broken = check(lines, &[]).unwrap_err();
    assert_eq!((broken.seq, broken.code()), (5, "log.not_linked"));
}

#[test]
fn a_dropped_line_is_named() {
    for at in 0..LINES as usize - 1 {
        let mut lines = log();
        lines.remove(at);
        let found = at as u64 + 2;
        let wanted = ChainBreak { seq: at as u64 + 1, fault: ChainFault::OutOfOrder { found } };
        assert_eq!(check(lines, &[]), Err(wanted));
    }
}

#[test]
fn a_dropped_line_with_new_numbers_is_still_named() {
    let mut lines = log();
    lines.remove(2);
    for (at, line) in lines.iter_mut().enumerate() {
        line.seq = at as u64 + 1;
    }
    let broken = check(lines, &[]).unwrap_err();
    assert_eq!((broken.seq, broken.code()), (3, "log.edited"));
}

#[test]
fn lines_that_change_places_are_named() {
    for at in 0..LINES as usize - 1 {
        let mut lines = log();
        lines.swap(at, at + 1);
        let found = at as u64 + 2;
        let wanted = ChainBreak { seq: at as u64 + 1, fault: ChainFault::OutOfOrder { found } };
        assert_eq!(check(lines, &[]), Err(wanted));
    }
}

#[test]
fn a_line_that_stands_twice_is_named() {
    let mut lines = log();
    lines.insert(4, lines[3].clone());
    let wanted = ChainBreak { seq: 5, fault: ChainFault::OutOfOrder { found: 4 } };
    assert_eq!(check(lines, &[]), Err(wanted));
}

#[test]
fn a_log_that_was_rewritten_whole_is_named_by_its_checkpoint() {
    let original = log();
    let marks = [checkpoint(&original[5])];
    let mut lines = original;
    lines[1].body = "{}".into();
    let lines = rechained(lines, 1);
    assert!(check(lines.clone(), &[]).is_ok(), "the chain alone cannot see it");
    let broken = check(lines, &marks).unwrap_err();
    assert_eq!((broken.seq, broken.code()), (6, "log.checkpoint_differs"));
}

#[test]
fn a_log_that_was_cut_off_behind_a_checkpoint_is_named() {
    let mut lines = log();
    let marks = [checkpoint(&lines[6])];
    lines.truncate(4);
    let wanted = ChainBreak { seq: 5, fault: ChainFault::CutOff { covered: 7 } };
    assert_eq!(check(lines, &marks), Err(wanted));
}

#[test]
fn a_forged_checkpoint_is_named() {
    let lines = log();
    let mut mark = checkpoint(&lines[6]);
    mark.signature[0] ^= 1;
    let wanted = ChainBreak { seq: 7, fault: ChainFault::BadSignature };
    assert_eq!(check(lines.clone(), &[mark]), Err(wanted));
    let mut mark = checkpoint(&lines[6]);
    mark.at = Wall(0);
    assert_eq!(check(lines, &[mark]).unwrap_err().code(), "log.bad_signature");
}

#[test]
fn a_stretch_is_verified_from_the_line_before_it() {
    let lines = log();
    let start = Start { seq: 3, hash: lines[2].hash };
    let marks = [checkpoint(&lines[0]), checkpoint(&lines[2]), checkpoint(&lines[7])];
    let summary = verify_from(start, lines[3..].iter().cloned(), &marks, is_signed).unwrap();
    assert_eq!((summary.lines, summary.last_seq, summary.checkpoints), (5, 8, 2));
    let wrong = Start { seq: 3, hash: GENESIS };
    let broken = verify_from(wrong, lines[3..].iter().cloned(), &[], is_signed).unwrap_err();
    assert_eq!((broken.seq, broken.code()), (4, "log.not_linked"));
}

#[test]
fn the_message_of_a_checkpoint_has_a_tag_and_fixed_fields() {
    let message = checkpoint_message(0x0102, &[0xaa; 32], Wall(3));
    assert_eq!(message.len(), 28 + 8 + 32 + 8);
    assert!(message.starts_with(b"bailiwick log checkpoint v1\0\0\0\0\0\0\0\x01\x02\xaa"));
    assert!(message.ends_with(&[0xaa, 0, 0, 0, 0, 0, 0, 0, 3]));
}

#[test]
fn a_hash_covers_every_field() {
    let base = chain(GENESIS, 1, Wall(1), "{}");
    for other in [
        chain([1; 32], 1, Wall(1), "{}"),
        chain(GENESIS, 2, Wall(1), "{}"),
        chain(GENESIS, 1, Wall(2), "{}"),
        chain(GENESIS, 1, Wall(1), "{ }"),
    ] {
        assert_ne!(other.hash, base.hash);
    }
    // The format is frozen: a log that was written by an older version is verified by every newer one.
    assert_eq!(types::hex(&base.hash), "efdf3b371121c97501bc77ae275b01118d01ec1bd739505e671a29920dc43b18");
}

#[test]
fn the_verdict_reads_as_the_house_style_asks() {
    let mut lines = log();
    lines.remove(3);
    let broken = check(lines, &[]).unwrap_err();
    assert_eq!(broken.to_string(), "log line 4: missing; line 5 stands in its place");
    assert_eq!(broken.blame(), Blame::Operator);
}
