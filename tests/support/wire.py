"""What passes on a link, as who listens there sees it. The functions run in a Resident, in its namespace."""

import socket

_ALL = 3  # ETH_P_ALL
_LARGEST = 1 << 16
_listeners: list[socket.socket] = []
_heard = bytearray()


def listen(link: str) -> None:
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ALL))
    listener.bind((link, 0))
    _listeners.append(listener)


def heard(word: bytes) -> bool:
    """Whether a frame with it has passed since."""
    for listener in _listeners:
        try:
            while True:
                _heard.extend(listener.recv(_LARGEST))
        except BlockingIOError:
            pass
    return word in _heard
