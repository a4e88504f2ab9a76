"""Figures as one looks at them."""


def short(identity: str) -> str:
    """A SPIFFE identity without its trust domain: `ns/NAMESPACE/sa/ACCOUNT`."""
    return identity.removeprefix("spiffe://").partition("/")[2] or identity


def size(count: float) -> str:
    """Bytes, in three digits: 1.2K, 34M."""
    for unit in ("", "K", "M", "G", "T"):
        if count < 1000 or unit == "T":
            return f"{count:.0f}{unit}" if not unit or count >= 10 else f"{count:.1f}{unit}"
        count /= 1000
    raise AssertionError


def span(seconds: float) -> str:
    """A time as one looks at it: 120ms, 42s, 3m, 5h, 2d."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    for limit, unit, length in ((120, "s", 1), (7200, "m", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds / 86_400:.0f}d"
