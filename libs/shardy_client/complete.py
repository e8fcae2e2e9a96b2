"""What the shells offer for a value: fixed choices, and ids that the mesh is asked for, briefly."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import typer

from shardy_client.transport import DEFAULT_URL, default_key, gateways, operator_key

PATIENCE_S = 1.0  # a shell that waits longer for a list is worse than one without
SHOWN_MAX = 50
Choices = list[tuple[str, str]]

POLICIES = {
    "quorum": "devices must agree",
    "audit": "one device, and a check of its arithmetic",
    "adaptive": "as many answers as the devices' records ask for",
    "proof": "one device, which proves what it is asked for",
}
STATES = ("open", "replayed", "discarded")
JOB_STATES = ("waiting", "running", "completed", "failed", "cancelled")


def among(choices: dict[str, str] | tuple[str, ...]) -> Callable[[str], Choices]:
    """Completion from fixed words."""
    known = choices if isinstance(choices, dict) else dict.fromkeys(choices, "")

    def complete(incomplete: str) -> Choices:
        return [(word, text) for word, text in known.items() if word.startswith(incomplete)]

    return complete


policies = among(POLICIES)
services = among(("gateway", "matchmaker", "quorum", "prover-verifier", "gossip-bridge", "dlq"))


def job_ids(ctx: typer.Context, incomplete: str) -> Choices:
    """Jobs, the newest first."""
    listed = _asked(ctx, f"/v1/jobs?limit={SHOWN_MAX}", "jobs", default_key)
    return _begun(((j.get("id"), f"{j.get('state')} {j.get('label') or j.get('kind')}") for j in listed), incomplete)


def worker_ids(ctx: typer.Context, incomplete: str) -> Choices:
    """Devices of the mesh."""
    listed = _asked(ctx, f"/v1/workers?limit={SHOWN_MAX}", "workers", default_key)
    return _begun(((w.get("id"), str(w.get("name"))) for w in listed), incomplete)


def letters(ctx: typer.Context, incomplete: str) -> Choices:
    """Dead letters that are open."""
    listed = _asked(ctx, f"/v1/dlq?limit={SHOWN_MAX}&state=open", "entries", operator_key)
    return _begun(((e.get("entry"), str(e.get("cause"))) for e in listed), incomplete)


def key_ids(ctx: typer.Context, incomplete: str) -> Choices:
    """API keys that are valid: the others cannot be rotated or revoked."""
    listed = _asked(ctx, "/v1/keys", "keys", operator_key)
    return _begun(((k.get("id"), str(k.get("label"))) for k in listed if k.get("state") == "valid"), incomplete)


def verifier_versions(ctx: typer.Context, incomplete: str) -> Choices:
    """Versions of verification keys, but for revoked ones: nothing can be done with these."""
    listed = _asked(ctx, f"/v1/verifiers?limit={SHOWN_MAX}", "verifiers", operator_key)
    left = ((v.get("version"), f"{v.get('status')} {v.get('circuit')}") for v in listed if v.get("status") != "revoked")
    return _begun(left, incomplete)


def circuits(ctx: typer.Context, incomplete: str) -> Choices:
    """Circuits that have a verification key."""
    listed = _asked(ctx, f"/v1/verifiers?limit={SHOWN_MAX}", "verifiers", operator_key)
    return _begun(iter({v.get("circuit"): "" for v in listed}.items()), incomplete)


def ceremonies(ctx: typer.Context, incomplete: str) -> Choices:
    """Circuits that have a ceremony."""
    listed = _asked(ctx, f"/v1/ceremonies?limit={SHOWN_MAX}", "ceremonies", default_key)
    return _begun(((c.get("circuit"), f"{c.get('state')}, run {c.get('run')}") for c in listed), incomplete)


def _begun(pairs: Iterator[tuple[Any, str]], incomplete: str) -> Choices:
    return [(name, text) for name, text in pairs if isinstance(name, str) and name.startswith(incomplete)]


def _asked(ctx: typer.Context, path: str, name: str, key: Callable[[], str]) -> list[dict[str, Any]]:
    # Whatever goes wrong here, the shell shows nothing: it is no place for errors.
    with contextlib.suppress(Exception):
        url = ctx.params.get("url") or os.environ.get("SHARDY_URL") or DEFAULT_URL
        token = ctx.params.get("key") or key()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        for gateway in gateways(url)[:2]:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.get(gateway + path, headers=headers, timeout=PATIENCE_S / 2).json()
                return [entry for entry in answer.get(name, ()) if isinstance(entry, dict)]
    return []
