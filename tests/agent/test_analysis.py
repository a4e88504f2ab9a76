"""The analyzers: each message from the smallest manifests that deserve it, and from none that do not."""

import pytest

from agent.analysis import _CODES, analyze
from agent.model.model import Model
from protocols.proposal import File

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80}, {name: http-b, port: 81}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, uid: a, labels: {app: web}}
spec: {nodeName: a, serviceAccountName: web, containers: [{name: a}]}
status: {podIPs: [{ip: 10.0.1.1}], podIP: 10.0.1.1, phase: Running}
---
"""


def of(kind: str, spec: str, name: str = "a") -> str:
    group = "security" if kind in ("AuthorizationPolicy", "PeerAuthentication") else "networking"
    return (
        f"apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n"
        f"spec: {spec}\n---\n"
    )


def route(destination: str) -> str:
    return of("VirtualService", f"{{hosts: [web], http: [{{route: [{{destination: {destination}}}]}}]}}")


TCP = "{number: 5432, name: tcp, protocol: TCP}"
CASES = [
    ("IST0101", "no subset v9", route("{host: web, subset: v9, port: {number: 80}}")),
    ("IST0101", "there is no service", route("{host: nobody, port: {number: 80}}")),
    ("IST0101", "no port 99", route("{host: web, port: {number: 99}}")),
    ("IST0101", "no service of the mesh", of("DestinationRule", "{host: ghost}")),
    ("IST0106", "7", of("AuthorizationPolicy", "{action: 7}")),
    (
        "IST0111",
        "takes precedence",
        of("Sidecar", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")
        + of("Sidecar", "{outboundTrafficPolicy: {mode: ALLOW_ANY}}", "b"),
    ),
    ("IST0112", "several ports (80, 81)", route("{host: web}")),
    (
        "IST0118",
        "named 'weird'",
        "apiVersion: v1\nkind: Service\nmetadata: {name: w, namespace: shop}\n"
        "spec: {clusterIP: 10.0.0.2, ports: [{name: weird, port: 80}]}\n",
    ),
    ("IST0127", "app=none", of("PeerAuthentication", "{selector: {matchLabels: {app: none}}}")),
    ("IST0128", "mode SIMPLE", of("DestinationRule", "{host: web, trafficPolicy: {tls: {mode: SIMPLE}}}")),
    (
        "IST0129",
        "port 81",
        of(
            "DestinationRule",
            "{host: web, trafficPolicy: {portLevelSettings: [{port: {number: 81}, tls: {mode: SIMPLE}}]}}",
        ),
    ),
    (
        "IST0130",
        "never reached",
        of(
            "VirtualService",
            "{hosts: [web], http: [{route: [{destination: {host: web, port: {number: 80}}}]},"
            " {match: [{uri: {prefix: /a}}], route: [{destination: {host: web, port: {number: 80}}}]}]}",
        ),
    ),
    (
        "IST0134",
        "5432",
        of(
            "ServiceEntry",
            "{hosts: [db.example.com], ports: [{number: 5432, name: tcp, protocol: TCP}], resolution: DNS}",
        ),
    ),
    (
        "WRN0001",
        "cannot be judged",
        of("AuthorizationPolicy", "{rules: [{when: [{key: connection.sni, values: [a]}]}]}"),
    ),
]


@pytest.mark.parametrize(("code", "words", "text"), CASES)
def test_each_message_is_given_for_what_deserves_it(code: str, words: str, text: str) -> None:
    found = analyze(Model(), [File("a.yaml", WEB + text)])
    mine = [one for one in found if one.code == code]
    assert mine and all(one.object for one in mine), found
    assert any(words in one.text for one in mine), found


def test_what_is_well_has_no_message() -> None:
    well = WEB + route("{host: web, port: {number: 80}}")
    well += of("DestinationRule", "{host: web, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}")
    assert analyze(Model(), [File("a.yaml", well)]) == []


def test_every_text_of_the_model_that_has_a_code_is_met_above() -> None:
    texts = [one.text for _, _, text in CASES for one in analyze(Model(), [File("a", WEB + text)])]
    assert [part for part in _CODES if not any(part in text for text in texts)] == []
