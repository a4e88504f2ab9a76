"""How the authority says no."""

from enum import Enum

from agent.errors import WarrenError


class AuthorityError(WarrenError):
    """The authority cannot start or work; one line for people."""


class ClockError(WarrenError):
    """There is no time to go by: clocks disagree."""


class Reason(Enum):
    """Why a request was refused: the label of the metric and the word in the log."""

    NO_TOKEN = "no_token"
    UNKNOWN_TOKEN = "unknown_token"
    OTHER_AUDIENCE = "other_audience"
    NOT_BOUND = "not_bound"
    OTHER_ACCOUNT = "other_account"
    POD_GONE = "pod_gone"
    OTHER_NODE = "other_node"
    TOKENS_UNUSABLE = "tokens_unusable"
    TOO_MANY = "too_many"
    NO_IDENTITY = "no_identity"
    MALFORMED_IDENTITY = "malformed_identity"
    OTHER_TRUST_DOMAIN = "other_trust_domain"
    NOT_ON_NODE = "not_on_node"
    MALFORMED_REQUEST = "malformed_request"
    BAD_SIGNATURE = "bad_signature"
    WEAK_KEY = "weak_key"
    OTHER_NAME = "other_name"
    BAD_VALIDITY = "bad_validity"
    ROOT_UNKNOWN = "root_unknown"
    CLOCK = "clock"
    INTERNAL = "internal"


class Refusal(Exception):
    """A request that gets no certificate. The text is for the caller and the log: one line, no secrets."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
