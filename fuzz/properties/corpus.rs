//! Replays the files of a target's corpus in `cargo test`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

const FILES_MAX: usize = 20;
const BYTES_MAX: usize = 4096;

/// Gives every file of the corpus, and the empty input, to the property; says how many the files are.
pub(crate) fn replay(target: &str, holds: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!((5..=FILES_MAX).contains(&paths.len()), "{} files in {}", paths.len(), folder.display());
    holds(b"");
    for path in &paths {
        let mut bytes = Vec::new();
        File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() <= BYTES_MAX, "{}: {} bytes", path.display(), bytes.len());
        // Shown by the test only when it fails: the last line names the file.
        println!("{}", path.display());
        holds(&bytes);
        cut_and_flipped(&bytes, holds);
    }
    paths.len()
}

/// What libFuzzer would try first: the input cut short, and with single bits flipped.
fn cut_and_flipped(bytes: &[u8], holds: fn(&[u8])) {
    let step = (bytes.len() / 32).max(1);
    for at in (0..bytes.len()).step_by(step) {
        holds(&bytes[..at]);
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << (at % 8);
        holds(&flipped);
    }
}
