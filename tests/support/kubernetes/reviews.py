"""Reviews: objects that are answered, and not stored."""

from tests.support.kubernetes.errors import bad_request
from tests.support.kubernetes.kinds import Kind
from tests.support.kubernetes.rbac import Access, Rbac
from tests.support.kubernetes.storage import Object
from tests.support.kubernetes.users import Unauthenticated, User, Users

_FIELDS = ("verb", "group", "resource", "subresource", "namespace", "name", "path")


class Reviews:
    """Answers TokenReviews, and SubjectAccessReviews of oneself and of others."""

    def __init__(self, users: Users, rbac: Rbac) -> None:
        self._users, self._rbac = users, rbac

    def answer(self, kind: Kind, review: Object, user: User) -> Object:
        """The review with its status. Raises Refused (400)."""
        spec = review.get("spec") or {}
        status = self._token(spec) if kind.name == "TokenReview" else self._access(kind, spec, user)
        head = {"kind": kind.name, "apiVersion": kind.api_version, "metadata": review.get("metadata", {})}
        return head | {"spec": spec, "status": status}

    def _token(self, spec: Object) -> Object:
        if not spec.get("token"):
            raise bad_request("token is required for TokenReview in authentication")
        try:
            found = self._users.of(spec["token"], spec.get("audiences") or [])
        except Unauthenticated as error:
            return {"user": {}, "error": str(error)}
        if found is None:
            return {"user": {}}
        about = {"username": found.name, "uid": found.uid, "groups": found.groups, "extra": found.extra}
        user = {key: value for key, value in about.items() if value}
        return {"authenticated": True, "user": user, "audiences": found.audiences}

    def _access(self, kind: Kind, spec: Object, user: User) -> Object:
        resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        asked = resource or other or {}
        if bool(resource) == bool(other):
            message = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            raise bad_request(message)
        if kind.name == "SubjectAccessReview":
            user = User(spec.get("user", ""), spec.get("uid", ""), spec.get("groups") or [])
        access = Access(**{field: asked[field] for field in _FIELDS if asked.get(field)})
        reason = self._rbac.why(user, access)
        return {"allowed": bool(reason), "reason": reason or "no binding allows this"}
