//! A hash that is the same in each process and on each node, so that they agree on whose request goes where.

/// FNV-1a, its bits mixed once more: it alone leaves the upper ones of short texts alike.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(fnv)
}

/// `bytes` with a number behind them.
pub fn numbered(bytes: &[u8], number: u64) -> u64 {
    mix(hash(bytes) ^ mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
