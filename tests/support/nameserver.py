"""A name server whose answers a test chooses, over UDP and TCP."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Message = dns.message.Message


class NameServer(asyncio.DatagramProtocol):
    """records: by name without the last dot, addresses of both families or the name of another name.

    broken: answers SERVFAIL; silent: says nothing; truncated: over UDP says that TCP has more.
    asked: every question, as `name TYPE`.
    """

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.ttl = 0
        self.broken = self.silent = self.truncated = False
        self.asked: list[str] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self.answer(dns.message.from_wire(data), self.truncated)
        if answer and self._transport:
            self._transport.sendto(answer.to_wire(max_size=65535), addr)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                answer = self.answer(dns.message.from_wire(await reader.readexactly(length)), False)
                wire = answer.to_wire(max_size=65535) if answer else b""
                writer.write(struct.pack("!H", len(wire)) + wire)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    def answer(self, query: Message, truncated: bool) -> Message | None:
        [question] = query.question
        name, kind = question.name.to_text(omit_final_dot=True).lower(), question.rdtype
        self.asked.append(f"{name} {dns.rdatatype.to_text(kind)}")
        if self.silent:
            return None
        answer = dns.message.make_response(query, recursion_available=True)
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif truncated:
            answer.flags |= dns.flags.TC
        else:
            self._fill(answer, name, question.name.to_text(), kind)
        return answer

    def _fill(self, answer: Message, name: str, owner: str, kind: int) -> None:
        if name not in self.records:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return
        for value in self.records[name]:
            own = "A" if value.replace(".", "").isdigit() else "AAAA" if ":" in value else "CNAME"
            if own == "CNAME":
                answer.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", own, f"{value}."))
                self._fill(answer, value, f"{value}.", kind)
            elif dns.rdatatype.from_text(own) == kind:
                answer.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", own, value))


@asynccontextmanager
async def serving(address: str, port: int = 53) -> AsyncIterator[NameServer]:
    """A name server at an address of this network namespace."""
    server = NameServer()
    loop = asyncio.get_running_loop()
    make: Callable[[], NameServer] = lambda: server  # noqa: E731
    transport, _ = await loop.create_datagram_endpoint(make, local_addr=(address, port))
    listener = await asyncio.start_server(server.stream, address, port)
    try:
        yield server
    finally:
        transport.close()
        listener.close()
