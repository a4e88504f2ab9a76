"""Answers to requests, whoever asks and however they came: storage, rules and controllers put together."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.kubernetes import patches
from tests.support.kubernetes.calls import Call
from tests.support.kubernetes.definitions import Definitions
from tests.support.kubernetes.discovery import discovered
from tests.support.kubernetes.errors import Refused, bad_request, no_such_method, not_served, unsupported
from tests.support.kubernetes.kinds import Kind, Kinds
from tests.support.kubernetes.lists import listed, read_options, truth, with_kind
from tests.support.kubernetes.namespaces import Namespaces
from tests.support.kubernetes.objects import How, Objects
from tests.support.kubernetes.rbac import Access, Rbac
from tests.support.kubernetes.storage import Object, Record, Storage
from tests.support.kubernetes.users import Unauthenticated, User, Users
from tests.support.kubernetes.watches import events

_OBJECT_VERBS = ("get", "update", "patch", "delete")  # they name one


@dataclass(frozen=True)
class Answer:
    """A whole one. `body` is JSON unless `plain`."""

    code: int
    body: bytes
    plain: bool = False


Watch = AsyncIterator[bytes]


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
        Definitions(self.objects)
        Namespaces(self.objects, root).bootstrap()

    def permit(self, user: User, access: Access) -> str:
        """By what a request is allowed. Raises Refused (403)."""
        if reason := self._rbac.why(user, access):
            return reason
        if access.path:
            what = f'forbidden: User "{user.name}" cannot {access.verb} path "{access.path}"'
            raise Refused(403, "Forbidden", f"{what}: no binding allows this", {})
        kind = f"{access.resource}.{access.group}" if access.group else access.resource
        named = f'{kind} "{access.name}"' if access.name else kind
        resource = f"{access.resource}/{access.subresource}" if access.subresource else access.resource
        where = f'in the namespace "{access.namespace}"' if access.namespace else "at the cluster scope"
        what = f'User "{user.name}" cannot {access.verb} resource "{resource}" in API group "{access.group}" {where}'
        details = {"name": access.name, "group": access.group, "kind": access.resource}
        given = {key: value for key, value in details.items() if value}
        raise Refused(403, "Forbidden", f"{named} is forbidden: {what}: no binding allows this", given)

    def answer(self, call: Call, user: User, bookmark_every: float) -> Answer | Watch:
        """The answer to a request that is allowed. Raises Refused."""
        access = call.access
        if access.path:
            return self._other(access)
        kind = self.kinds.get(access.group, call.version, access.resource)
        if kind is None:
            if call.version not in self.kinds.versions(access.group):
                return Answer(404, b"404 page not found\n", plain=True)
            raise not_served()
        if access.subresource == "token" and kind.plural == "serviceaccounts":
            return self._token(call, kind)
        if access.subresource and not (access.subresource == "status" and kind.status):
            raise not_served()
        if (
            access.verb not in kind.verbs
            or (access.verb in _OBJECT_VERBS) != bool(access.name)
            and access.verb not in ("list", "watch")
        ):
            raise no_such_method()
        if kind.verbs == ("create",):
            return _json(
                201, {"kind": kind.name, "apiVersion": kind.api_version, **self._review(kind, call, user)}
            )
        namespace = access.namespace if kind.namespaced else ""
        match access.verb:
            case "list":
                return Answer(
                    200, listed(self.storage, kind, namespace, read_options(kind, call.query, False))
                )
            case "watch":
                options = read_options(kind, call.query, True)
                return events(self.storage, kind, namespace, options, bookmark_every)
            case "get":
                return _one(200, kind, self.objects.find(kind, namespace, access.name))
            case "create":
                if kind.namespaced and not namespace:
                    raise no_such_method()
                record = self.objects.create(kind, namespace, call.object(), _how(call))
                return _one(201, kind, record)
            case "update" | "patch":
                return self._update(call, kind, namespace)
            case "delete":
                record, gone = self._delete(call, kind, namespace, access.name)
                if gone and kind.resource not in ("pods", "services"):
                    return _json(200, _success(kind, record))
                return _one(200, kind, record)
        return self._delete_all(call, kind, namespace)

    def compact(self) -> Answer:
        return _json(200, {"compacted": self.storage.compact()})

    def _other(self, access: Access) -> Answer:
        if access.path == "/debug/compact":
            return self.compact()
        found = discovered(self.kinds, access.path) if access.verb == "get" else None
        if isinstance(found, str):
            return Answer(200, found.encode(), plain=True)
        return _json(200, found) if found else Answer(404, b"404 page not found\n", plain=True)

    def _update(self, call: Call, kind: Kind, namespace: str) -> Answer:
        access = call.access
        if access.verb == "update":
            body = call.object()

            def change(obj: Object) -> Any:
                return body
        else:
            accepted = [patches.JSON_PATCH, patches.MERGE_PATCH]
            accepted += [patches.STRATEGIC] if kind.schema is None else []
            if call.media_type not in accepted:
                raise unsupported(accepted)
            patch = call.object((call.media_type,))

            def change(obj: Object) -> Any:
                return patches.patched(call.media_type, obj, patch)

        status = access.subresource == "status"
        return _one(200, kind, self.objects.update(kind, namespace, access.name, change, status, _how(call)))

    def _delete(self, call: Call, kind: Kind, namespace: str, name: str) -> tuple[Record, bool]:
        options = (call.object() if call.body else None) or {}
        if "gracePeriodSeconds" in call.query:
            options["gracePeriodSeconds"] = int(call.query["gracePeriodSeconds"])
        how = _how(call)
        return self.objects.delete(
            kind, namespace, name, options, How(how.dry_run or bool(options.get("dryRun")))
        )

    def _delete_all(self, call: Call, kind: Kind, namespace: str) -> Answer:
        options = read_options(kind, {**call.query, "limit": ""}, False)
        body = listed(self.storage, kind, namespace, options)
        for item in msgspec.json.decode(body)["items"]:
            self._delete(call, kind, item["metadata"].get("namespace", ""), item["metadata"]["name"])
        return Answer(200, body)

    def _token(self, call: Call, kind: Kind) -> Answer:
        if call.access.verb != "create":
            raise no_such_method()
        account = self.objects.find(kind, call.access.namespace, call.access.name)
        return _json(201, self.users.issue(account.object(), call.object()))

    def _review(self, kind: Kind, call: Call, user: User) -> Object:
        """Of a token, or of access."""
        body = call.object()
        spec = body.get("spec") or {}
        review = {"metadata": body.get("metadata", {}), "spec": spec}
        if kind.name == "TokenReview":
            return review | {"status": self._review_token(spec)}
        resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if bool(resource) == bool(other):
            raise bad_request("exactly one of nonResourceAttributes or resourceAttributes must be specified")
        if kind.name == "SubjectAccessReview":
            user = User(spec.get("user", ""), spec.get("uid", ""), spec.get("groups") or [])
        reason = self._rbac.why(user, _asked(resource or other))
        return review | {"status": {"allowed": bool(reason), "reason": reason or "no binding allows this"}}

    def _review_token(self, spec: Object) -> Object:
        if not spec.get("token"):
            raise bad_request("token is required for TokenReview in authentication")
        try:
            found = self.users.of(spec["token"], spec.get("audiences") or [])
        except Unauthenticated as error:
            return {"user": {}, "error": str(error)}
        if found is None:
            return {"user": {}}
        about = {"username": found.name, "uid": found.uid, "groups": found.groups, "extra": found.extra}
        status = {"authenticated": True, "user": {key: value for key, value in about.items() if value}}
        audiences = list(found.audiences) or spec.get("audiences") or []
        return status | ({"audiences": audiences} if audiences else {})


def _one(code: int, kind: Kind, record: Record) -> Answer:
    return Answer(code, with_kind(kind, record.body))


def _json(code: int, value: Any) -> Answer:
    return Answer(code, msgspec.json.encode(value))


def _how(call: Call) -> How:
    dry = call.query.get("dryRun", "")
    if dry not in ("", "All"):
        message = f'Options.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["{dry}"]: supported values: "All"'
        raise Refused(422, "Invalid", message, {"group": "meta.k8s.io"})
    return How(bool(dry), call.query.get("fieldValidation") == "Strict")


def _success(kind: Kind, record: Record) -> Object:
    metadata = record.object()["metadata"]
    details = {"name": metadata["name"], "group": kind.group, "kind": kind.plural, "uid": metadata["uid"]}
    given = {key: value for key, value in details.items() if value}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": given}


def _asked(attributes: Object) -> Access:
    fields = ("verb", "group", "resource", "subresource", "namespace", "name", "path")
    return Access(**{field: attributes[field] for field in fields if attributes.get(field)})


__all__ = ["Answer", "Api", "Watch", "truth"]
