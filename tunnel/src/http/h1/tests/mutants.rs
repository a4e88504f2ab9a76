//! What the fuzz targets state, of many changes of their seeds: a short run of them with every test run.
use super::super::fuzzing::{chunks, http1};
use crate::base::Rng;

type Seed = (fn(&[u8]), &'static [u8]);

const SEEDS: [Seed; 7] = [
    (http1, include_bytes!("../../../../fuzz/corpus/http1/get")),
    (http1, include_bytes!("../../../../fuzz/corpus/http1/upgrade")),
    (http1, include_bytes!("../../../../fuzz/corpus/http1/connect")),
    (http1, include_bytes!("../../../../fuzz/corpus/http1/response")),
    (chunks, include_bytes!("../../../../fuzz/corpus/chunks/usual")),
    (chunks, include_bytes!("../../../../fuzz/corpus/chunks/plain")),
    (chunks, include_bytes!("../../../../fuzz/corpus/chunks/broken")),
];
/// Bytes that mean something.
const TELLING: &[u8] = b"\r\n\0 \t:;,=/@#%?*[]0123456789abcdefATHx\x7f\xff";

#[test]
fn changed_seeds_hold_what_the_targets_state() {
    let mut rng = Rng::seeded(11);
    let mut below = |limit: usize| rng.below(limit as u64).unwrap() as usize;
    for (target, seed) in SEEDS {
        target(seed);
        for _ in 0..3000 {
            let mut input = seed.to_vec();
            for _ in 0..below(4) + 1 {
                let (at, byte) = (below(input.len()), TELLING[below(TELLING.len())]);
                match below(3) {
                    0 => input[at] = byte,
                    1 => input.insert(at, byte),
                    _ if input.len() > 1 => drop(input.remove(at)),
                    _ => {}
                }
            }
            target(&input);
        }
    }
}
