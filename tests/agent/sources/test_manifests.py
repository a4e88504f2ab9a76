"""Text -> objects: what is refused is named by line and field, the rest is used."""

from pathlib import Path

import pytest

from agent.model.schema.istio.policy import Policy
from agent.model.schema.kubernetes import Pod
from agent.model.schema.objects import Key
from agent.sources.manifests import is_of_the_mesh, parse
from tests.support.samples import BOOKINFO, SAMPLES

GOOD = "apiVersion: v1\nkind: Namespace\nmetadata: {name: good}\n"


def test_bookinfo() -> None:
    manifest = parse(BOOKINFO.read_bytes())
    assert not manifest.problems
    assert manifest.strangers == {("apps", "Deployment")}
    names = {"details", "ratings", "reviews", "productpage"}
    expected = {Key("Service", "default", n) for n in names}
    expected |= {Key("ServiceAccount", "default", f"bookinfo-{n}") for n in names}
    assert set(manifest.objects) == expected


@pytest.mark.parametrize(
    ("metadata", "spec", "account"),
    [
        ("", "{}", "default"),
        ("", "{serviceAccountName: ''}", "default"),
        ("", "{serviceAccountName: web}", "web"),
        ("", "{serviceAccount: web}", "web"),  # the field's old name
        (", annotations: {kubernetes.io/config.mirror: x}", "{}", ""),
    ],
)
def test_a_pod_is_admitted_with_a_service_account(metadata: str, spec: str, account: str) -> None:
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a{metadata}}}\nspec: {spec}\n"
    [pod] = parse(text.encode()).objects.values()
    assert isinstance(pod, Pod)
    assert pod.spec.service_account_name == account


@pytest.mark.parametrize(
    ("document", "line", "key", "reason"),
    [
        ("just text", 1, None, "an object with apiVersion and kind belongs here, not 'just text'"),
        ("kind: Pod", 1, None, "apiVersion and kind are needed"),
        ("apiVersion: v1\nkind: Pod", 1, None, "Pod: metadata.name is needed, and a string"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: a",
            4,
            None,
            "Pod: metadata.name is needed, and a string",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: 3",
            5,
            None,
            "Pod a: metadata.namespace must be a string",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: A",
            4,
            "Pod default/A",
            "metadata.name: a name has lower case letters, digits, - and . only (found 'A')",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels:\n    x: z\n    version: 1",
            7,
            "Pod default/a",
            "metadata.labels.version: this is a string: put it in quotes (found 1)",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\nspec:\n  containers:\n  - ports:\n"
            "    - containerPort: 80\n    - containerPort: 0",
            8,
            "Pod b/a",
            "spec.containers[0].ports[1].containerPort: Expected int >= 1 (found 0)",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - name: x",
            6,
            "Service default/a",
            "spec.ports[0]: Object missing required field port",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.1}",
            4,
            "Service default/a",
            "spec.clusterIP: this is a string: put it in quotes (found 10.1)",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus:\n  podIPs: [{ip: 1.2.3.4.5}]",
            5,
            "Pod default/a",
            "status.podIPs[0]: '1.2.3.4.5' does not appear to be an IPv4 or IPv6 address",
        ),
        (
            "apiVersion: networking.istio.io/v2\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a]}",
            1,
            "ServiceEntry default/a",
            "apiVersion networking.istio.io/v2 is not read; write networking.istio.io/v1",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec:\n"
            "  hosts: [a.example]\n  resolution: STATIC\n  endpoints:\n  - address: unix:///x",
            8,
            "ServiceEntry default/a",
            "spec.endpoints[0].address: a Unix socket cannot be an endpoint; give an address or a DNS name",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: a}\nspec: {weight: 3}",
            4,
            "WorkloadEntry default/a",
            "spec: address is needed, or the network whose gateway leads there",
        ),
        ("a: 1\nb: 2\na: 3", 1, None, "not YAML: a is there twice"),
        ("kind: List", 1, None, "an object with apiVersion and kind belongs here, not None"),
        ("kind: List\nitems: 3", 2, None, "an object with apiVersion and kind belongs here, not 3"),
        ("kind: List\nitems: [null]", 2, None, "an object with apiVersion and kind belongs here, not None"),
        ("kind: List\nitems:\n- 4", 3, None, "an object with apiVersion and kind belongs here, not 4"),
        (
            "x: !!python/name:os.system ''",
            1,
            None,
            "not YAML: the tag tag:yaml.org,2002:python/name:os.system is none of Kubernetes' own; "
            "leave it out",
        ),
    ],
)
def test_a_bad_document_is_refused_alone(document: str, line: int, key: str | None, reason: str) -> None:
    manifest = parse(f"{document}\n---\n{GOOD}".encode())
    [problem] = manifest.problems
    assert (problem.line, problem.key and str(problem.key), problem.reason) == (line, key, reason)
    assert list(manifest.objects) == [Key("Namespace", "", "good")]


