"""Sockets inside a pod, driven by the test step by step. The functions run in a Resident."""

import contextlib
import errno
import hashlib
import itertools
import random
import select
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

Address = tuple[str, int]

_sockets: dict[int, socket.socket] = {}
_numbers = itertools.count(1)
_BLOCK = 1 << 20
_AT_A_TIME = 8  # short connections under way: one alone waits for the scheduler at each of its steps
GREETING = b"220 ready"


def keep(sock: socket.socket) -> int:
    """The number by which it is known from now on."""
    sock.settimeout(20)
    _sockets[number := next(_numbers)] = sock
    return number


def listen(port: int, device: str = "") -> int:
    """On all addresses of both families; of a device alone, if one is named."""
    sock = socket.create_server(("::", port), family=socket.AF_INET6, backlog=4096, dualstack_ipv6=True)
    if device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    return keep(sock)


def make_room(listener: int, more: int) -> None:
    """Let so many more connections wait to be accepted."""
    _sockets[listener].listen(more)


def accept(listener: int) -> tuple[int, str]:
    """The next connection, and the client's address as the server sees it."""
    sock, address = _sockets[listener].accept()
    return keep(sock), address[0].removeprefix("::ffff:")


def connect(to: Address) -> int:
    return keep(socket.create_connection(to, timeout=20))


def connect_and_reset(to: Address) -> int:
    """Connect, and reset the connection at once."""
    reset(number := connect(to))
    return number


def take_inline(number: int) -> None:
    """Urgent bytes are to be read among the others."""
    _sockets[number].setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


def send_urgent(number: int, before: bytes, urgent: bytes, after: bytes) -> None:
    sock = _sockets[number]
    for data, flags in ((before, 0), (urgent, socket.MSG_OOB), (after, 0)):
        assert sock.send(data, flags) == len(data)


def is_broken(number: int) -> bool:
    """Whether the kernel has an error to tell of it."""
    poll = select.poll()
    poll.register(_sockets[number], 0)
    return bool(poll.poll(0))


def begin(to: Address) -> int:
    """Begin to connect, and wait for nothing."""
    sock = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
    sock.setblocking(False)
    sock.connect_ex(to)
    return keep(sock)


def peer(number: int) -> Address:
    """What getpeername says."""
    address = _sockets[number].getpeername()
    return address[0], address[1]


def port(number: int) -> int:
    """Its own."""
    return int(_sockets[number].getsockname()[1])


def send(number: int, data: bytes) -> None:
    _sockets[number].sendall(data)


def receive(number: int, size: int) -> bytes:
    """That many bytes, fewer at the end. Raises ConnectionResetError."""
    data = b""
    while len(data) < size and (more := _sockets[number].recv(size - len(data))):
        data += more
    return data


