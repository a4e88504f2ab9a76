"""The first state of a source, translated while it is not known yet whether it is whole.

An API server has to say twice, seconds apart, that it lacks a kind of policies (`agent.sources.absence`). All
that it has is read before, and is translated meanwhile: nobody is told of it.
"""

import asyncio
from collections.abc import Mapping

from agent.model.kinds import ENDPOINTS
from agent.model.mesh import Mesh
from agent.model.model import Model, apply
from agent.model.resources import Delta, Resource
from agent.model.schema.objects import Key, Object
from agent.sources.source import Changes


class Ahead:
    """`begin` with what there may be; `apply` what there is."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._begun: asyncio.Task[tuple[Model, Delta]] | None = None
        self._objects: Mapping[Key, Object | None] = {}

    def begin(self, changes: Changes) -> None:
        """Translate these, all that is known of the first state, in a thread."""
        self._objects = dict(changes)
        self._begun = asyncio.create_task(asyncio.to_thread(apply, Model(self._mesh), changes))

    async def apply(self, model: Model, changes: Changes) -> tuple[Model, Delta]:
        """As `agent.model.model.apply`, in a thread; of the first state only what is different by now."""
        if self._begun is None:
            return await asyncio.to_thread(apply, model, changes)
        begun, _ = await self._begun
        objects, self._objects, self._begun = self._objects, {}, None
        different = [(key, item) for key, item in changes if key not in objects or objects[key] is not item]
        whole, _ = await asyncio.to_thread(apply, begun, different)
        return whole, Delta(_in_order(whole, changes))


def _in_order(model: Model, changes: Changes) -> tuple[Resource, ...]:
    """All resources as `apply` orders them: of two with one address the later one is found by it."""
    order = {key: number for number, (key, _) in enumerate(changes)}
    keys = sorted(model.resources, key=lambda key: (key.kind in ENDPOINTS, order.get(key, -1)))
    return tuple(one for key in keys for one in model.resources[key])
