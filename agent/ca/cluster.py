"""In a cluster: the root in a Secret, tokens reviewed by the API server, roots told to all namespaces."""

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from agent.ca.configmaps import CRL, ROOTS, ConfigMaps
from agent.ca.errors import Refusal
from agent.ca.keeper import Keeper
from agent.ca.placement import Placement
from agent.ca.reviews import Reviews
from agent.ca.rotation import Phase
from agent.ca.secret import Secrets
from agent.ca.signer import Signer
from agent.kube.client import Client
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
        secrets = Secrets(client, namespace)
        self.clock, self.placement = secrets.clock, Placement()
        self.tokens = Reviews(client, self.placement, accounts, self.clock.now)
        self._lease = Lease(client, namespace, _LEASE, holder)
        self._keeper = Keeper(secrets, self._lease, trust_domain, longest)
        self._config_maps = [
            ConfigMaps(client, self._lease, self.placement.namespaces, kind, text)
            for kind, text in ((ROOTS, lambda: self.signer().bundle), (CRL, self._keeper.crl))
        ]

    @property
    def phase(self) -> Phase:
        return self._keeper.phase

    @property
    def troubles(self) -> Mapping[str, str]:
        return self._keeper.troubles

    def signer(self) -> Signer:
        return self._keeper.signer()

    def crl(self) -> str:
        return self._keeper.crl()

    def now(self) -> datetime:
        return self.clock.now()

    async def open(self) -> None:
        """Read the root, or make it."""
        await self._keeper.open()

    async def run(self) -> None:
        """Follow the root, and tell of it; one replica at a time tells."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keeper.run())
                tasks.create_task(self._lease.keep(fit=self._signs))
                for one in self._config_maps:
                    tasks.create_task(one.run())
        finally:
            await asyncio.to_thread(self._lease.leave)

    def _signs(self) -> bool:
        """Else there is nothing that we could tell namespaces."""
        try:
            return bool(self.signer())
        except Refusal:
            return False