def settled(number: int, seconds: float) -> bool:
    """Whether a connect() that was begun is over within so many seconds, well or badly."""
    poll = select.poll()
    poll.register(_sockets[number], select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def is_reset(to: Address) -> bool:
    """Whether a connection is refused, or reset after somebody on the way has accepted it."""
    try:
        with socket.create_connection(to, timeout=20) as sock:
            return sock.recv(1) is None
    except (ConnectionRefusedError, ConnectionResetError):
        return True


def is_refused(to: Address) -> bool:
    """Whether no connection can be made."""
    try:
        socket.create_connection(to, timeout=20).close()
    except ConnectionRefusedError:
        return True
    return False


def is_unanswered(to: Address, seconds: float) -> bool:
    """Whether a server that would greet says nothing for so long, whether or not connect() has returned."""
    try:
        with socket.create_connection(to, timeout=seconds) as sock:
            return not sock.recv(len(GREETING))
    except OSError:
        return True


def is_turned_away(to: Address) -> bool:
    """Whether a connection that speaks first is refused or ends without a word of the application's."""
    try:
        with socket.create_connection(to, timeout=20) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while data := sock.recv(_BLOCK):
                if GREETING in data:
                    return False
    except (ConnectionRefusedError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError):
        pass  # aborted: a direct one that policies end (SOCK_DESTROY)
    except OSError as error:
        if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            raise
    return True


def greeted_over_tls(to: Address, name: str) -> bool:
    """Whether the application greets a connection that begins as TLS does, for a server of this name."""
    said = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    try:
        with socket.create_connection(to, timeout=20) as sock:
            sock.sendall(said.read())
            return sock.recv(len(GREETING)) == GREETING
    except (ConnectionRefusedError, ConnectionResetError):
        return False


def connect_many(to: Address, count: int) -> list[int]:
    """That many connections, each to a server that has greeted."""
    numbers = [connect(to) for _ in range(count)]
    assert all(receive(number, len(GREETING)) == GREETING for number in numbers)
    return numbers


def serve(port: int) -> None:
    """On all addresses, in the background: greet whoever comes, and echo."""
    listener = _sockets[listen(port)]
    listener.settimeout(None)
    threading.Thread(target=serve_on, args=(listener, GREETING), daemon=True).start()


def serve_on(listener: socket.socket, greeting: bytes = b"", answer: bytes = b"") -> None:
    """Greet whoever comes, and echo; where there is an `answer`, it is given to what a client says first."""
    poll, clients, first = select.epoll(), dict[int, socket.socket](), dict[int, bytes]()
    poll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                client, _ = listener.accept()
                clients[client.fileno()] = client
                first[client.fileno()] = answer
                poll.register(client, select.EPOLLIN)
                with contextlib.suppress(OSError):  # which the next call meets, too
                    client.sendall(greeting)
            elif not _echo(clients[fd], first.pop(fd, b"")):
                clients.pop(fd).close()


def _echo(client: socket.socket, answer: bytes) -> bool:
    """Whether there may be more to come. `answer`: instead of what was said."""
    try:
        data = client.recv(_BLOCK)
        client.sendall(answer if data and answer else data)
    except OSError:
        return False
    return bool(data)


def speaks_between(to: Address, count: int) -> list[str]:
    """Connect so many times to a server that greets and echoes, and say two words, each after a pause of
    another length, up to 0.2 ms. What went wrong."""
    wrong = []
    for nth in range(count):
        pause = nth % 100 * 2e-6
        try:
            with socket.create_connection(to, timeout=20) as sock, sock.makefile("rb") as stream:
                for _ in range(2):
                    _spin(pause)
                    sock.sendall(b"word")
                if (answer := stream.read(len(GREETING) + 8)) != GREETING + b"wordword":
                    wrong.append(f"answered {answer!r}")
        except OSError as error:
            wrong.append(f"{error}, pauses of {pause:.6f} s")
    return wrong


def _spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def speaks_beside(to: Address, count: int) -> list[str]:
    """Speak on one connection to a server that greets and echoes, and meanwhile connect so many times by the
    port beside its own. What went wrong."""
    ended = threading.Event()
    with socket.create_connection(to, timeout=20) as first, ThreadPoolExecutor(1) as threads:
        spoken = threads.submit(_speak, first, ended)
        try:
            wrong = [_come_by(first.getsockname()[1] ^ 1, to) for _ in range(count)]
        finally:
            ended.set()
        return [why for why in (*wrong, spoken.result()) if why]


def _speak(sock: socket.socket, ended: threading.Event) -> str:
    """One long word after the other until it is `ended`. What went wrong, if anything."""
    word = bytes(1 << 17)
    try:
        with sock.makefile("rb") as stream:
            stream.read(len(GREETING))
            while not ended.is_set():
                sock.sendall(word)
                if (answer := stream.read(len(word))) != word:
                    return f"the first connection: answered {len(answer)} bytes"
    except OSError as error:
        return f"the first connection: {error}"
    return ""


def _come_by(port: int, to: Address) -> str:
    """Connect from this port, be greeted, and leave the port free. What went wrong, if anything."""
    with socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reset_on_close(sock)
        sock.settimeout(20)
        try:
            sock.bind(("", port))
            sock.connect(to)
            with sock.makefile("rb") as stream:
                answer = stream.read(len(GREETING))
            return "" if answer == GREETING else f"by port {port}: answered {answer!r}"
        except OSError as error:
            return f"by port {port}: {error}"


def serve_in_pieces(port: int) -> None:
    """On all addresses, in the background: answer each client's first words in two pieces."""
    listener = _sockets[listen(port)]
    listener.settimeout(None)

    def answer() -> None:
        while True:
            client, _ = listener.accept()
            with client:
                if client.recv(_BLOCK):
                    client.sendall(b"head")
                    client.sendall(b"body")
                    client.recv(_BLOCK)

    threading.Thread(target=answer, daemon=True).start()


def first_answers(to: Address, count: int) -> list[float]:
    """Seconds that the first answer of such a server takes on each of that many connections."""
    took = []
    for _ in range(count):
        with socket.create_connection(to, timeout=20) as sock, sock.makefile("rb") as stream:
            began = time.perf_counter()
            sock.sendall(b"question")
            assert stream.read(8) == b"headbody"
            took.append(time.perf_counter() - began)
    return took


def broken(numbers: list[int]) -> int:
    """How many of these connections are over."""
    poll = select.poll()
    for number in numbers:
        poll.register(_sockets[number], select.POLLIN)
    return len(poll.poll(0))


def echoing(numbers: list[int]) -> int:
    """How many of these connections carry bytes, there and back."""
    for number in numbers:
        send(number, b"echo")
    return sum(receive(number, 4) == b"echo" for number in numbers)


def timed_calls(to: Address, count: int) -> list[float]:
    """Seconds that each of that many calls took: connect, be greeted, echo, close."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        number = connect(to)
        assert receive(number, len(GREETING)) == GREETING
        assert echoing([number]) == 1
        close(number)
        took.append(time.perf_counter() - began)
    return took


def keep_calling(to: Address) -> int:
    """Connect, be greeted, echo, close, and again, in the background, until `calls_made` is asked."""
    _callers[number := next(_numbers)] = caller = _Caller(to)
    caller.thread.start()
    return number


def calls_made(number: int) -> tuple[int, list[str]]:
    """End it: how many calls were good, and what went wrong with the others."""
    caller = _callers.pop(number)
    caller.ended.set()
    caller.thread.join()
    return caller.good, caller.errors


class _Caller:
    def __init__(self, to: Address) -> None:
        self.to, self.good, self.errors = to, 0, list[str]()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self.ended.is_set():
            try:
                with socket.create_connection(self.to, timeout=20) as sock, sock.makefile("rb") as stream:
                    sock.sendall(b"echo")
                    answer = stream.read(len(GREETING) + 4)
            except OSError as error:
                self.errors.append(str(error))
                continue
            if answer == GREETING + b"echo":
                self.good += 1
            else:
                self.errors.append(f"answered {answer!r}")


_callers: dict[int, _Caller] = {}


def end(number: int) -> None:
    """No more is sent; the other direction stays open."""
    _sockets[number].shutdown(socket.SHUT_WR)


def close(number: int) -> None:
    _sockets.pop(number).close()


def forget(number: int) -> None:
    """Close it, if it is not closed yet."""
    if sock := _sockets.pop(number, None):
        sock.close()


def forget_all(numbers: list[int]) -> None:
    for number in numbers:
        forget(number)


def family(number: int) -> int:
    return _sockets[number].family


def reset_on_close(sock: socket.socket) -> None:
    """What it sends when it is closed is a reset, and its port is free at once."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset(number: int) -> None:
    reset_on_close(_sockets[number])
    close(number)


def fill(number: int) -> int:
    """Send until nobody takes more; the number of bytes that were taken."""
    sock, sent = _sockets[number], 0
    sock.settimeout(0.3)
    try:
        while True:
            sent += sock.send(bytes(_BLOCK))
    except TimeoutError:
        return sent


def send_much(number: int, size: int) -> str:
    """Send `size` bytes of noise, then end; the digest of what was sent."""
    digest, noise = hashlib.blake2b(), random.Random(size).randbytes(_BLOCK + 1)
    for start in range(0, size, _BLOCK):
        block = noise[start % 2 :][: min(_BLOCK, size - start)]
        _sockets[number].sendall(block)
        digest.update(block)
    end(number)
    return digest.hexdigest()


def receive_much(number: int) -> tuple[int, str]:
    """Receive to the end: how much, and its digest."""
    digest, size = hashlib.blake2b(), 0
    while data := _sockets[number].recv(_BLOCK):
        digest.update(data)
        size += len(data)
    return size, digest.hexdigest()


def serve_echoes(listener: int, connections: int) -> int:
    """Answer that many connections, some at a time, with what each sends; how many were answered."""

    def answer(_nth: int) -> int:
        number, _ = accept(listener)
        while data := _sockets[number].recv(_BLOCK):
            _sockets[number].sendall(data)
        close(number)
        return 1

    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        return sum(threads.map(answer, range(connections)))


def short_connections(to: Address, count: int) -> int:
    """Connect, send a byte, get it back, close, some at a time: how often that went well."""

    def go(_: int) -> bool:
        with socket.create_connection(to, timeout=20) as sock:
            sock.sendall(b"x")
            return sock.recv(1) == b"x"

    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        return sum(threads.map(go, range(count)))


def comes_back(to: Address, data: bytes) -> bool:
    """Whether a server that greets and echoes gets what is said; False: it is refused or reset."""
    expected, seen = GREETING + data, b""
    with (
        contextlib.suppress(ConnectionRefusedError, ConnectionResetError),
        socket.create_connection(to, timeout=20) as sock,
    ):
        sock.sendall(data)
        while len(seen) < len(expected) and (more := sock.recv(_BLOCK)):
            seen += more
    return sorted(seen) == sorted(expected)


def client_hello(server: str) -> bytes:
    """As a client of TLS begins that names a server."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=server)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
