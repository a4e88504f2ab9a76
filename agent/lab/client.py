"""One HTTP request, and what the client saw of the connection. Stdlib only.

    python client.py URL [BODY]        BODY also goes into the header X-Marker, cut to 60 characters

Prints JSON: "local" and "peer" address, "status" and "answer" (JSON as received); or "error", errno's name.
"""

import errno
import http.client
import json
import sys
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 5.0  # seconds


def ask(url: str, body: str) -> dict[str, Any]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=TIMEOUT)
    try:
        connection.connect()
        local, peer = (end()[0] for end in (connection.sock.getsockname, connection.sock.getpeername))
        connection.request("POST" if body else "GET", parts.path or "/", body, {"X-Marker": body[:60]})
        reply = connection.getresponse()
        return {"local": local, "peer": peer, "status": reply.status, "answer": json.loads(reply.read())}
    except OSError as error:
        return {"error": errno.errorcode.get(error.errno or 0, str(error))}
    except (http.client.HTTPException, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        connection.close()


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1], "".join(sys.argv[2:]))))