@pytest.mark.parametrize(
    ("text", "line"), [(b"a: [", 2), (b"a: b: c", 1), (b"a: \x00", 1), (b"\xff\xfe\x00", 1), (b"a: \xe4", 1)]
)
def test_what_is_no_yaml_is_one_problem(text: bytes, line: int) -> None:
    [problem] = parse(text).problems
    assert problem.line == line
    assert problem.key is None
    assert problem.reason.startswith("not YAML: ")


def test_kubernetes_reading_of_yaml() -> None:
    text = (
        GOOD
        + "  \n---\n"
        + GOOD.replace(
            "{name: good}",
            "{name: dated, creationTimestamp: 2026-01-01T00:00:00Z, annotations: null, labels: }",
        )
    )
    manifest = parse(text.encode())
    assert not manifest.problems
    assert len(manifest.objects) == 2


def test_json_and_lists_and_the_default_namespace() -> None:
    manifest = parse(
        b'{\n\t"apiVersion": "v1",\n\t"kind": "List",\n\t"items": [\n'
        b'\t\t{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}},\n'
        b'\t\t{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}]}'
    )
    assert list(manifest.objects) == [Key("ServiceAccount", "default", "a"), Key("Node", "", "n")]


def test_lists_of_lists() -> None:
    text = (
        "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: List, items: [\n"
        "  {apiVersion: v1, kind: NamespaceList, items: [{metadata: {name: a}}, {metadata: {name: b}}]},\n"
        "  {apiVersion: v1, kind: ServiceAccountList, items: [\n"
        "    {metadata: {name: c}}, {apiVersion: v1, kind: Node, metadata: {name: d}}, {metadata: {}}]}]}]}"
    )
    manifest = parse(text.encode())
    names = [Key("Namespace", "", "a"), Key("Namespace", "", "b"), Key("ServiceAccount", "default", "c")]
    assert list(manifest.objects) == [*names, Key("Node", "", "d")]
    assert [(problem.line, problem.reason) for problem in manifest.problems] == [
        (4, "ServiceAccount: metadata.name is needed, and a string")
    ]


@pytest.mark.parametrize("namespace", ["''", "null", "~"])
def test_no_namespace_is_the_default_one(namespace: str) -> None:
    text = f"apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: a, namespace: {namespace}}}"
    assert list(parse(text.encode()).objects) == [Key("ServiceAccount", "default", "a")]


def test_twice_in_one_file() -> None:
    manifest = parse(f"{GOOD}---\n{GOOD}".encode())
    assert [problem.line for problem in manifest.problems] == [5]
    assert len(manifest.objects) == 1


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_any_version_of_istios(version: str) -> None:
    text = f"apiVersion: networking.istio.io/{version}\nkind: WorkloadEntry\nmetadata: {{name: a}}\n"
    manifest = parse(f"{text}spec: {{address: 10.0.0.1, ports: {{http: 80}}}}".encode())
    assert list(manifest.objects) == [Key("WorkloadEntry", "default", "a")]


def test_a_kind_is_told_by_its_group_as_well() -> None:
    text = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n"
    assert parse(text.encode()).strangers == {("serving.knative.dev", "Service")}
    assert not is_of_the_mesh("serving.knative.dev")
    assert is_of_the_mesh("networking.istio.io")
    assert is_of_the_mesh("gateway.networking.k8s.io")


