"""What the translation of one object may ask about all the others."""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from agent.model.engine.members import Members, Workload
from agent.model.engine.store import Store, asks_for
from agent.model.engine.visibility import visibility
from agent.model.mesh import ROOT_NAMESPACE, Mesh
from agent.model.schema.istio.service_entry import ServiceEntry
from agent.model.schema.kubernetes import EndpointSlice, Namespace, Pod, Service
from agent.model.schema.objects import Key, Labels, key_of
from protocols.workload_pb2 import PUBLIC

NETWORK = "topology.istio.io/network"
ServiceLike = Service | ServiceEntry


class View(Struct, frozen=True):
    """The store at one moment. network: of all that names none of its own; members: of its workloads."""

    mesh: Mesh
    store: Store
    network: str
    members: Members

    @classmethod
    def of(cls, mesh: Mesh, store: Store) -> "View":
        return cls(mesh, store, network(mesh, store), Members())

    def with_endpoints(self, store: Store) -> "View":
        """With a store in which nothing but endpoints is different."""
        return View(self.mesh, store, self.network, Members())

    def with_others(self, store: Store) -> "View":
        """With a store in which no endpoints are different."""
        return View(self.mesh, store, network(self.mesh, store), self.members)

    def selected(self, namespace: str, selector: Labels) -> Iterator[Workload]:
        """The workloads that a selector selects, in a namespace or (empty) in all."""
        return self.members.selected(self.store, namespace, selector)

    def is_asked(self, label: str) -> bool:
        """Whether some object needs to know which workloads have a label."""
        return bool(self.store.find(*asks_for(label)))

    def namespace(self, name: str) -> Namespace | None:
        return self.store.get(Namespace, "", name)

    def services_of(self, namespace: str, labels: Labels) -> Iterator[tuple[ServiceLike, str]]:
        """The services that select a workload: the object that says so, and `namespace/hostname`."""
        for item in self.store.selecting(namespace, labels):
            for host in self.hosts(item):
                yield item, f"{namespace}/{host}"

    def slices_naming(self, pod: Pod) -> Iterable[EndpointSlice]:
        """The slices of Services without a selector that have this pod as an endpoint."""
        return self.members.naming(self.store, pod)

    def hosts(self, item: ServiceLike) -> Iterable[str]:
        """The hostnames under which an object is a service, or a part of one."""
        if isinstance(item, Service):
            return self.claims(item)
        namespace = item.metadata.namespace
        return [host for host in self.claims(item) if any(one is item for one in self.parts(host, namespace))]

    def claims(self, item: ServiceLike) -> Iterable[str]:
        """The hostnames that an object would like to have; none if nobody is to see it."""
        if visibility(item) is None:
            return ()
        if isinstance(item, ServiceEntry):
            return dict.fromkeys(item.spec.hosts)
        external = item.spec.type == "ExternalName"  # only a DNS record
        return () if external else (self.hostname(item),)

    def hostname(self, service: Service) -> str:
        return f"{service.metadata.name}.{service.metadata.namespace}.svc.{self.mesh.domain}"

    def claimants(self, host: str) -> Iterator[ServiceLike]:
        """All objects that claim a hostname, in whatever namespace."""
        for entry in self.store.each(ServiceEntry, "host", host):
            if visibility(entry) is not None:
                yield entry
        name, _, rest = host.partition(".")
        namespace, _, suffix = rest.partition(".")
        service = self.store.get(Service, namespace, name) if suffix == f"svc.{self.mesh.domain}" else None
        if service and host in self.claims(service):
            yield service

    def owner(self, host: str, namespace: str) -> ServiceLike:
        """Which object a hostname belongs to in a namespace where one claims it."""
        return self.parts(host, namespace)[0]

    def parts(self, host: str, namespace: str) -> list[ServiceLike]:
        """The objects that are the service of a hostname in a namespace, its owner first.

        ServiceEntries of one host are one service, where the same namespaces see them, and where all of them
        or none pass connections on to wherever they went. A Service shares its hostname with nobody.
        """
        claiming = (one for one in self.claimants(host) if one.metadata.namespace == namespace)
        owner, *others = sorted(claiming, key=_seniority)
        return [owner, *(one for one in others if _are_one(owner, one))]

    def canonical(self, item: ServiceLike, host: str) -> bool:
        """Whether it is this owner's service that the other namespaces mean by the hostname."""
        owners = {key_of(self.owner(host, one.metadata.namespace)) for one in self.claimants(host)}
        public = (one for one in self.claimants(host) if key_of(one) in owners and visibility(one) == PUBLIC)
        return isinstance(item, Service) or min(public, key=_seniority, default=None) is item


def network(mesh: Mesh, store: Store) -> str:
    """The root namespace's label, else the setting."""
    root = store.get(Namespace, "", ROOT_NAMESPACE)
    return root.metadata.labels.get(NETWORK, mesh.network) if root else mesh.network


def _are_one(owner: ServiceLike, other: ServiceLike) -> bool:
    if isinstance(owner, Service) or isinstance(other, Service):
        return False
    ways = [(one.spec.passes_through, one.spec.is_dynamic) for one in (owner, other)]
    return ways[0] == ways[1] and visibility(owner) == visibility(other)


def _seniority(item: ServiceLike) -> tuple[bool, str, Key]:
    """Kubernetes' own first, else the oldest, else by name."""
    if isinstance(item, Service):
        return False, "", key_of(item)
    return True, item.metadata.creation_timestamp, key_of(item)
