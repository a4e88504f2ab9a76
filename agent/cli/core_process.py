"""What `warren tunnel` and `warren gateway` become when their options are checked: each megabyte counts.

The same process, by execve(2): it has loaded what it runs, and nothing of the command line.
"""

import os
import pickle
import sys
from typing import NoReturn, TypeAlias

from agent import logs
from agent.errors import explain
from tunnel.settings import GatewaySettings, TunnelSettings

_Settings: TypeAlias = TunnelSettings | GatewaySettings


def become(settings: _Settings, level: str, form: str) -> NoReturn:
    """Go on as this process. level, form: of `logs.configure`. Raises OSError."""
    descriptor = os.memfd_create("settings", 0)
    os.write(descriptor, pickle.dumps(settings))
    # Our options are there for who looks at processes.
    own = [str(descriptor), level, form, *sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, "-P", "-m", __name__, *own])


def main() -> None:
    """The process. Where it fails it ends with a line on standard error, as all commands do."""
    descriptor, level, form = sys.argv[1:4]
    logs.configure(level, form)
    try:
        with os.fdopen(int(descriptor), "rb") as given:
            given.seek(0)
            settings = pickle.load(given)
        _run(settings)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(f"warren: {explain(error)}")


def _run(settings: _Settings) -> None:
    # asyncio can do without OpenSSL: the core brings its own TLS. 4 MB less.
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    if isinstance(settings, TunnelSettings):
        from tunnel import app  # noqa: PLC0415

        app.run(settings)
    else:
        from tunnel import gateway  # noqa: PLC0415

        gateway.run(settings)


if __name__ == "__main__":
    main()
