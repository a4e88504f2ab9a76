"""The lines of a watch's body, as they come."""

import contextlib
from collections.abc import Iterator
from types import TracebackType

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from agent.kube.errors import ApiError, unanswered

_READ = 1 << 16  # bytes at a time, at most
_LONGEST = 16 << 20  # bytes of a line; an object is 1.5 MB at most in etcd


class Stream:
    """An open watch: iterate over its lines, without their ends, until the server ends it.

    Raises ApiError when it is cut, or silent for too long; the beginning of a line without its end is left.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, request: str) -> None:
        self._response = response
        self._request = request

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._response.close()

    def __iter__(self) -> Iterator[bytes]:
        rest = bytearray()
        try:
            for data in self._response.stream(_READ):
                start = 0
                while (end := data.find(b"\n", start)) >= 0:
                    rest += data[start:end]
                    yield bytes(rest)
                    rest.clear()
                    start = end + 1
                rest += data[start:]
                if len(rest) > _LONGEST:
                    raise ApiError(0, "TooLong", f"{self._request}: a line of more than {_LONGEST} bytes")
        except ReadTimeoutError as error:
            raise ApiError(0, "Silent", f"{self._request}: silent for too long") from error
        except (HTTPError, OSError) as error:
            raise unanswered(self._request, error) from error

    def stop(self) -> None:
        """Let a thread that waits for the next line find the end instead; from any thread."""
        with contextlib.suppress(RuntimeError, ValueError, OSError):  # it has ended in the meantime
            self._response.shutdown()
