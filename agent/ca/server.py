"""The authority's gRPC server, over TLS with a certificate that it signs for itself."""

import logging
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

import grpc

from agent.ca.authority import Authority
from agent.ca.clock import elapsed
from agent.ca.errors import AuthorityError, Refusal
from agent.ca.service import CertificateService

log = logging.getLogger("warren.ca")

_LOOPBACK = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_OPTIONS = (
    ("grpc.max_concurrent_streams", 100),  # of a connection; a client queues what is beyond
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Requests that we have not looked at yet; of more, good ones are dropped like bad ones.
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
    ("grpc.max_receive_message_length", 64 * 1024),  # a request has a few kB
    ("grpc.so_reuseport", 0),  # a second authority on this port is a mistake
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


class Listen(NamedTuple):
    """An address and a port to listen on; port 0 takes a free one."""

    host: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.host.version == 6 else f"{self.host}:{self.port}"


class ServingCertificate:
    """The server's own certificate, made anew at a handshake after half of its life, or by a new signer."""

    def __init__(self, authority: Authority, listen: Listen, names: Iterable[str]) -> None:
        """names: DNS names by which the server is reached, beside this host's."""
        host = listen.host
        self._authority = authority
        self._hosts = dict.fromkeys(["localhost", socket.gethostname().lower(), *names])
        self._addresses = dict.fromkeys((*_LOOPBACK, *([] if host.is_unspecified else [host])))
        self._renew_at = 0.0
        self._first = self._make()

    def credentials(self) -> grpc.ServerCredentials:
        """For the server; they renew themselves."""
        # The stubs do not know that a fetcher may give None.
        return grpc.dynamic_ssl_server_credentials(self._first, self._renewed)  # type: ignore[arg-type]

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at each handshake; None: what it has will do."""
        try:
            if elapsed() < self._renew_at and self._authority.signer().certificate == self._signer:
                return None
            return self._make()
        except Refusal as refusal:  # callers are to be told so, which takes a handshake
            log.warning("the serving certificate stays: %s", refusal)
            return None

    def _make(self) -> grpc.ServerCertificateConfiguration:
        key, issued = self._authority.serving(self._hosts, self._addresses)
        left = (issued.not_after - self._authority.now()).total_seconds()
        self._renew_at, self._signer = elapsed() + left / 2, issued.signer.certificate
        log.info("serving certificate until %s", issued.not_after.isoformat())
        return grpc.ssl_server_certificate_configuration([(key, "".join(issued.chain).encode())])


async def start(
    authority: Authority, service: CertificateService, listen: Listen, names: Iterable[str] = ()
) -> tuple[grpc.aio.Server, int]:
    """Serve until the server is stopped; gives the port. Raises AuthorityError when it cannot listen."""
    server = grpc.aio.server(options=_OPTIONS)
    service.add_to(server)
    credentials = ServingCertificate(authority, listen, names).credentials()
    try:
        port = server.add_secure_port(str(listen), credentials)
    except RuntimeError as error:
        raise AuthorityError(f"cannot listen on {listen}: {_why(listen)}") from error
    await server.start()
    return server, port


def _why(listen: Listen) -> str:
    """gRPC keeps the reason to itself: ask the kernel."""
    family = socket.AF_INET6 if listen.host.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((str(ip_address(listen.host)), listen.port))
        except OSError as error:
            return error.strerror or str(error)
    return "the address was in use a moment ago"
