"""The audit log: a JSON line for each request, two for a watch."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tests.support.kubernetes.calls import Call
from tests.support.kubernetes.users import User


class Audit:
    """Writes lines to a file as they come; to none when no file is given."""

    def __init__(self, file: Path | None) -> None:
        self._out = file.open("ab", buffering=0) if file else None

    def note(self, call: Call, user: User, code: int, reason: str, stage: str = "ResponseComplete") -> None:
        """`reason`: why access was given or refused. `stage`: as Kubernetes names them."""
        if self._out is None:
            return
        access = call.access
        line = {
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "stage": stage,
            "user": user.name,
            "verb": access.verb,
            "group": access.group,
            "resource": access.resource,
            "subresource": access.subresource,
            "namespace": access.namespace,
            "name": access.name,
            "code": code,
            "uri": call.uri,
            "agent": call.agent,
            **({"reason": reason} if reason else {}),
        }
        self._out.write(msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        if self._out is not None:
            self._out.close()
