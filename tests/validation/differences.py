"""Where we judge a manifest otherwise than Istio does, and why. Each key is a piece of a row's name."""

STRICTER = {
    "a regular expression that is none matches nothing: the route says so at once": (
        'method: {type: RegularExpression, service: "("}',
        'path: {type: RegularExpression, value: "("}',
        'path: {type: RegularExpression, value: ""}',
        'value: "(", type: RegularExpression',
    ),
    "a formatter that the tunnel does not have would make it refuse the service's routes": (
        '%DYNAMIC_METADATA(["a", "b"])%',
    ),
    "no header can be called so": ('headers: {request: {set: {"a b": c}}}', 'httpHeaderName: "a b"'),
    "the expression has no such group: Envoy would refuse all of its routes": (
        "{match: a, rewrite: '\\1'}",
        "{match: a, rewrite: '\\x'}",
    ),
    "a table of one entry balances nothing": ("maglev: {tableSize: 1}",),
    "HTTP has no status 600": ("directResponse: {status: 600}", "abort: {httpStatus: 600}"),
    "no Gateway can be called so": ('gateways: [mesh, "a b"]',),
    "no port has such a number": (
        "port: {}, loadBalancer",
        "port: {number: 0}, loadBalancer",
        "port: {number: 70000}, loadBalancer",
    ),
    "a key that is there twice would pass over what its author wrote first": (
        "{mode: STRICT, mode: PERMISSIVE}",
        "{name: a, name: b}",
        "{80: {mode: STRICT}, 80: {mode: DISABLE}}",
    ),
    "a tag of another program's asks for something that we do not do": ("!mode STRICT",),
    "no trust domain has a /: as a value it would fit nobody, or what follows a trust domain": (
        "{key: source.trustDomain, values: [a/b]}",
    ),
    "a Unix socket is no endpoint for a node's tunnel": (
        "address: unix:///a}",
        'address: "unix:///a"}',
        'address: "unix://@a"}',
        'address: "unix:///a", network: net1}',
    ),
    "Kubernetes knows no such label, so that no selector could mean it": (
        "labels: {A.B/c: d}",
        f"address: 10.0.0.1, labels: {{a: {'a' * 64}}}",
    ),
    "Kubernetes knows no such service account, and with a / in it an identity could be taken for another": (
        "serviceAccount: A}",
        "serviceAccount: A_B}",
        "serviceAccount: a_b}",
        "serviceAccount: a/b}",
        'serviceAccount: "*"}',
        'serviceAccount: "a b"}',
    ),
}
LAXER = {
    "the Gateway API's experimental channel has it": (
        "parentRefs: [{name: a, port: 80}, {name: a, port: 81}]",
        "retry: {attempts: 2, codes: [503], backoff: 10ms}",
        "sessionPersistence: {sessionName: a}",
    ),
    "credentials are looked for when a destination is reached, which is refused without them": (
        "configmap://a",
        "configmap://other/a",
    ),
    "an empty text is taken for none, as in Istio's protocol": ('timeout: ""',),
    "a null annotation is none: the policy is enforced, which is the stricter reading": (
        "istio.io/dry-run: null",
    ),
    "an empty list or mapping is taken for none, and means the same": (
        "serviceAccounts: [a], namespaces: []",
        "serviceAccounts: [], namespaces: [a]",
        "portLevelMtls: {}}",
        "portLevelMtls: {8080: null}}",
        "resolution: NONE, endpoints: []}",
        "resolution: STATIC, endpoints: []}",
    ),
    "Lists in Lists are read, although kubectl does not: each object in them is judged": (
        "items: [{apiVersion: v1, kind: List, items: [{apiVersion: security.istio.io/v1, "
        "kind: PeerAuthentication, metadata: {name: a}}]}]",
    ),
    "of parts of a Sidecar that are not acted on only that they are there is read, and told": (
        "Sidecar: spec: {egress: ",
        "Sidecar: spec: {ingress: ",
        "Sidecar: spec: {inboundConnectionPool: ",
    ),
}
