"""Addresses for hostnames that have none: Istio's automatic allocation, as a function of all ServiceEntries.

A hostname has a few places in the ranges, by the hash of its name, and gets the first one that is not also
a place of an older hostname. So every agent gives it the same, and a ServiceEntry that comes or goes moves
nobody but younger ones that share a place with it. What `status.addresses` says takes precedence: there the
reporter writes what was given out, so that it stays, and istiod what it gave out itself.
"""

import hashlib
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network

from agent.model.engine.store import Entry
from agent.model.engine.view import View
from agent.model.engine.visibility import visibility
from agent.model.schema.istio.service_entry import HostAddress, ServiceEntry
from agent.model.schema.objects import IPAddress, Key, to_address

V4, V6 = IPv4Network("240.240.0.0/16"), IPv6Network("2001:2::/48")
_PLACES = 8  # of a hostname: with 5,000 hostnames one in 10,000 finds none
_LAST = V4.num_addresses - 2  # the first and the last address of the range are nobody's
_INDEX = "place"


def index(item: ServiceEntry) -> Iterator[Entry]:
    """The places of its hostnames, and those that its status says are taken."""
    for host in _wishes(item):
        yield from ((_INDEX, str(place)) for place in _places(item.metadata.namespace, host))
    yield from ((_INDEX, str(place)) for place in map(_place_of, item.status.addresses) if place)


def dependants(view: View, item: ServiceEntry) -> Iterator[Key]:
    """The ServiceEntries that have a place in common with it."""
    for entry in {*index(item)}:
        yield from view.store.find(*entry)


def addresses(view: View, item: ServiceEntry, host: str) -> tuple[IPAddress, ...]:
    """Those that a hostname of its owner gets, one of each family; none if it wants none or none is left."""
    if host not in _wishes(item):
        return ()
    places = _places(item.metadata.namespace, host)
    free = next((place for place in places if not _is_taken(view, place, item, host)), None)
    return () if free is None else (V4[free], V6[free])


def missing(view: View, item: ServiceEntry) -> tuple[HostAddress, ...]:
    """What its status does not say yet of the addresses that its own hostnames get."""
    owned = (host for host in _wishes(item) if view.owner(host, item.metadata.namespace) is item)
    return tuple(HostAddress(str(one), host) for host in owned for one in addresses(view, item, host))


def problems(view: View, item: ServiceEntry) -> Iterator[str]:
    for host in _wishes(item):
        if not addresses(view, item, host):
            yield f"hosts: no address of {V4} is left for {host}; give it one in addresses"


def _wishes(item: ServiceEntry) -> Iterable[str]:
    """The hostnames for which neither its author nor its status has an address."""
    if visibility(item) is None or not item.is_allotted:
        return ()
    told = {one.host for one in item.status.addresses}
    return [host for host in item.spec.hosts if item.can_be_allotted(host) and host not in told]


def _is_taken(view: View, place: int, item: ServiceEntry, host: str) -> bool:
    own = item.metadata.namespace, host
    for other in view.store.each(ServiceEntry, _INDEX, str(place)):
        namespace = other.metadata.namespace
        if any(_place_of(one) == place and (namespace, one.host) != own for one in other.status.addresses):
            return True
        wishing = (one for one in _wishes(other) if (namespace, one) != own)
        if any(place in _places(namespace, one) and _rank(other, one) < _rank(item, host) for one in wishing):
            return True
    return False


def _rank(item: ServiceEntry, host: str) -> tuple[str, str, str]:
    """The oldest first."""
    return item.metadata.creation_timestamp, item.metadata.namespace, host


def _places(namespace: str, host: str) -> list[int]:
    digest = hashlib.sha256(f"{namespace}/{host}".encode()).digest()
    return [int.from_bytes(digest[at : at + 4], "big") % _LAST + 1 for at in range(0, 4 * _PLACES, 4)]


def _place_of(told: HostAddress) -> int | None:
    """None: outside of the ranges, as istiod may be set to give out."""
    address = to_address(told.value)
    return next((int(address) - int(one[0]) for one in (V4, V6) if address in one), None)
