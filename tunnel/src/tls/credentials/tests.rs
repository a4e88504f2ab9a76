use super::testing::{expected, usual, Authority};
use super::*;

#[test]
fn of_configurations_for_many_peers_the_last_ones_are_kept() {
    let root = Authority::new("root");
    let credentials = root.credentials("spiffe://cluster.local/ns/a/sa/us", &root, usual);
    let config = |number: usize| {
        let peer = format!("spiffe://cluster.local/ns/a/sa/{number}");
        credentials.client(&expected(&[&peer])).unwrap()
    };
    let first = config(0);
    for number in 1..2 * CLIENTS_MAX {
        config(number);
        assert!(Arc::ptr_eq(&config(0), &first), "in use all the time");
    }
    assert_eq!(credentials.clients.lock().unwrap().len(), CLIENTS_MAX);
}
