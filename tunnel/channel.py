"""gRPC channels, and the metadata that goes with a call."""

from pathlib import Path

import grpc

_OPTIONS = (
    ("grpc.max_receive_message_length", 200 * 1024 * 1024),  # a whole mesh in one push
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),  # gRPC's own: two minutes
    ("grpc.use_local_subchannel_pool", 1),  # the back-off is ours: do not inherit one from a former channel
)


def connect(url: str, root: Path | None) -> grpc.aio.Channel:
    """A channel to `unix:PATH` or `https://HOST:PORT`, for which `root` (None: the system's) must vouch.

    Raises OSError when `root` cannot be read.
    """
    if url.startswith("unix:"):
        return grpc.aio.insecure_channel(url, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(root.read_bytes() if root else None)
    return grpc.aio.secure_channel(url.removeprefix("https://"), credentials, options=_OPTIONS)


def metadata(cluster: str, token: Path | None) -> tuple[tuple[str, str], ...]:
    """What goes with a call, istiod's way. The token is read each time: it is short-lived. Raises OSError."""
    headers = (("clusterid", cluster),)
    if token is None:
        return headers
    return (*headers, ("authorization", f"Bearer {token.read_text().strip()}"))
