use super::*;
use crate::config::proto::{self, Action, PolicyScope};
use crate::config::Resource;
use crate::mesh::testing::{self, mesh, pod, resource, sent, service};
use crate::sys::pod_info::testing::info;
use std::cell::RefCell;

/// Netns cookies.
const CLIENT: u64 = 1;
const SERVER: u64 = 2;

/// The kernel's map.
#[derive(Default)]
struct Map {
    allowed: RefCell<HashMap<Pair, Allowance>>,
    is_full: bool,
}

impl Allowances for Map {
    fn allow(&self, pair: &Pair, allowance: Allowance) -> bool {
        if !self.is_full {
            self.allowed.borrow_mut().insert(*pair, allowance);
        }
        !self.is_full
    }

    fn deny(&self, pair: &Pair) {
        self.allowed.borrow_mut().remove(pair);
    }
}

/// A node with the pods `client` at 10.0.0.1 and `server` at 10.0.0.2.
struct Node {
    mesh: Mesh,
    pods: Pods,
    pairs: Pairs,
    kernel: Map,
    revoked: HashSet<Identity>,
}

fn identity(name: &str) -> Identity {
    format!("spiffe://cluster.local/ns/default/sa/{name}").parse().unwrap()
}

/// To an address of the server's, by default.
fn pair(to: &str) -> Pair {
    Pair::new(CLIENT, to.parse().unwrap())
}

fn usual() -> Pair {
    pair("10.0.0.2:8080")
}

/// A policy of the namespace, about connections to this port.
fn policy(action: Action, port: u32) -> Resource {
    testing::policy(action, proto::Match { destination_ports: vec![port], ..Default::default() })
}

/// The server, under a policy of which nothing is known.
fn selected_by_one_that_is_missing() -> Resource {
    let authorization_policies = vec!["default/late".into()];
    resource(proto::Workload { authorization_policies, ..pod("server", &["10.0.0.2"]) })
}

impl Node {
    fn new() -> Node {
        let mut node = Node {
            mesh: mesh([resource(pod("client", &["10.0.0.1"])), resource(pod("server", &["10.0.0.2"]))]),
            pods: Pods::default(),
            pairs: Pairs::default(),
            kernel: Map::default(),
            revoked: HashSet::new(),
        };
        node.mesh.know_all_policies();
        node.enrol(CLIENT, "client");
        node.enrol(SERVER, "server");
        node
    }

    fn enrol(&mut self, cookie: u64, name: &str) {
        self.pods.insert(cookie, &info(&identity(name).to_string(), name));
    }

    /// The mesh after a push of policies.
    fn enforce<const N: usize>(&mut self, policies: [Resource; N]) {
        let (mesh, rejected) = self.mesh.apply(proto::AUTHORIZATION, policies, &[]);
        assert_eq!(rejected, []);
        self.mesh = mesh;
    }

    /// Whether the pair is allowed after it was offered.
    fn offer(&mut self, pair: Pair) -> bool {
        self.pairs.offer(&self.mesh, &self.pods, pair, &self.revoked, &self.kernel);
        self.allows(&pair)
    }

    /// The kernel's map and our own list are of one mind.
    fn allows(&self, pair: &Pair) -> bool {
        let listed = self.pairs.allowed().any(|(known, to)| Pair::new(known.pods.0, to) == *pair);
        assert_eq!(listed, self.kernel.allowed.borrow().contains_key(pair));
        listed
    }

    /// A connection to the server is told; false where nobody knows what it is.
    fn open(&mut self, pair: &Pair) -> bool {
        let target = SocketAddr::from(([10, 0, 0, 2], 8080));
        let known = self.pairs.get(&self.mesh, &self.pods, pair, target);
        known.map(|known| known.open += 1).is_some()
    }

    /// What the review refuses.
    fn review(&mut self) -> HashMap<Pair, Refusal> {
        let refused = self.pairs.review(&self.mesh, &self.revoked, &self.kernel);
        refused.into_iter().map(|(pair, failure)| (pair, failure.refusal)).collect()
    }
}

