"""What can be asked of a mesh beside computing: lists, credit, receipts, dead letters, keys, verification keys."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from shardy_client.arrays import digest
from shardy_client.errors import InvalidInput, Refused
from shardy_client.files import whole_file
from shardy_client.follow import followed
from shardy_client.jobs import AsyncJob
from shardy_client.transport import Http
from shardy_client.upload import OnTransfer, silent, store

SCOPES = ("submit", "operate")
REASON_CHARS_MAX = 500
PAGE = 500
REPLAY_S = 90.0  # until a replay answers, or says that it takes longer


def part(text: str, what: str) -> str:
    """An id as a part of a path; InvalidInput when it can be none."""
    if not text or len(text) > 200 or not all("!" <= c <= "~" and c != "/" for c in text) or text in (".", ".."):
        raise InvalidInput(f"{text!r} is no {what}")
    return quote(text, safe="")


def given(**values: Any) -> dict[str, Any]:
    """Those that are neither None nor empty, as the query's parameters."""
    shown = {True: "true", False: "false"}
    return {
        name: shown[value] if isinstance(value, bool) else value
        for name, value in values.items()
        if value is not None and value != ""
    }


def job_id_of(job: Any) -> str:
    """The id of a handle, or the id itself."""
    return part(job if isinstance(job, str) else job.id, "job id; `shardy jobs` lists them")


