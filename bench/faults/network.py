"""Cables to cut: a network namespace in which nats-server and gateway run, joined to this one by a veth pair.

Each service reaches nats-server by an address of its own, so a rule of the packet filter, in the namespace and nowhere
else, cuts one service off, or one direction of its connection. Needs the right to make network namespaces (root).
"""

from __future__ import annotations

import subprocess
from types import TracebackType

from shardy_common.stack import Stack, free_port

NETWORK = "198.18.{}.{}"  # the range for tests of networks (RFC 2544): nobody routes it
FIRST = 10  # the last part of the first service's address
NAMES = (
    "observer", "nats-server", "gateway", "workers", "matchmaker", "matchmaker-1", "quorum", "quorum-1", "dlq",
    "prover-verifier", "gossip-bridge",
)  # fmt: skip


def run(*command: str) -> str:
    """What it complains about; empty where it succeeded."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else f"{' '.join(command)}: {done.stderr.strip() or done.returncode}"


class Far:
    """The namespace and its cable. why_not: what kept it from being made; empty when it is there."""

    def __init__(self, number: int) -> None:
        """number: 0 to 255, for names and addresses that no other such network has."""
        self.number, self.name = number, f"shardy-far-{number}"
        self.near_end, self.far_end = f"shn{number}", f"shf{number}"
        self.why_not = ""

    def __enter__(self) -> Far:
        near = f"{NETWORK.format(self.number, 1)}/24"
        steps = [
            ("ip", "netns", "add", self.name),
            ("ip", "link", "add", self.near_end, "type", "veth", "peer", "name", self.far_end, "netns", self.name),
            ("ip", "address", "add", near, "dev", self.near_end),
            ("ip", "link", "set", self.near_end, "up"),
            (*self.prefix, "ip", "link", "set", "lo", "up"),
            (*self.prefix, "ip", "link", "set", self.far_end, "up"),
            *((*self.prefix, "ip", "address", "add", f"{self.address(n)}/24", "dev", self.far_end) for n in NAMES),
            (*self.prefix, "iptables", "-A", "INPUT", "-j", "ACCEPT"),
        ]
        for step in steps:
            self.why_not = self.why_not or run(*step)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run("ip", "link", "delete", self.near_end)
        run("ip", "netns", "delete", self.name)

    @property
    def prefix(self) -> tuple[str, ...]:
        """Before a command that shall run there; it becomes the command, with the same process id."""
        return ("ip", "netns", "exec", self.name)

    def address(self, name: str) -> str:
        return NETWORK.format(self.number, FIRST + NAMES.index(name))

    def pull(self) -> None:
        """Pull the cable: nobody here reaches anybody there. It is pulled over there: this side's route stays, so that
        packets are lost and take no other way."""
        self._must(*self.prefix, "ip", "link", "set", self.far_end, "down")

    def plug(self) -> None:
        self._must(*self.prefix, "ip", "link", "set", self.far_end, "up")

    def drop(self, name: str, port: int, *ways: str) -> None:
        """Lose every packet to or from (ways: `to`, `from`) this service's address and port over there."""
        for way in ways or ("to", "from"):
            self._must(*self.prefix, "iptables", "-I", *self._rule(name, port, way))

    def heal(self) -> None:
        """Lose nothing more."""
        for chain in ("INPUT", "OUTPUT"):
            self._must(*self.prefix, "iptables", "-F", chain)

    def _rule(self, name: str, port: int, way: str) -> tuple[str, ...]:
        chain, side = ("INPUT", "d") if way == "to" else ("OUTPUT", "s")
        return (chain, f"-{side}", self.address(name), "-p", "tcp", f"--{side}port", str(port), "-j", "DROP")

    def _must(self, *command: str) -> None:
        if why := run(*command):
            raise RuntimeError(why)


class FarStack(Stack):
    """A stack whose nats-server and gateway run in the namespace, and everything else here."""

    def __init__(self, data_dir: object, far: Far, **more: object) -> None:
        super().__init__(data_dir, host=far.address("gateway"), port=free_port("127.0.0.1"), **more)  # type: ignore[arg-type]
        self.far = far

    @property
    def nats_url(self) -> str:
        return self._nats_url("observer")

    @property
    def workers_url(self) -> str:
        """The gateway's address for workers, which can be cut off without its clients."""
        return f"http://{self.far.address('workers')}:{self.port}"

    def _nats_url(self, name: str) -> str:
        return f"nats://{self.far.address(name)}:{self.nats_port}"

    def _supervise(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        if name == "nats-server":
            argv = [*self.far.prefix, *argv, "-a", "0.0.0.0"]
        else:
            env = {**env, "SHARDY_NATS_URL": self._nats_url(name)}
        if name == "gateway":
            argv, env = [*self.far.prefix, *argv], {**env, "SHARDY_HOST": "0.0.0.0"}
        super()._supervise(name, argv, env)