#[test]
fn a_pair_that_policies_allow_is_allowed_with_its_ends() {
    let mut node = Node::new();
    assert!(node.offer(usual()));
    let (from, to) = ("10.0.0.1".parse::<IpAddr>().unwrap().into(), usual().to);
    let allowance = Allowance { generation: 0, netns: SERVER, to, from, zero: 0 };
    assert_eq!(node.kernel.allowed.borrow()[&usual()], allowance);
}

/// The kernel sends a connection to where the tunnel would: the endpoint and its own port.
#[test]
fn a_service_is_allowed_as_its_endpoint() {
    let mut node = Node::new();
    let web = service("web", &["10.1.0.1"]);
    node.mesh = node.mesh.and([resource(pod("server", &["10.0.0.2"]).of(&web, &[])), resource(web)]);
    let asked = pair("10.1.0.1:80");
    assert!(node.offer(asked));
    assert_eq!(node.kernel.allowed.borrow()[&asked].to, usual().to);
    let known = node.pairs.known(&asked).unwrap();
    assert_eq!(known.way.service.as_ref().map(|service| &*service.name), Some("web"));
}

#[test]
fn what_is_not_allowed_for_certain_is_not_offered() {
    for policy in [policy(Action::Deny, 8080), policy(Action::Allow, 9090)] {
        let mut node = Node::new();
        node.enforce([policy]);
        assert!(!node.offer(usual()) && node.pairs.known(&usual()).is_none());
    }
    let mut undecided = Node::new();
    undecided.mesh = undecided.mesh.and([selected_by_one_that_is_missing()]);
    assert!(!undecided.offer(usual()));
    for name in ["client", "server"] {
        let mut node = Node::new();
        node.revoked.insert(identity(name));
        assert!(!node.offer(usual()), "{name} is revoked");
    }
}

#[test]
fn a_pair_that_lacks_a_part_is_not_offered() {
    let mut node = Node::new();
    assert!(!node.offer(Pair::new(99, "10.0.0.2:8080".parse().unwrap())), "a namespace of no pod");
    assert!(!node.offer(pair("10.0.0.3:8080")), "an address of nobody");
    assert!(!node.offer(pair("10.0.0.1:8080")), "the pod itself");
    assert!(!node.offer(pair("10.0.0.2:15008")), "a port of the tunnel's");
    node.mesh = node.mesh.and([resource(pod("late", &["10.0.0.3"]))]);
    assert!(!node.offer(pair("10.0.0.3:8080")), "a pod that is not enrolled");
    node.mesh = node.mesh.and([resource(pod("six", &["fd00::3"]))]);
    node.enrol(3, "six");
    assert!(!node.offer(pair("[fd00::3]:8080")), "the client has no address of that family");
    node.mesh = node.mesh.without(&["Kubernetes//Pod/default/client"]);
    assert!(!node.offer(usual()), "a source that the mesh does not know");
}

#[test]
fn one_pod_has_no_more_than_its_part() {
    let mut node = Node::new();
    for port in 0..MOST as u16 {
        assert!(node.offer(pair(&format!("10.0.0.2:{}", 20_000 + port))));
    }
    assert!(!node.offer(usual()));
    let back = Pair::new(SERVER, "10.0.0.1:8080".parse().unwrap());
    assert!(node.offer(back), "another pod has its own");
}

#[test]
fn a_pair_for_which_the_kernel_has_no_room_is_not_known() {
    let mut node = Node { kernel: Map { is_full: true, ..Map::default() }, ..Node::new() };
    assert!(!node.offer(usual()) && node.pairs.known(&usual()).is_none());
}

#[test]
fn a_pair_is_forgotten_with_its_last_connection_where_it_is_not_allowed() {
    let mut node = Node::new();
    assert!(node.open(&usual()) && node.open(&usual()));
    assert_eq!(node.pairs.known(&usual()).map(|known| known.open), Some(2));
    assert!(!node.allows(&usual()), "a connection that is told allows no further one");
    assert!(node.offer(usual()));
    assert_eq!(node.pairs.known(&usual()).map(|known| known.open), Some(2), "they are still open");
    node.pairs.closed(&usual());
    node.pairs.closed(&usual());
    node.pairs.closed(&usual());
    assert_eq!(node.pairs.known(&usual()).map(|known| known.open), Some(0));
    node.enforce([policy(Action::Deny, 8080)]);
    assert!(node.open(&usual()));
    node.review();
    assert!(node.pairs.known(&usual()).is_some(), "its connection is still to be ended");
    node.pairs.closed(&usual());
    assert!(node.pairs.known(&usual()).is_none());
}

