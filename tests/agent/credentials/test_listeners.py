"""Certificates of gateways' listeners: filled in from Secrets, and again when these change."""

from pathlib import Path

import pytest

from agent.credentials.listeners import ListenerKeeper
from agent.credentials.material import Data, UnreachableError
from agent.model.resources import LISTENERS, Delta, Resource, listeners_resource
from protocols import routes_pb2 as pb
from tests.support.certificates import Authority, Certificate

NAME = "edge/ingress"


class Secrets(dict[str, Data]):
    """By `namespace/name`. away: they cannot be read now."""

    away = False

    def read(self, namespace: str, name: str) -> Data | None:
        if self.away:
            raise UnreachableError("the server is away")
        return self.get(f"{namespace}/{name}")


def data(certificate: Certificate, **more: str) -> dict[str, bytes]:
    own = {"tls.crt": certificate.chain.read_bytes(), "tls.key": certificate.key.read_bytes()}
    return own | {name.replace("_", "."): text.encode() for name, text in more.items()}


def asked(*servers: pb.Server, name: str = NAME) -> Resource:
    namespace, _, pod = name.partition("/")
    listener = pb.Listener(port=443, bind=443, servers=servers)
    return listeners_resource(pb.GatewayListeners(namespace=namespace, pod=pod, listeners=[listener]))


def server(secret: str = "edge/shop", **tls: object) -> pb.Server:
    certificates = [pb.ServerCertificate(secret=secret)]
    return pb.Server(name=secret, sni_hosts=["*"], tls=pb.ServerTls(certificates=certificates, **tls))  # type: ignore[arg-type]


def servers(delta: Delta) -> list[pb.Server]:
    [resource] = delta.changed
    [listener] = pb.GatewayListeners.FromString(resource.body).listeners
    return list(listener.servers)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "outside")


def keeper(secrets: Secrets, maps: Secrets | None = None, only: str = "") -> ListenerKeeper:
    return ListenerKeeper(secrets.read, (maps or Secrets()).read, only)


async def test_certificates_are_filled_in(authority: Authority) -> None:
    shop = authority.issue("shop.example.com")
    keep = keeper(Secrets({"edge/shop": data(shop)}))
    [found] = servers(await keep.follow(Delta((asked(server()),))))
    assert found.tls.certificates[0].chain == shop.chain.read_bytes()
    assert found.tls.certificates[0].private_key == shop.key.read_bytes()
    assert not found.tls.ca_certificates, "no client is asked for one"


async def test_clients_are_verified_by_the_ca_that_is_named(authority: Authority) -> None:
    shop = data(authority.issue("shop.example.com"))
    one = server(client_certificates=pb.REQUIRED)
    for secrets in (
        Secrets({"edge/shop": {**shop, "ca.crt": b"own"}}),
        Secrets({"edge/shop": shop, "edge/shop-cacert": {"cacert": b"own"}}),
    ):
        [found] = servers(await keeper(secrets).follow(Delta((asked(one),))))
        assert found.tls.ca_certificates == b"own"
    named = server(client_certificates=pb.REQUIRED, ca_source="edge/roots", ca_in_config_map=True)
    maps = Secrets({"edge/roots": {"ca.crt": b"mapped"}})
    [found] = servers(await keeper(Secrets({"edge/shop": shop}), maps).follow(Delta((asked(named),))))
    assert found.tls.ca_certificates == b"mapped"


@pytest.mark.parametrize("wrong", ["missing", "half", "other key", "no PEM", "no CA"])
async def test_what_cannot_be_used_is_left_out_alone(
    authority: Authority, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    good, other = (data(authority.issue("shop.example.com")) for _ in range(2))
    bad = {
        "half": {"tls.crt": good["tls.crt"]},
        "other key": {**good, "tls.key": other["tls.key"]},
        "no PEM": {**good, "tls.crt": b"x"},
        "no CA": good,
    }
    secrets = Secrets({"edge/good": good, **({"edge/shop": bad[wrong]} if wrong in bad else {})})
    one = server(client_certificates=pb.REQUIRED) if wrong == "no CA" else server()
    keep = keeper(secrets)
    found = servers(await keep.follow(Delta((asked(one, server("edge/good")),))))
    assert [found.name for found in found] == ["edge/good"]
    await keep.follow(Delta((asked(one),)))
    [told] = [record for record in caplog.records if "the server is left out" in record.message]
    assert "edge/shop" in told.message


async def test_what_was_known_holds_while_secrets_cannot_be_read(authority: Authority) -> None:
    secrets = Secrets({"edge/shop": data(authority.issue("shop.example.com"))})
    keep = keeper(secrets)
    assert servers(await keep.follow(Delta((asked(server()),))))
    secrets.away = True
    assert await keep.again() == Delta(), "nothing is different"
    assert not await keep.follow(Delta((asked(server(), server("edge/new")),))), "what is new has to wait"


async def test_a_secret_that_changes_is_told_again(authority: Authority) -> None:
    secrets = Secrets({"edge/shop": data(authority.issue("shop.example.com"))})
    keep = keeper(secrets)
    await keep.follow(Delta((asked(server()),)))
    assert not await keep.again()
    renewed = authority.issue("shop.example.com")
    secrets["edge/shop"] = data(renewed)
    [found] = servers(await keep.again())
    assert found.tls.certificates[0].chain == renewed.chain.read_bytes()
    await keep.follow(Delta((), ((LISTENERS, NAME),)))
    secrets["edge/shop"] = data(authority.issue("shop.example.com"))
    assert not await keep.again(), "nobody asks for it any more"


async def test_of_others_nothing_is_read(authority: Authority) -> None:
    secrets = Secrets({"edge/shop": data(authority.issue("shop.example.com"))})
    keep = keeper(secrets, only="edge/other")
    assert not (await keep.follow(Delta((asked(server()),)))).changed
    assert servers(await keep.follow(Delta((asked(server(), name="edge/other"),))))
