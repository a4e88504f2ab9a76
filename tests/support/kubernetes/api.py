"""Answers to requests, however they came: storage, rules and controllers put together."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.kubernetes import patches
from tests.support.kubernetes.calls import Call, delete_options, write_options
from tests.support.kubernetes.definitions import Definitions
from tests.support.kubernetes.discovery import discovered
from tests.support.kubernetes.errors import (
    Cause,
    Refused,
    bad_request,
    invalid,
    no_such_method,
    not_served,
    unsupported,
)
from tests.support.kubernetes.kinds import Kind, Kinds
from tests.support.kubernetes.lists import listed, read_options
from tests.support.kubernetes.namespaces import Namespaces
from tests.support.kubernetes.objects import Objects
from tests.support.kubernetes.rbac import Access, Rbac
from tests.support.kubernetes.reviews import Reviews
from tests.support.kubernetes.storage import Object, Storage
from tests.support.kubernetes.users import User, Users
from tests.support.kubernetes.views import View, negotiated
from tests.support.kubernetes.watches import events

_OF_ONE = ("get", "update", "patch", "delete")  # verbs that name an object
_OF_SOME = ("list", "watch")  # verbs that may name one, by a field selector


@dataclass(frozen=True)
class Answer:
    """A whole one. `body` is JSON unless `plain`."""

    code: int
    body: bytes
    plain: bool = False


Watch = AsyncIterator[bytes]
NOTHING = Answer(404, b"404 page not found\n", plain=True)


class Api:
    """A cluster's API without its transport."""

    def __init__(
        self, data: Path, root: str, tokens: Path, key: ec.EllipticCurvePrivateKey, shortest_token: int
    ) -> None:
        """`data`: the file to go on from, where there is one. The others: see `Namespaces` and `Users`."""
        self.storage, self.kinds = Storage(), Kinds()
        if data.exists():
            self.storage.load(data)
        self.objects = Objects(self.storage, self.kinds)
        self.users = Users(self.objects, tokens, key, shortest_token)
        self._rbac = Rbac(self.storage, self.kinds)
        self._reviews = Reviews(self.users, self._rbac)
        self._verbs: dict[str, Callable[[Call, View, str], Answer]] = {
            "list": self._list,
            "get": self._get,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_all,
        }
        Definitions(self.objects)
        Namespaces(self.objects, root).bootstrap()

    def permit(self, user: User, access: Access) -> str:
        """By what a request is allowed. Raises Refused (403)."""
        reason = self._rbac.why(user, access)
        if not reason:
            raise _forbidden(user, access)
        return reason

    def implied(self, call: Call) -> list[Access]:
        """The rights that a request needs beside its own: an update that makes the object, to create it."""
        access = call.access
        kind = self.kinds.get(access.group, call.version, access.resource)
        makes = kind and access.verb == "update" and self._makes(call, kind, access.namespace)
        return [dataclasses.replace(access, verb="create")] if makes else []

    def _makes(self, call: Call, kind: Kind, namespace: str) -> bool:
        """Leases are of the kinds whose strategy has AllowCreateOnUpdate."""
        return kind.plural == "leases" and self.storage.get(kind, namespace, call.access.name) is None

    def answer(self, call: Call, user: User, bookmark_every: float) -> Answer | Watch:
        """The answer to a request that is allowed; `bookmark_every` is in seconds. Raises Refused."""
        access = call.access
        if access.path:
            return self._other(access)
        kind = self.kinds.get(access.group, call.version, access.resource)
        if kind is None:
            if call.version not in self.kinds.versions(access.group):
                return NOTHING
            raise not_served()
        view = negotiated(kind, call.accept, access.verb)
        _check_verb(kind, access)
        if access.subresource == "token":
            account = self.objects.find(kind, access.namespace, access.name)
            return _json(201, self.users.issue(account.object(), call.object()))
        if kind.verbs == ("create",):
            return _json(201, self._reviews.answer(kind, call.object(), user))
        namespace = access.namespace if kind.namespaced else ""
        if access.verb == "watch":
            options = read_options(kind, call.query, watch=True)
            return events(self.storage, view, namespace, options, bookmark_every)
        return self._verbs[access.verb](call, view, namespace)

    def compact(self) -> Answer:
        """Forget all history."""
        return _json(200, {"compacted": self.storage.compact()})

    def _other(self, access: Access) -> Answer:
        if access.path == "/debug/compact":
            return self.compact()
        found = discovered(self.kinds, access.path) if access.verb == "get" else None
        if isinstance(found, str):
            return Answer(200, found.encode(), plain=True)
        return _json(200, found) if found else NOTHING

    def _list(self, call: Call, view: View, namespace: str) -> Answer:
        return Answer(200, listed(self.storage, view, namespace, read_options(view.kind, call.query)))

    def _get(self, call: Call, view: View, namespace: str) -> Answer:
        read_options(view.kind, call.query).check_age(self.storage.revision)
        return Answer(200, view.one(self.objects.find(view.kind, namespace, call.access.name).body))

    def _create(self, call: Call, view: View, namespace: str) -> Answer:
        if view.kind.namespaced and not namespace:
            raise no_such_method()
        record = self.objects.create(view.kind, namespace, call.object(), write_options(call))
        return Answer(201, view.one(record.body))

    def _update(self, call: Call, view: View, namespace: str) -> Answer:
        body, name = call.object(), call.access.name
        if isinstance(body, dict) and (body.get("metadata") or {}).get("name", name) != name:
            given = body["metadata"]["name"]
            raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
        if self._makes(call, view.kind, namespace):
            return self._create(call, view, namespace)
        return self._change(call, view, namespace, lambda old: body)

    def _patch(self, call: Call, view: View, namespace: str) -> Answer:
        strategic = (patches.STRATEGIC,) if view.kind.schema is None else ()
        accepted = (patches.JSON_PATCH, patches.MERGE_PATCH, *strategic)
        if call.media_type not in accepted:
            raise unsupported(accepted)
        patch = call.object(accepted)
        if call.media_type == patches.JSON_PATCH and not isinstance(patch, list):
            raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
        try:
            return self._change(
                call, view, namespace, lambda old: patches.patched(call.media_type, old, patch)
            )
        except Refused as error:
            if error.code != 400:
                raise
            why = f"Invalid value: {error.message}"  # it is the patch that made the object unreadable
            raise invalid(view.kind, "", [Cause("FieldValueInvalid", "patch", why)]) from error

    def _change(self, call: Call, view: View, namespace: str, change: Callable[[Object], Any]) -> Answer:
        access = call.access
        record = self.objects.update(
            view.kind, namespace, access.name, change, subresource=access.subresource, how=write_options(call)
        )
        return Answer(200, view.one(record.body))

    def _delete(self, call: Call, view: View, namespace: str) -> Answer:
        kind, name = view.kind, call.access.name
        record, gone = self.objects.delete(kind, namespace, name, delete_options(call), write_options(call))
        if not gone or kind.resource in ("pods", "services"):
            return Answer(200, view.one(record.body))
        details = {"name": name, "group": kind.group, "kind": kind.plural}
        details |= {"uid": record.object()["metadata"]["uid"]}
        given = {key: value for key, value in details.items() if value}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return _json(200, status | {"details": given})

    def _delete_all(self, call: Call, view: View, namespace: str) -> Answer:
        body = listed(self.storage, view, namespace, read_options(view.kind, call.query))
        options, how = delete_options(call), write_options(call)
        for item in msgspec.json.decode(body)["items"]:
            metadata = item["metadata"]
            self.objects.delete(view.kind, metadata.get("namespace", ""), metadata["name"], options, how)
        return Answer(200, body)


