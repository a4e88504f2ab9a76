"""Which credentials routes name, for the pods of one node."""

from agent.credentials.wanted import Wanted
from agent.model.resources import Delta, routes_resource
from protocols import routes_pb2 as pb

HOST = "a.example"


def routes(*scopes: tuple[str, tuple[str, ...]], host: str = HOST) -> Delta:
    """Scopes by the credential that they name, and the namespaces of their clients."""

    def scope(name: str, namespaces: tuple[str, ...]) -> pb.Scope:
        tls = pb.Tls(mode=pb.SIMPLE, credential=name)
        destination = pb.Destination(namespace="x", hostname=host, port=80, policy=pb.Policy(tls=tls))
        return pb.Scope(namespaces=namespaces, destinations=[destination])

    port = pb.PortRoutes(port=80, scopes=[scope(*one) for one in scopes])
    return Delta((routes_resource(pb.ServiceRoutes(namespace="x", hostname=host, ports=[port])),))


def test_a_secret_is_that_of_each_clients_namespace_on_the_node() -> None:
    wanted = Wanted()
    assert not wanted
    wanted.follow(routes(("Secret/s", ()), ("Secret/t", ("shop", "away"))))
    assert wanted
    assert wanted.names({"shop", "default"}) == {"Secret/shop/s", "Secret/default/s", "Secret/shop/t"}
    assert wanted.names(frozenset()) == frozenset()


def test_files_are_read_where_a_pod_may_use_them() -> None:
    wanted = Wanted()
    wanted.follow(routes(("Files/roots=%2Fa", ("shop",))))
    assert wanted.names({"shop"}) == {"Files/roots=%2Fa"}
    assert wanted.names({"default"}) == frozenset()


def test_what_is_named_no_more_is_not_wanted() -> None:
    wanted = Wanted()
    wanted.follow(routes(("Secret/s", ())))
    wanted.follow(routes(("Secret/t", ()), host="b.example"))
    wanted.follow(routes(("", ())))
    assert wanted.names({"d"}) == {"Secret/d/t"}
    [resource] = routes(("", ()), host="b.example").changed
    wanted.follow(Delta((), (resource.id,)))
    assert not wanted
