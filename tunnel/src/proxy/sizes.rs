//! What a task takes for as long as its connection lives: how the connection began is no part of that.
use super::{inbound, outbound};

/// Bytes; thousands of connections are idle on a node.
const MOST: usize = 1280;

fn of3<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

fn of4<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_connection_takes_a_kilobyte_of_its_task() {
    for (size, what) in
        [(of3(outbound::serve), "outbound"), (of4(inbound::serve), "inbound"), (of4(inbound::serve_plain), "plain")]
    {
        assert!(size <= MOST, "{what}: {size}");
    }
}
