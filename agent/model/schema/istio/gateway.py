"""Istio's Gateway: on which ports of its gateways' pods it listens, for which hosts.

Read as strictly as Istio's webhook and the API server's schema do it.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import force_setattr

from agent.model.schema.istio.base import IstioObject, Strict
from agent.model.schema.istio.route_values import check_host
from agent.model.schema.objects import Labels, Port
from agent.model.schema.syntax import FieldError, check_selector, is_dns_label

Mode = Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"]
Version = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]
_PROTOCOLS = ("HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "TCP", "TLS")
_PLAIN = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB")
_ENCRYPTED = ("HTTPS", "TLS")
_MUTUAL = ("MUTUAL", "OPTIONAL_MUTUAL")
_TERMINATED = ("SIMPLE", *_MUTUAL)


class ServerPort(Strict, frozen=True):
    """target_port: of Istio's first versions, without effect."""

    number: Port
    protocol: str
    name: str = ""
    target_port: int = 0

    def __post_init__(self) -> None:
        if self.protocol.upper() not in _PROTOCOLS:
            raise FieldError(f"{self.protocol!r} is none of {', '.join(_PROTOCOLS)}", "protocol")

    @property
    def speaks_http(self) -> bool:
        """In plain text."""
        return self.protocol.upper() in _PLAIN


class Files(Strict, frozen=True):
    """Paths in the gateway's container."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


_CredentialNames = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=2)]


class ServerTls(Strict, frozen=True):
    """credential_name: of a Secret in the gateway's namespace."""

    https_redirect: bool = False
    mode: Mode = "PASSTHROUGH"
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    tls_certificates: tuple[Files, ...] = ()
    credential_name: str = ""
    credential_names: _CredentialNames | None = None
    ca_cert_credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: Version = "TLS_AUTO"
    max_protocol_version: Version = "TLS_AUTO"
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()
    insecure_skip_verify: bool | None = None

    def __post_init__(self) -> None:
        sources = (
            self.credential_name,
            self.credential_names,
            self.server_certificate,
            self.tls_certificates,
        )
        if self.mode in _TERMINATED and not any(sources) and not self.https_redirect:
            raise FieldError(f"{self.mode} needs a certificate; name its Secret", "credentialName")
        if self.credential_name and self.credential_names:
            raise FieldError("credentialName and credentialNames exclude each other", "credentialNames")
        named = self.credential_name or self.credential_names or self.ca_cert_credential_name
        if self.mode in _MUTUAL and not named and not self.ca_certificates:
            raise FieldError(f"{self.mode} needs whom to trust; name a Secret with ca.crt", "caCertificates")

    @property
    def credentials(self) -> tuple[str, ...]:
        """Names of the Secrets of its certificates."""
        return self.credential_names or ((self.credential_name,) if self.credential_name else ())

    @property
    def is_terminated(self) -> bool:
        return self.mode in _TERMINATED

    @property
    def is_mutual(self) -> bool:
        return self.mode in _MUTUAL


class Server(Strict, frozen=True):
    """hosts: `namespace/host`, of VirtualServices of that namespace; `.` is the Gateway's own, `*` any."""

    port: ServerPort
    hosts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    tls: ServerTls | None = None
    bind: str = ""
    default_endpoint: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        for index, host in enumerate(self.hosts):
            _check_server_host(host, index)
        protocol = self.port.protocol.upper()
        if protocol in _ENCRYPTED and self.tls is None:
            raise FieldError(f"protocol {protocol} needs it; write mode and credentialName", "tls")
        if self.port.speaks_http and self.tls and not self.tls.https_redirect:
            raise FieldError(f"protocol {protocol} is plain text; use HTTPS, or remove it", "tls")


class GatewaySpec(Strict, frozen=True):
    """selector: of pods, of all namespaces; none selects all gateways."""

    servers: Annotated[tuple[Server, ...], msgspec.Meta(min_length=1)]
    selector: Labels = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_selector(self.selector.items(), "selector")
        names = [server.name for server in self.servers if server.name]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise FieldError(f"two servers have the name {twice}", "servers")


class Gateway(IstioObject, frozen=True, kw_only=True):
    """Of the group networking.istio.io."""

    spec: GatewaySpec
    status: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        force_setattr(self, "status", None)


def _check_server_host(text: str, index: int) -> None:
    namespace, slash, host = text.rpartition("/")
    if slash and namespace not in ("*", ".") and not is_dns_label(namespace):
        raise FieldError(f"{text!r}: before the / belongs a namespace, . or *", "hosts", index)
    check_host(host, "hosts", index)