@pytest.mark.parametrize("path", sorted(SAMPLES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_sample_is_understood(path: Path) -> None:
    assert not [p for p in parse(path.read_bytes()).problems if p.key]


POLICY = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n"
NEAREST = "the nearest is apiVersion: security.istio.io/v1, kind: AuthorizationPolicy"


@pytest.mark.parametrize(
    ("version", "kind", "line", "reason"),
    [
        ("v1", "AuthorizationPolicy", 1, f"there is no kind AuthorizationPolicy in v1; {NEAREST}"),
        ("", "AuthorizationPolicy", 1, f"there is no kind AuthorizationPolicy in ; {NEAREST}"),
        (
            "networking.istio.io/v1",
            "AuthorizationPolicy",
            1,
            f"there is no kind AuthorizationPolicy in networking.istio.io/v1; {NEAREST}",
        ),
        (
            "securty.istio.io/v1",
            "AuthorizationPolicy",
            1,
            f"there is no kind AuthorizationPolicy in securty.istio.io/v1; {NEAREST}",
        ),
        (
            "security.istio.io/v1",
            "AuthorisationPolicy",
            2,
            f"there is no kind AuthorisationPolicy in security.istio.io/v1; {NEAREST}",
        ),
        (
            "v1",
            "AuthorizationPolicies",
            2,
            f"there is no kind AuthorizationPolicies in v1; {NEAREST}",
        ),
        (
            "security.istio.io/v1alpha9",
            "AuthorizationPolicy",
            1,
            "apiVersion security.istio.io/v1alpha9 is not read; write security.istio.io/v1",
        ),
    ],
)
def test_what_is_misspelt_is_refused_with_the_nearest_spelling(
    version: str, kind: str, line: int, reason: str
) -> None:
    """And it holds in its strictest reading, as all that is refused: its author relies on it."""
    text = POLICY.replace("security.istio.io/v1", f'"{version}"').replace("AuthorizationPolicy", kind)
    manifest = parse(text.encode())
    [problem] = manifest.problems
    assert (problem.line, str(problem.key), problem.reason) == (
        line,
        "AuthorizationPolicy default/p",
        reason,
    )
    assert not (manifest.objects or manifest.strangers)
    [policy] = manifest.refused.values()
    assert isinstance(policy, Policy) and policy.strictest


def test_without_an_api_version_it_holds_as_well() -> None:
    manifest = parse(POLICY.partition("\n")[2].encode())
    [problem] = manifest.problems
    assert problem.reason == "apiVersion and kind are needed"
    assert [*manifest.refused] == [problem.key] == [Key("AuthorizationPolicy", "default", "p")]


def test_of_a_kind_that_is_not_acted_on_nothing_holds() -> None:
    manifest = parse(b"apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugins\nmetadata: {name: p}\n")
    [problem] = manifest.problems
    assert str(problem.key) == "WasmPlugin default/p"
    assert not (manifest.objects or manifest.refused or manifest.strangers)


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("policy.linkerd.io/v1alpha1", "AuthorizationPolicy"),
        ("serving.knative.dev/v1", "Service"),
        ("networking.istio.io/v1", "WorkloadGroup"),
        ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("apps/v1", "Deployment"),
        ("v1", "Endpoints"),
        ("v1", "Secret"),
        ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ],
)
def test_what_is_somebody_elses_is_not_taken_for_misspelt(version: str, kind: str) -> None:
    manifest = parse(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n".encode())
    assert not manifest.problems
    assert [name for _, name in manifest.strangers] == [kind]


def test_of_the_group_of_security_every_kind_is_known() -> None:
    [problem] = parse(POLICY.replace("AuthorizationPolicy", "Wall").encode()).problems
    assert problem.reason.startswith("there is no kind Wall in security.istio.io/v1; the nearest is")


@pytest.mark.parametrize(
    "document",
    [
        f"{POLICY}spec: {{rules: [}}",
        f"{POLICY}spec:\n  rules:\n  - from\n    to: x",
        f"{POLICY}spec: {{}}\nspec: {{}}",
        f"{POLICY}spec:\n\taction: DENY",
        "spec: {rules: [}\nmetadata:\n  labels: {x: y}\n  name: p\nkind: AuthorizationPolicy\n"
        "apiVersion: security.istio.io/v1",
        'kind: AuthorizationPolicy\nmetadata:\n  name: "p"\n  namespace: default\nspec: "',
        '{"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",'
        ' "metadata": {"name": "p"}, "spec": {"rules": [}}',
        '{\n  "apiVersion": "security.istio.io/v1",\n  "kind": "AuthorizationPolicy",\n'
        '  "metadata": {\n    "name": "p"\n  },\n  "spec": {{\n}',
    ],
)
def test_a_policy_that_is_no_yaml_is_known_by_its_name(document: str) -> None:
    """It may be any; what else is in the document nobody knows. Those around it are read."""
    other = GOOD.replace("good", "other")
    manifest = parse(f"{other}---\n{document}\n---\n{GOOD}".encode())
    assert [*manifest.objects] == [Key("Namespace", "", "other"), Key("Namespace", "", "good")]
    key = Key("AuthorizationPolicy", "default", "p")
    assert [*manifest.refused] == [key]
    assert [problem.key for problem in manifest.problems] == [None, key]
    lines = document.count("\n") + 1
    assert all(5 <= problem.line <= 5 + lines for problem in manifest.problems)


@pytest.mark.parametrize(
    "document",
    [
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: [",
        "apiVersion: policy.linkerd.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec: [",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: [",
    ],
)
def test_what_is_no_yaml_and_no_policy_that_is_named(document: str) -> None:
    manifest = parse(document.encode())
    assert [problem.key for problem in manifest.problems] == [None]
    assert not manifest.refused


def test_directives_belong_to_the_document_behind_them() -> None:
    manifest = parse(f"%YAML 1.1\n---\n{GOOD}...\n%YAML 1.1\n---\n{GOOD.replace('good', 'b')}".encode())
    assert not manifest.problems
    assert len(manifest.objects) == 2


def test_of_two_of_a_name_the_first_counts_refused_or_not() -> None:
    bad = f"{POLICY}spec: {{action: DENI}}\n"
    manifest = parse(f"{bad}---\n{POLICY}".encode())
    assert not manifest.objects
    assert [*manifest.refused] == [Key("AuthorizationPolicy", "default", "p")]
    manifest = parse(f"{POLICY}---\n{bad}".encode())
    assert [*manifest.objects] == [Key("AuthorizationPolicy", "default", "p")]
    assert not manifest.refused
