"""Names of workloads."""

import re
from typing import NamedTuple, Self

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]{1,253}")


class SpiffeId(NamedTuple):
    """`spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, the one shape of Istio's data plane."""

    trust_domain: str
    namespace: str
    service_account: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The id that `text` spells (alphabets: SPIFFE-ID section 2). Raises ValueError for any other."""
        match text.split("/"):
            case ["spiffe:", "", trust_domain, "ns", namespace, "sa", account] if (
                _TRUST_DOMAIN.fullmatch(trust_domain)
                and _SEGMENT.fullmatch(namespace)
                and _SEGMENT.fullmatch(account)
            ):
                return cls(trust_domain, namespace, account)
        raise ValueError(f"{text[:200]!r} is not spiffe://<trust domain>/ns/<namespace>/sa/<service account>")

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"
