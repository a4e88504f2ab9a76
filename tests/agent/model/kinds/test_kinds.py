"""Every kind is where the definitions of the API say that it is."""

import pytest

from agent.model.kinds import DERIVED, KINDS, NOT_ACTED_ON, find, meant


@pytest.mark.parametrize(
    ("api_version", "name", "plural"),
    [
        ("v1", "Pod", "pods"),
        ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
        ("discovery.k8s.io/v1beta1", "EndpointSlice", "endpointslices"),
        ("networking.istio.io/v1alpha3", "ServiceEntry", "serviceentries"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
        ("serving.knative.dev/v1", "Service", None),
        ("apps/v1", "Deployment", None),
    ],
)
def test_found_by_its_group_and_name(api_version: str, name: str, plural: str | None) -> None:
    kind = find(api_version, name)
    assert (kind and kind.plural) == plural


@pytest.mark.parametrize(
    ("api_version", "name", "nearest"),
    [
        ("security.istio.io/v1", "AuthorisationPolicy", "AuthorizationPolicy"),
        ("security.istio.io/v1", "Authorization", "AuthorizationPolicy"),  # of several the nearest
        ("networking.istio.io/v1", "AuthorizationPolicy", "AuthorizationPolicy"),
        ("discovry.k8s.io/v1", "EndpointSlice", "EndpointSlice"),
        ("serving.knative.dev/v1", "Service", None),
        ("apps/v1", "Deployment", None),
    ],
)
def test_a_name_or_a_group_that_is_misspelt(api_version: str, name: str, nearest: str | None) -> None:
    kind = meant(api_version, name)
    assert (kind and kind.name) == nearest


def test_what_may_stand_in_api_version() -> None:
    assert KINDS["Pod"].api_versions == ["v1"]
    expected = [f"networking.istio.io/{version}" for version in ("v1", "v1beta1", "v1alpha3")]
    assert KINDS["WorkloadEntry"].api_versions == expected


def test_kinds_are_told_apart_by_their_names_alone() -> None:
    assert all(kind.struct and kind.struct.__name__ == name for name, kind in KINDS.items())
    assert not KINDS.keys() & NOT_ACTED_ON.keys()


def test_keys_of_derived_resources_are_no_objects() -> None:
    assert not DERIVED.keys() & (KINDS.keys() | NOT_ACTED_ON.keys())
    assert all(key.kind == name for name, derived in DERIVED.items() for key in derived.always)
