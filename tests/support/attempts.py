"""What connect() says, for processes that run inside pods."""

import errno
import socket
import time

from tests.support.sockets import Address


def attempt(address: Address, seconds: float = 20.0) -> tuple[str, float]:
    """The name of connect()'s error, empty if there is none, and the seconds that it took."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as sock:
        sock.settimeout(seconds)
        began = time.perf_counter()
        try:
            sock.connect(address)
        except TimeoutError:
            return "patience", time.perf_counter() - began
        except OSError as error:
            return errno.errorcode[error.errno or 0], time.perf_counter() - began
        return "", time.perf_counter() - began
