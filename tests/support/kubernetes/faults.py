"""What can go wrong with a server, asked for by a test. A server starts without any."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Faults:
    """Set at any time, from any thread; a request or a watch looks when it begins.

    latency: seconds that each answer is late.
    refuse: asked with the verb of each request, and its resource (where it is for none, its path); the status
    that it is refused with, or None.
    watch_bytes: asked for each watch: after how many bytes its connection is cut; None: never.
    mutes: asked with the resource of each event: whether it is lost, while its watch goes on.
    repeats: how often each event of a watch is sent.
    bookmark_every: seconds between the bookmarks of a watch that wants them.
    """

    latency: float = 0.0
    refuse: Callable[[str, str], int | None] = lambda verb, resource: None
    watch_bytes: Callable[[], int | None] = lambda: None
    mutes: Callable[[str], bool] = lambda resource: False
    repeats: int = 1
    bookmark_every: float = 60.0
