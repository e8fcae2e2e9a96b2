"""HTTP calls of workers whose sockets another gateway holds: through a balancer, or a name with several addresses.

A visitor has what the calls need of a session, read from this gateway's fold. That may be a moment behind the gateway
that lent the work, so what is not there yet is waited for a little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from shardy_gateway.session import Session
from shardy_gateway.views import Views

if TYPE_CHECKING:
    from shardy_gateway.state import GatewayState

LAG_TRIES, LAG_S = 20, 0.05


class Operands:
    """The blobs that a worker's leases name, looked up when asked."""

    def __init__(self, views: Callable[[], Views], worker: str) -> None:
        self._views, self._worker = views, worker

    def __contains__(self, digest: object) -> bool:
        views = self._views()
        for job in views.jobs.values():
            if any(operand.digest == digest for operand in job.spec.operands.values()):
                tasks = (views.tasks[task] for task in views.tasks_of.get(job.id, ()))
                if any(self._worker in task.leases.values() for task in tasks):
                    return True
        versions = views.verifiers.registry.versions
        asked = (versions.get(event.version) for event in views.proofs.asked_of(self._worker))
        files = [version.files for version in asked if version is not None and version.files is not None]
        return any(digest in (file.zkey, file.r1cs) for file in files)


class Visitor:
    """uploads and seen are of no use here: the gateway that holds the socket finds the bytes in the store."""

    def __init__(self, views: Callable[[], Views], worker: str) -> None:
        self.worker = worker
        self.operands = Operands(views, worker)
        self.uploads: dict[str, tuple[str, int]] = {}
        self.seen = 0.0


async def admitted(state: GatewayState, token: str) -> Session | Visitor | None:
    """Whose token it is: a session of this gateway, or of another one of this mesh that is still there."""
    session = state.door.tokens.get(token)
    named = state.door.passes.read(token) if session is None else None
    if named is None:
        return session
    joined, worker = named

    def is_session() -> bool:
        known = state.views.workers.find(worker)
        return known is not None and known.session == joined and known.present and not known.banned

    return Visitor(lambda: state.views, worker) if await eventually(is_session) else None


async def seen_by(session: Session | Visitor, look: Callable[[], bool]) -> bool:
    """Whether look() is true; for a visitor, whether it becomes true within the lag between gateways."""
    return look() or (isinstance(session, Visitor) and await eventually(look))


async def eventually(look: Callable[[], bool]) -> bool:
    for _ in range(LAG_TRIES):
        if look():
            return True
        await asyncio.sleep(LAG_S)
    return False
