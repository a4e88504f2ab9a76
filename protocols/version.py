"""Which version of Warren this is."""


def version() -> str:
    """Of the package that is installed; `unknown` in a source tree without one."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 3 MB, seldom needed

    try:
        return version("warren-mesh")
    except PackageNotFoundError:
        return "unknown"