#[test]
fn a_connection_of_nobody_is_not_known() {
    let mut node = Node::new();
    let stranger = Pair::new(99, "10.0.0.2:8080".parse().unwrap());
    assert!(!node.open(&stranger));
    node.mesh = node.mesh.without(&["Kubernetes//Pod/default/server"]);
    assert!(!node.open(&usual()));
}

#[test]
fn a_policy_that_denies_ends_what_it_had_allowed() {
    let mut node = Node::new();
    let other = pair("10.0.0.2:9090");
    assert!(node.offer(usual()) && node.offer(other) && node.open(&usual()));
    node.enforce([policy(Action::Deny, 8080)]);
    assert_eq!(node.review(), HashMap::from([(usual(), Refusal::PolicyDenied)]));
    assert!(!node.allows(&usual()) && node.allows(&other));
    assert!(!node.offer(usual()));
}

/// A guard that is replaced is asked, whether it says the same or not.
#[test]
fn a_policy_that_is_replaced_is_asked_again() {
    let mut node = Node::new();
    node.enforce([policy(Action::Allow, 8080)]);
    assert!(node.offer(usual()) && node.open(&usual()));
    node.enforce([policy(Action::Audit, 8080)]);
    assert_eq!(node.review(), HashMap::new());
    assert!(node.pairs.known(&usual()).unwrap().judgement.audited.is_some());
    node.enforce([policy(Action::Allow, 9090)]);
    assert_eq!(node.review(), HashMap::from([(usual(), Refusal::PolicyNotAllowed)]));
    assert!(!node.allows(&usual()));
}

/// What is open stays as it was decided; nothing new goes past the tunnel meanwhile.
#[test]
fn what_cannot_be_decided_stays_and_is_not_allowed_further() {
    let mut node = Node::new();
    assert!(node.offer(usual()) && node.open(&usual()));
    node.mesh = node.mesh.and([selected_by_one_that_is_missing()]);
    assert_eq!(node.review(), HashMap::new());
    assert!(!node.allows(&usual()) && node.pairs.known(&usual()).is_some());
}

#[test]
fn a_certificate_that_is_revoked_ends_the_pairs_of_its_pod() {
    for name in ["client", "server"] {
        let mut node = Node::new();
        assert!(node.offer(usual()) && node.open(&usual()));
        node.revoked.insert(identity(name));
        assert_eq!(node.review(), HashMap::from([(usual(), Refusal::CertificateRevoked)]), "{name}");
        assert!(!node.allows(&usual()));
    }
}

type Change = fn(&Mesh) -> Mesh;

/// Further connections take the tunnel; what is open goes on where it is.
#[test]
fn a_pair_that_the_mesh_has_otherwise_by_now_is_denied() {
    let changes: [(&str, Change); 5] = [
        ("the source is gone", |mesh| mesh.without(&["Kubernetes//Pod/default/client"])),
        ("the destination is gone", |mesh| mesh.without(&["Kubernetes//Pod/default/server"])),
        ("the destination is plain", |mesh| mesh.and([resource(pod("server", &["10.0.0.2"]).plain())])),
        ("the address is another pod's", |mesh| {
            let mesh = mesh.without(&["Kubernetes//Pod/default/server"]);
            mesh.and([resource(pod("other", &["10.0.0.2"]))])
        }),
        ("the source has another address", |mesh| mesh.and([resource(pod("client", &["10.0.0.9"]))])),
    ];
    for (what, change) in changes {
        let mut node = Node::new();
        assert!(node.offer(usual()) && node.open(&usual()));
        node.mesh = change(&node.mesh);
        assert_eq!(node.review(), HashMap::new(), "{what}");
        assert!(!node.allows(&usual()), "{what}");
        assert!(node.pairs.known(&usual()).is_some(), "{what}");
        node.pairs.closed(&usual());
        assert!(node.pairs.known(&usual()).is_none(), "{what}");
    }
}