class AsyncLooks:
    """Lists come in pages: {"…": entries, "next": what to give for the following page, or None}; `pages` walks them.

    What is marked “operate” needs a key with that scope.
    """

    http: Http

    async def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return await self.http.json("GET", path, params=given(**params))

    async def info(self) -> dict[str, Any]:
        """Name, version, policies, kinds, limits, and `mesh_key`, which signs receipts."""
        return await self._get("/v1/mesh")

    async def jobs(
        self, limit: int = 20, before: str | None = None, state: str | None = None, all: bool = False
    ) -> dict[str, Any]:
        """{"jobs": statuses, newest first, "next": `before` for older ones}. all: everybody's (operate)."""
        return await self._get("/v1/jobs", limit=limit, before=before, state=state, all=all or None)

    async def tasks(self, job: str | AsyncJob, limit: int = 100, after: str | None = None) -> dict[str, Any]:
        """The tasks of a job: tiles, workers, digests, verdicts."""
        return await self._get(f"/v1/jobs/{job_id_of(job)}/tasks", limit=limit, after=after)

    async def usage(self, job: str | AsyncJob) -> dict[str, Any]:
        """What a job cost: {"ops": verified operations of its result, "ops_replicas": counted for every replica}."""
        status = await self._get(f"/v1/jobs/{job_id_of(job)}")
        return dict(status.get("usage") or {"ops": 0, "ops_replicas": 0})

    async def receipt(self, job: str | AsyncJob, task: str | None = None) -> dict[str, Any]:
        """The mesh's signed receipt of a completed job, or of one of its tasks; `shardy verify` checks it anywhere."""
        suffix = f"/tasks/{part(task, 'task id')}" if task else ""
        return await self._get(f"/v1/jobs/{job_id_of(job)}{suffix}/receipt")

    # --- devices and credit ---------------------------------------------------------------------------------

    async def listing(self, name: str) -> dict[str, Any]:
        """`workers`, `frauds` or `dlq`, the first page."""
        return await self._get(f"/v1/{part(name, 'list')}")

    async def workers(self, limit: int = 100, after: str | None = None, present: bool | None = None) -> dict[str, Any]:
        """Devices that ever joined, or those that are here now."""
        return await self._get("/v1/workers", limit=limit, after=after, present=present)

    async def worker(self, worker: str) -> dict[str, Any]:
        """One device: trust, credit, record, and the evidence of every wrong result."""
        return await self._get(f"/v1/workers/{part(worker, 'worker id; `shardy workers` lists them')}")

    async def frauds(self, limit: int = 100, before: str | None = None) -> dict[str, Any]:
        """Results that were proven wrong, newest first."""
        return await self._get("/v1/frauds", limit=limit, before=before)

    async def credit(self, limit: int = 100, after: str | None = None) -> dict[str, Any]:
        """Verified work by device, and in all. One credit is 10⁹ verified operations."""
        return await self._get("/v1/credit", limit=limit, after=after)

    async def ledger(
        self, worker: str | None = None, job: str | None = None, after: int | None = None, limit: int = 100
    ) -> dict[str, Any]:
        """The entries that credit is made of, oldest first."""
        return await self._get("/v1/credit/ledger", worker=worker, job=job, after=after, limit=limit)

    async def export_credit(self, path: str | os.PathLike[str]) -> int:
        """Write the whole ledger into a CSV file, which appears whole or not at all; its bytes."""
        with whole_file(Path(path)) as target:

            def begin(_: int | None) -> Callable[[bytes], object]:
                target.seek(0)
                target.truncate()
                return target.write

            await self.http.download("/v1/credit/export", begin)
            return target.tell()

    # --- dead letters (operate) -----------------------------------------------------------------------------

    async def dlq(
        self, limit: int = 50, before: str | None = None, cause: str | None = None, state: str | None = None
    ) -> dict[str, Any]:
        """Dead letters, newest first (operate). state: open, replayed or discarded."""
        return await self._get("/v1/dlq", limit=limit, before=before, cause=cause, state=state)

    async def letter(self, entry: str) -> dict[str, Any]:
        """One dead letter (operate)."""
        return await self._get(_letter(entry))

    async def replay(self, entry: str) -> dict[str, Any]:
        """Try again what a dead letter is about (operate): {"entry", "outcome", "job"}."""
        return await self.http.json("POST", f"{_letter(entry)}/replay", repeat=True, resend=False, answer_s=REPLAY_S)

    async def discard(self, entry: str, reason: str) -> dict[str, Any]:
        """Close a dead letter for good, saying why (operate)."""
        if not reason.strip() or len(reason) > REASON_CHARS_MAX:
            raise InvalidInput(f"give a reason of 1 to {REASON_CHARS_MAX} characters")
        return await self.http.json("POST", f"{_letter(entry)}/discard", json={"reason": reason})

    # --- the log (operate) ----------------------------------------------------------------------------------

    async def log(
        self,
        limit: int = 100,
        after: int | None = None,
        before: int | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        **wanted: str | None,
    ) -> dict[str, Any]:
        """Events, newest first, or those after a sequence, oldest first (operate). wanted: subject, event, job, task,
        worker. A page may be short or empty, and `next` still say where to go on."""
        place = {"after": after, "before": before, "since_ms": since_ms, "until_ms": until_ms}
        return await self._get("/v1/log", limit=limit, **place, **wanted)

    async def follow_log(self, after: int | None = None, **wanted: str | None) -> AsyncIterator[dict[str, Any]]:
        """Every event from now on, or after a sequence (operate): without end, over gateways that come and go."""
        async for event in followed(self.http, "/v1/log/events", after, given(**wanted)):
            yield event

    async def story(self, task: str) -> dict[str, Any]:
        """What happened to a task, in order, and why (operate): {"task", "job", "lines"}."""
        return await self._get(f"/v1/log/tasks/{part(task, 'task id; shardy log shows them')}")

    # --- keys (operate; anybody may change the key that he uses) --------------------------------------------

    async def keys(self, limit: int = 100, after: str | None = None) -> dict[str, Any]:
        """The API keys, without their secrets (operate)."""
        return await self._get("/v1/keys", limit=limit, after=after)

    async def issue_key(
        self, label: str, scopes: Sequence[str] = ("submit",), expires_s: int | None = None
    ) -> dict[str, Any]:
        """Make an API key (operate); the answer's `key` is shown this once."""
        wrong = sorted(set(scopes) - set(SCOPES))
        if wrong or not scopes or isinstance(scopes, str):
            raise InvalidInput(f"scopes are {', '.join(SCOPES)}; {', '.join(wrong) or 'none'} was asked for")
        if expires_s is not None and expires_s < 1:
            raise InvalidInput(f"a key cannot end after {expires_s} s; use 1 or more")
        body = {"label": label, "scopes": list(scopes)} | given(expires_s=expires_s)
        return await self.http.json("POST", "/v1/keys", json=body)

    async def rotate_key(self, key_id: str, grace_s: int | None = None) -> dict[str, Any]:
        """A new key of the same owner and scopes; the old one ends after grace_s."""
        if grace_s is not None and grace_s < 0:
            raise InvalidInput(f"grace_s is {grace_s}; use 0 or more")
        return await self.http.json("POST", f"{_key(key_id)}/rotate", json=given(grace_s=grace_s))

    async def revoke_key(self, key_id: str) -> dict[str, Any]:
        """End a key at once."""
        response = await self.http.send("DELETE", _key(key_id))
        if response.status_code == 404 and response.extensions.get("tries", 1) > 1:
            return {"id": key_id}  # an earlier try, thought lost, did it
        return self.http.answer(response, {"id": key_id})

    # --- verification keys (operate) ------------------------------------------------------------------------

    async def verifiers(self, limit: int = 100, after: str | None = None, circuit: str | None = None) -> dict[str, Any]:
        """Versions of verification keys by circuit, the oldest first (operate)."""
        return await self._get("/v1/verifiers", limit=limit, after=after, circuit=circuit)

    async def verifier(self, version: str) -> dict[str, Any]:
        """One version; `vk` is its key as canonical JSON text, and `vk_hash` the BLAKE3 of that (operate)."""
        return await self._get(f"/v1/verifiers/{part(version, 'version; `shardy verifiers` lists them')}")

    async def register_verifier(
        self,
        circuit: str,
        version: str,
        shape: Sequence[int],
        vk: dict[str, Any],
        dev: bool = False,
        files: dict[str, bytes] | None = None,
        on_transfer: OnTransfer = silent,
    ) -> dict[str, Any]:
        """Register a verification key (operate). shape: m, k, n. dev: its randomness is known.

        files: `zkey` and `r1cs` as snarkjs and circom write them, for workers to prove with; they are packed and stored
        first. Of the r1cs the plan of solving is stored, which saves workers the seconds that finding it takes.
        """
        body: dict[str, Any] = {"circuit": circuit, "version": version, "shape": list(shape), "vk": vk, "dev": dev}
        if files is not None:
            if set(files) != {"zkey", "r1cs"}:
                raise InvalidInput("files to prove with are zkey and r1cs, both of them")
            from shardy_common.proofs.prover import solving_plan  # only here: it brings the engine of WebAssembly

            plan = await asyncio.to_thread(solving_plan, files["r1cs"])
            body["files"] = {}
            for name, data in (("zkey", files["zkey"]), ("r1cs", plan)):
                packed = memoryview(await asyncio.to_thread(gzip.compress, data, 9, mtime=0))
                named = digest(packed)
                await store(self.http, name, named, packed, on_transfer)
                body["files"][name] = {"digest": named, "unpacked": len(data)}
        return await self.http.json("POST", "/v1/verifiers", json=body, repeat=True)

    async def rotate_verifier(self, circuit: str, version: str, grace_s: int | None = None) -> dict[str, Any]:
        """Make a version the active one of its circuit (operate). What was leased before under the former one is
        accepted for grace_s more."""
        body = {"circuit": circuit, "version": version} | given(grace_s=grace_s)
        response = await self.http.send("POST", "/v1/verifiers/rotate", json=body, repeat=True)
        try:
            return self.http.answer(response)
        except Refused as refused:
            if not refused.repeated or refused.problem != "/problems/version-is-active":
                raise
            return {"circuit": circuit, "version": version, "former": None, "grace_until_ms": None}  # an earlier try

    async def revoke_verifier(self, version: str, why: str, successor: str | None = None) -> dict[str, Any]:
        """Revoke a version for good (operate): nothing is accepted under it any more. successor: takes the place of an
        active one at once."""
        body = {"version": version, "why": why} | given(successor=successor)
        return await self.http.json("POST", "/v1/verifiers/revoke", json=body, repeat=True)

    # --- pages ----------------------------------------------------------------------------------------------

    async def pages(
        self, look: Callable[..., Any], name: str, cursor: str, limit: int | None = None, **more: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """Every entry of a list, page by page: `pages(mesh.ledger, "entries", "after", worker=…)`.

        cursor: `after` or `before`, as the list takes it. limit: entries in all.
        """
        left, at = limit, None
        while left is None or left > 0:
            answer = await look(limit=min(PAGE, left or PAGE), **({cursor: at} if at is not None else {}), **more)
            entries = answer.get(name) or []
            for entry in entries:
                yield entry
            at = answer.get("next")
            if at is None or not entries:
                return
            left = None if left is None else left - len(entries)


def _letter(entry: str) -> str:
    return f"/v1/dlq/{part(entry, 'dead letter; `shardy dlq` lists them')}"


def _key(key_id: str) -> str:
    return f"/v1/keys/{part(key_id, 'key id; `shardy keys` lists them')}"
