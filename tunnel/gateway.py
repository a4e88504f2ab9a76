"""The gateway's process: the same core as a tunnel's, for the one pod that it is."""

import asyncio

from protocols.report import Served
from tunnel._core import Core
from tunnel.process import Process
from tunnel.settings import GatewaySettings


class Gateway(Process):
    """Listens where the Gateways that its pod serves say."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Raises OSError, ValueError when the core cannot be had."""
        core = Core(
            node=settings.node,
            workers=settings.workers,
            spin_us=settings.spin_us,
            access_log=settings.log,
            on_demand=settings.cluster if settings.xds.on_demand else None,
            crl=settings.crl is not None,
            path_normalization=settings.path_normalization,
        )
        super().__init__(settings, core)
        pod = settings.pod
        core.add_gateway(pod.name, pod.namespace, pod.service_account, settings.trust_domain)
        self._identity = f"spiffe://{settings.trust_domain}/ns/{pod.namespace}/sa/{pod.service_account}"

    @property
    def _pods(self) -> Served:
        return Served(1, {})

    @property
    def _knows_pods(self) -> bool:
        return True

    async def run(self) -> None:
        """Work until told to stop, then drain. Raises OSError when the HTTP ports cannot be had."""
        self._certificates.use({self._identity})
        await super().run()


def run(settings: GatewaySettings) -> None:
    """Run a gateway until SIGTERM, SIGINT or POST /quitquitquit. Raises OSError, ValueError."""

    async def main() -> None:
        await Gateway(settings).run()

    asyncio.run(main())