#[test]
fn a_service_that_leads_elsewhere_by_now_is_denied() {
    let mut node = Node::new();
    let web = service("web", &["10.1.0.1"]);
    node.mesh = node.mesh.and([resource(pod("server", &["10.0.0.2"]).of(&web, &[])), resource(web.clone())]);
    assert!(node.offer(pair("10.1.0.1:80")));
    node.mesh = node.mesh.and([resource(pod("server", &["10.0.0.2"]).of(&web, &[(80, 9090)]))]);
    node.review();
    assert!(!node.allows(&pair("10.1.0.1:80")));
}

#[test]
fn a_mesh_that_changes_elsewhere_leaves_a_pair_allowed() {
    let mut node = Node::new();
    assert!(node.offer(usual()));
    node.mesh = node.mesh.and([resource(pod("other", &["10.0.0.3"]))]);
    assert_eq!(node.review(), HashMap::new());
    assert!(node.allows(&usual()));
}

/// Its own connections and those to it.
#[test]
fn a_pod_that_goes_takes_its_pairs_along() {
    for gone in [CLIENT, SERVER] {
        let mut node = Node::new();
        node.mesh = node.mesh.and([resource(pod("other", &["10.0.0.3"]))]);
        node.enrol(3, "other");
        let others = Pair::new(3, if gone == CLIENT { "10.0.0.2:80" } else { "10.0.0.1:80" }.parse().unwrap());
        let back = Pair::new(SERVER, "10.0.0.1:80".parse().unwrap());
        assert!(node.offer(usual()) && node.offer(back) && node.offer(others));
        let forgotten: HashSet<Pair> = node.pairs.forget(gone, Some(&node.kernel)).into_iter().collect();
        assert_eq!(forgotten, HashSet::from([usual(), back]));
        assert!(!node.allows(&usual()) && !node.allows(&back) && node.allows(&others));
        node.pods.remove(gone);
        assert!(!node.offer(usual()), "half of the pair is gone");
    }
}

#[test]
fn other_maps_hold_nothing_that_was_allowed() {
    let mut node = Node::new();
    let other = pair("10.0.0.2:9090");
    assert!(node.offer(usual()) && node.open(&usual()) && node.offer(other));
    node.kernel = Map::default();
    node.pairs.start_anew();
    assert!(!node.allows(&usual()) && node.pairs.known(&other).is_none());
    assert_eq!(node.pairs.sources(), [CLIENT], "a connection is still open");
    assert!(node.offer(usual()));
    assert_eq!(node.pairs.known(&usual()).map(|known| known.open), Some(1));
}

#[test]
fn a_pair_whose_connections_do_not_arrive_takes_the_tunnel_for_a_while() {
    let mut node = Node::new();
    assert!(node.offer(usual()));
    node.pairs.quarantine(&usual(), &node.kernel);
    assert!(!node.allows(&usual()) && !node.offer(usual()));
    assert!(node.offer(pair("10.0.0.2:9090")), "it concerns that pair alone");
    let before = Instant::now().checked_sub(SHUNNED).unwrap();
    node.pairs.shunned.insert(usual(), before);
    assert!(node.offer(usual()));
}

/// A pod of the same name has come before the former one has gone.
#[test]
fn a_pod_that_comes_again_is_known_by_its_new_namespace() {
    let mut node = Node::new();
    node.enrol(7, "server");
    node.pods.remove(SERVER);
    assert!(node.offer(usual()));
    assert_eq!(node.kernel.allowed.borrow()[&usual()].netns, 7);
    assert_eq!(node.pods.cookie_of("server"), Some(7));
    assert!(node.pods.get(SERVER).is_none());
}

#[test]
fn connections_that_are_counted_do_not_go_past_who_counts_them() {
    let connections = Some(proto::ConnectionLimit { concurrent: 1 });
    let limit = Some(proto::RateLimit { connections, ..proto::RateLimit::default() });
    let limits = proto::Authorization {
        name: "limits".into(),
        namespace: "default".into(),
        scope: PolicyScope::Namespace as i32,
        action: Action::Limit as i32,
        rules: vec![proto::Rule { limit, ..proto::Rule::default() }],
        ..Default::default()
    };
    let mut node = Node::new();
    node.enforce([sent(proto::AUTHORIZATION, "default/limits", &limits)]);
    assert!(!node.offer(usual()));
}
