"""The agent's and the authority's page server: `protocols.web` at the address of their settings."""

import asyncio

from agent.errors import SettingsError
from protocols import web


async def serve(address: str, port: int, routes: web.Routes) -> asyncio.Server:
    """Answer until the server is closed. Raises SettingsError when the address cannot be listened on."""
    try:
        return await web.serve(routes, address, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(
            f"--http-address {address} --metrics-port {port}: {reason}; another port, or 0 for none"
        ) from error