def _check_verb(kind: Kind, access: Access) -> None:
    """That the resource has this subresource and verb. Raises Refused (404, 405)."""
    if access.subresource == "token" and kind.resource == "serviceaccounts":
        if access.verb != "create":
            raise no_such_method()
        return
    if access.subresource and not (access.subresource == "status" and kind.status):
        raise not_served()
    named = bool(access.name) and access.verb not in _OF_SOME
    if access.verb not in kind.verbs or named != (access.verb in _OF_ONE):
        raise no_such_method()


def _forbidden(user: User, access: Access) -> Refused:
    asks = f'User "{user.name}" cannot {access.verb}'
    if access.path:
        message = f'forbidden: {asks} path "{access.path}": no binding allows this'
        return Refused(403, "Forbidden", message, {})
    kind = f"{access.resource}.{access.group}" if access.group else access.resource
    named = f'{kind} "{access.name}"' if access.name else kind
    resource = f"{access.resource}/{access.subresource}" if access.subresource else access.resource
    where = f'in the namespace "{access.namespace}"' if access.namespace else "at the cluster scope"
    what = f'{asks} resource "{resource}" in API group "{access.group}" {where}: no binding allows this'
    details = {"name": access.name, "group": access.group, "kind": access.resource}
    given = {key: value for key, value in details.items() if value}
    return Refused(403, "Forbidden", f"{named} is forbidden: {what}", given)


def _json(code: int, value: Any) -> Answer:
    return Answer(code, msgspec.json.encode(value))
