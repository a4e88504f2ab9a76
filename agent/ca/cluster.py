"""In a cluster: the root in a Secret, tokens reviewed by the API server, roots told to all namespaces."""

import asyncio
import contextlib
from collections.abc import Collection
from datetime import timedelta

from agent.ca.configmaps import RootConfigMaps
from agent.ca.keeper import Keeper
from agent.ca.placement import Placement
from agent.ca.reviews import Reviews
from agent.ca.rotation import Phase
from agent.ca.secret import Secrets
from agent.ca.signer import Signer
from agent.kube.client import Client
from agent.kube.errors import ApiError
from agent.kube.lease import Lease

_LEASE = "warren-ca"


class Cluster:
    """The backing of an authority with an API server."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        holder: str,
        accounts: Collection[str],
        trust_domain: str,
        longest: timedelta,
    ) -> None:
        """namespace: ours. holder: our name, which no other replica has.

        accounts: service accounts of tunnels, as "namespace/name".
        """
        self.placement = Placement()
        self.tokens = Reviews(client, self.placement, accounts)
        self._keeper = Keeper(Secrets(client, namespace), trust_domain, longest)
        self._lease = Lease(client, namespace, _LEASE, holder)
        self._config_maps = RootConfigMaps(client, self._lease, self.placement.namespaces, self.signer)

    @property
    def phase(self) -> Phase:
        return self._keeper.phase

    def signer(self) -> Signer:
        return self._keeper.signer()

    async def open(self) -> None:
        """Read the root, or make it."""
        await self._keeper.open()

    async def run(self) -> None:
        """Follow the root, and tell of it; one replica at a time tells."""
        try:
            await asyncio.gather(self._keeper.run(), self._lease.keep(), self._config_maps.run())
        finally:
            with contextlib.suppress(ApiError):  # it runs out by itself
                await asyncio.to_thread(self._lease.release)
