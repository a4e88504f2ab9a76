"""A certificate authority that runs, with one pod on each of two nodes, and requests to it."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from agent.ca import server
from agent.ca.authority import DAY, Authority
from agent.ca.authorizer import Authorizer
from agent.ca.directory import open_root
from agent.ca.metrics import Figures
from agent.ca.placement import Placement
from agent.ca.service import NAME, CertificateService
from agent.ca.tokens import TokenFile, Tokens
from agent.model.schema.kubernetes import Pod, PodSpec, PodStatus
from agent.model.schema.objects import Metadata, key_of
from protocols.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from tests.support.wait import PATIENCE

WEB = "spiffe://cluster.local/ns/default/sa/web"  # runs on node1
DB = "spiffe://cluster.local/ns/default/sa/db"  # runs on node2


def pod(name: str, node: str, account: str, phase: str = "Running") -> Pod:
    """A pod of namespace `default`, in the mesh."""
    return Pod(
        Metadata(name=name, namespace="default", labels={"istio.io/dataplane-mode": "ambient"}),
        PodSpec(node_name=node, service_account_name=account),
        PodStatus(phase=phase),
    )


def csr(
    names: Iterable[str | x509.GeneralName] = (WEB,), key: CertificateIssuerPrivateKeyTypes | None = None
) -> str:
    """A request in PEM; a name that is text is a URI."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    general = [x509.UniformResourceIdentifier(name) if isinstance(name, str) else name for name in names]
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class RunningAuthority:
    """Its parts, to be changed by a test, and how to ask it. Tokens: token1 is node1's, token2 node2's."""

    directory: Path
    port: int
    placement: Placement
    figures: Figures
    server: grpc.aio.Server
    tokens: Path = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = self.directory / "tokens.json"

    @property
    def root(self) -> Path:
        return self.directory / "root.pem"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def counted(self, result: str) -> int:
        """How many requests ended like that."""
        return self.figures.results[result]

    async def ask(
        self,
        request: str | None = None,
        identity: str | None = WEB,
        authorization: str | None = "Bearer token1",
        validity: int = 0,
    ) -> list[str]:
        """CreateCertificate over a connection of its own; gives the chain. Raises AioRpcError."""
        message = IstioCertificateRequest(csr=request or csr(), validity_duration=validity)
        if identity is not None:
            message.metadata.update({"ImpersonatedIdentity": identity})
        credentials = grpc.ssl_channel_credentials(self.root.read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials) as channel:
            method = channel.unary_unary(
                f"/{NAME}/CreateCertificate",
                IstioCertificateRequest.SerializeToString,
                IstioCertificateResponse.FromString,
            )
            metadata = (("authorization", authorization),) if authorization else ()
            response: IstioCertificateResponse = await method(message, metadata=metadata, timeout=PATIENCE)
            return list(response.cert_chain)


@asynccontextmanager
async def authority(
    directory: Path,
    longest: timedelta = DAY,
    port: int = 0,
    tokens: Callable[[Placement], Tokens] | None = None,
) -> AsyncIterator[RunningAuthority]:
    """Run one on 127.0.0.1, from what is in `directory` or is made there. tokens: None for the file's."""
    figures, placement = Figures(), Placement()
    file = directory / "tokens.json"
    file.write_text(json.dumps({"token1": "node1", "token2": "node2"}))
    placement.apply((key_of(one), one) for one in (pod("web", "node1", "web"), pod("db", "node2", "db")))
    root = open_root(directory, "cluster.local")
    signing = Authority(lambda: root, longest)
    known = tokens(placement) if tokens else TokenFile(file)
    authorizer = Authorizer(known, placement, "cluster.local")
    service = CertificateService(signing, authorizer, figures)
    listen = server.Listen(ip_address("127.0.0.1"), port)
    running, port = await server.start(signing, service, listen)
    try:
        yield RunningAuthority(directory, port, placement, figures, running)
    finally:
        await running.stop(None)
