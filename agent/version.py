"""Which version of Warren this is."""

from importlib import metadata


def version() -> str:
    """Of the package that is installed; `unknown` in a source tree without one."""
    try:
        return metadata.version("warren-mesh")
    except metadata.PackageNotFoundError:
        return "unknown"
