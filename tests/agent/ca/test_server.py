"""The serving certificate and the address."""

import asyncio
import socket
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from agent.ca import server
from agent.ca.errors import AuthorityError
from tests.support.authority import RunningAuthority, authority
from tests.support.wait import PATIENCE


async def certificate(ca: RunningAuthority) -> x509.Certificate:
    """What the server shows in a handshake."""
    context = ssl.create_default_context(cafile=str(ca.root))
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", ca.port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(der)


async def test_it_names_where_it_listens(tmp_path: Path) -> None:
    async with authority(tmp_path) as ca:
        shown = await certificate(ca)
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}
    assert "localhost" in names.get_values_for_type(x509.DNSName)


async def test_it_is_renewed_at_half_of_its_life_without_a_restart(tmp_path: Path) -> None:
    async with authority(tmp_path, longest=timedelta(seconds=2)) as ca:
        first = await certificate(ca)
        async with asyncio.timeout(PATIENCE):
            while await certificate(ca) == first:
                pass
        await ca.ask()  # and it is good


async def test_an_address_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            AuthorityError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"
        ):
            async with authority(tmp_path, port=port):
                pass


def test_an_address_is_written_as_it_is_dialled() -> None:
    assert str(server.Listen(ip_address("10.0.0.1"), 1)) == "10.0.0.1:1"
    assert str(server.Listen(ip_address("fd00::1"), 1)) == "[fd00::1]:1"
