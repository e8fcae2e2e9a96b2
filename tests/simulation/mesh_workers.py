"""Workers of a simulated mesh, honest and not, and the frames between them and their gateway."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from shardy_common.wire import events as ev

if TYPE_CHECKING:
    from mesh_gateway import GatewayNode
    from mesh_world import Mesh

RESEND_MS = 3_000


@dataclass(eq=False)
class Worker:
    """ways: liar | colluder | sleeper | slow | lazy | vanishing | failing, in any mixture; none: honest and steady.

    A sleeper is right until it is trusted, and then lies now and then. held: leases that it works on or has not been
    acknowledged for.
    """

    mesh: Mesh
    id: str
    address: str
    ways: frozenset[str]
    session: str = ""
    gateway: GatewayNode | None = None  # while it is connected
    held: dict[str, Any] = field(default_factory=dict)
    joins: int = 0
    out: bool = False  # it was banned

    @property
    def honest(self) -> bool:
        return not self.ways & {"liar", "colluder", "sleeper"}

    def lies_now(self) -> bool:
        if "sleeper" not in self.ways:
            return not self.honest
        known = self.mesh.oracle.of(self.id)
        return known.may_be_trusted_with(1) and self.mesh.rng.random() < 0.5

    # -- its session ----------------------------------------------------------------------------------------------

    def join(self) -> None:
        if self.gateway is not None or self.out:
            return
        rng = self.mesh.rng
        gateway = rng.choice(self.mesh.gateways)
        if not gateway.up or not gateway.line.sends:  # nobody answers there
            self.mesh.later(self.mesh.delay(2_000), self.join)
            return
        if gateway.bans(self.id):
            self.banned()
            return
        self.joins += 1
        self.session = f"s{self.joins}-{self.id}"
        self.gateway = gateway
        if self.mesh.chance(0.3):
            self.held.clear()  # the page was loaded anew
        probe = ev.Probe(rng.choice((5.0, 20.0, 60.0)), 1.0, 1024, "wasm", gateway_ms=1.0)
        agent, held = f"agent {self.id}", list(self.held)
        joined = ev.WorkerJoined(
            self.id, self.session, gateway.name, gateway.instance, self.address, agent, "k", probe, held
        )
        gateway.admit(self, joined)
        for lease_id, task in list(self.held.items()):
            self.mesh.later(self.mesh.delay(100), partial(self.work, task, lease_id))

    def vanish(self) -> None:
        """It goes, or its connection breaks; its gateway notices, and it comes back some time."""
        gateway, self.gateway = self.gateway, None
        if gateway is None:
            return
        cause = "dropped" if self.mesh.rng.random() < 0.8 else "left"
        if cause == "left":
            self.held.clear()
        gateway.leave(self, self.session, cause)
        self.mesh.later(self.mesh.delay(self.mesh.shape.away_ms), self.join)

    def cut_off(self) -> None:
        """Its gateway is gone."""
        self.gateway = None
        self.mesh.later(self.mesh.delay(1_500), self.join)

    def banned(self) -> None:
        self.gateway, self.out = None, True
        self.held.clear()

    # -- its work -------------------------------------------------------------------------------------------------

    def lent(self, task: Any, lease_id: str) -> None:
        if self.gateway is not None and lease_id not in self.held:
            self.held[lease_id] = task
            slow = "slow" in self.ways and self.mesh.stormy
            pause = self.mesh.rng.choice((200, 13_000, 25_000)) if slow else 100
            self.mesh.later(self.mesh.delay(pause), partial(self.work, task, lease_id))

    def work(self, task: Any, lease_id: str) -> None:
        if self.gateway is None or lease_id not in self.held:
            return
        if "failing" in self.ways and self.mesh.chance(0.5):
            self.held.pop(lease_id)
            self.gateway.failed(self, lease_id)
            return
        if "lazy" in self.ways and self.mesh.chance(0.6):
            self.held.pop(lease_id)  # it takes work and never says a word about it
            return
        data = self.mesh.work.right(task.job, task.tile)[0]
        if self.lies_now():
            secret = "together" if "colluder" in self.ways else self.id
            data = self.mesh.work.wrong_bytes(task.job, task.tile, secret)
        self.send(lease_id, data)

    def send(self, lease_id: str, data: bytes) -> None:
        """Until it is acknowledged, as often as it takes."""
        if self.gateway is None or lease_id not in self.held:
            return
        self.mesh.network.frame(80, partial(self._arrives, self.gateway, lease_id, data))
        self.mesh.later(RESEND_MS + self.mesh.delay(500), partial(self.send, lease_id, data))

    def _arrives(self, gateway: GatewayNode, lease_id: str, data: bytes) -> None:
        if gateway is self.gateway and gateway.up:
            gateway.result(self, lease_id, data, self.mesh.rng.choice((0.2, 30.0, 900.0)))

    def forget(self, lease_id: str) -> None:
        """Acknowledged, or not wanted any more."""
        self.held.pop(lease_id, None)
