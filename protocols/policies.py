"""Names of policies that were made of other kinds' objects, as agent and CLI tell them from others."""

STRICT = "istio-system/istio_converted_static_strict"  # refuses all plain text
CONVERTED = "converted_peer_authentication_"  # and the object's name
TOKENS = "converted_request_authentication_"  # and the object's name
LIMITS = "converted_rate_limit_policy_"  # and the object's name


def origin(policy: str) -> str:
    """What has made a policy, by `namespace/name`, in words."""
    if policy == STRICT:
        return "PeerAuthentication (mode STRICT)"
    namespace, _, name = policy.partition("/")
    if name.startswith(CONVERTED):
        return f"PeerAuthentication {namespace}/{name.removeprefix(CONVERTED)}"
    if name.startswith(TOKENS):
        return f"RequestAuthentication {namespace}/{name.removeprefix(TOKENS)}"
    if name.startswith(LIMITS):
        return f"RateLimitPolicy {namespace}/{name.removeprefix(LIMITS)}"
    return f"AuthorizationPolicy {policy}"
