"""Commands about the log: events in words, moments, and what is wrong with what was asked for, each in one line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli_runner import invoke

from shardy_client.cli_care import seconds
from shardy_client.cli_log import _when
from shardy_client.errors import InvalidInput
from shardy_client.log_words import line_of, words_of
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Tile

TILE = Tile(0, 4, 0, 6)
LEASE = ev.Lease("t-0", "worker-of-ada", "s", 1)
SPEC = JobSpec("matmul", {}, "audit", 2, 2, "", None)
PROBE = ev.Probe(12.5, 1.0, 512, "wasm")
WORDS: list[tuple[ev.Event, str]] = [
    (ev.JobSubmitted("j", SPEC, "anna"), "matmul, policy audit, by anna"),
    (ev.JobFailed("j", "task t given up"), "task t given up"),
    (ev.TaskCreated("t", "j", TILE, [LEASE]), "rows 0–3, columns 0–5 to …of-ada"),
    (ev.TaskAssigned("t", "j", TILE, [LEASE], "retry"), "retry: to …of-ada"),
    (ev.TaskExpired("t", "j", ["t-0"], "deadline"), "deadline: 1 leases"),
    (ev.TaskVerified("t", "j", TILE, "ab" * 32, 9, ["worker-of-ada"], "audit", 2, 5), "audit: abababababab of …of-ada"),
    (ev.ResultSubmitted("t", "j", "t-0", "worker-of-ada", "ab" * 32, 9, 1.6, "wasm"),
     "abababababab of …of-ada, 9 bytes in 2 ms"),
    (ev.FraudDetected("t", "j", "worker-of-bo", "t-1", "cd" * 32, "audit", 3),
     "…-of-bo: cdcdcdcdcdcd is wrong in row 3 (audit)"),
    (ev.WorkerJoined("w", "s", "gateway-0", "i", "::1", "ada", "k", PROBE), "ada at gateway-0, 12.5 GOPS"),
    (ev.WorkerTiered("w", "s", "cpu", 4, 1.0), "cpu, 4 leases"),
    (ev.KeyIssued("k", "h", "o", ["submit"], "anna", "op"), "'anna' (submit) by op"),
    (ev.VerifierRegistered("c", "v1", (8, 8, 8), "{}", "ab" * 32, True, "op"), "version v1 (abababababab) by op"),
    (ev.VerifierRotated("c", "v2", "v1", 9, "op"), "to version v2 from v1 by op"),
    (ev.VerifierRotated("c", "v1", "", 9, "op"), "to version v1 from none by op"),
    (ev.VerifierRevoked("c", "v1", "", "leaked", "op"), "version v1 by op: leaked"),
    (ev.ProofChallenged("t", "j", "t-0", "worker-of-ada", "ab" * 32, "v2-8x8x8", "v1", "cd" * 32, "", "", 9, 4, 1),
     "…of-ada is to prove 4 of 9 tiles under v1"),
    (ev.ProofSubmitted("t", "j", "t-0", "worker-of-ada", "ef" * 32), "by …of-ada"),
    (ev.ProofVerified("t", "j", "t-0", "worker-of-ada", "ab" * 32, "v2-8x8x8", "v1", "", "", "", 9, 4, "", ""),
     "abababababab of …of-ada under v1: 4 of 9 tiles"),
    (ev.ProofRejected("t", "j", "t-0", "worker-of-ada", "ab" * 32, "late", "no proof came in time"),
     "abababababab of …of-ada: late: no proof came in time"),
    (ev.ProofReaudited("t", "j", "t-0", "v1", "ab" * 32, "right", 2),
     "abababababab, verified under v1, which is revoked: right"),
    (ev.GatewayStarted("gateway-0", "abc"), "gateway gateway-0, instance abc"),
]  # fmt: skip


def event(of: ev.Event) -> dict[str, Any]:
    return {"seq": 7, "at_ms": 1_000, "subject": of.subject, "event": of.name, "error": None,
            "data": msgspec.json.decode(ev.encode(of))}  # fmt: skip


@pytest.mark.parametrize(("of", "words"), WORDS, ids=lambda value: getattr(value, "name", None))
def test_events_in_words(of: ev.Event, words: str) -> None:
    assert words_of(event(of)) == words
    assert line_of(event(of)) == f"        7  1970-01-01 00:00:01.000  {of.subject}  {words}"


def test_what_this_version_does_not_know_is_shown_as_it_is() -> None:
    assert words_of({"event": None, "data": None, "error": "Invalid value"}) == "cannot be read: Invalid value"
    assert words_of({"event": "job.sung", "data": {"e": "job.sung/1", "job": "j", "loud": 3}}) == "job j, loud 3"
    assert words_of({"event": "task.created", "data": {"e": "task.created/9", "task": "t"}}) == "task t"
    assert len(words_of({"event": "job.failed", "data": {"cause": "x" * 999}})) == 160


@pytest.mark.parametrize(
    ("text", "wanted"), [("90s", 90), ("15min", 900), ("10m", 600), ("2h", 7_200), ("1.5d", 129_600), ("0s", 0)]
)
def test_ages(text: str, wanted: float) -> None:
    assert seconds("--older-than", text) == wanted


@pytest.mark.parametrize("text", ["7", "d", "7 d", "-1d", "7y", ""])
def test_ages_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="write a number and a unit"):
        seconds("--older-than", text)


def test_moments() -> None:
    assert _when("--since", None) == {} and _when("--since", "4711") == {"seq": 4711}
    assert _when("--since", "2030-01-31T12:00") == {"ms": 1_896_091_200_000} == _when("-", "2030-01-31T13:00+01:00")
    assert abs(_when("--since", "2h")["ms"] - (time.time() - 7_200) * 1000) < 60_000
    with pytest.raises(InvalidInput, match="write a sequence"):
        _when("--since", "yesterday")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["log", "--since", "yesterday"], 2, "write a sequence"),
        (["log", "--follow", "--until", "2h"], 2, "--follow has no end"),
        (["log", "--story"], 2, "name it with --task ID"),
        (["log", "--limit", "0"], 2, "1 to 100,000 are possible"),
        (["log", "--limit", "5", "list"], 2, "write --limit behind list"),
        (["log", "archive", "--older-than", "week"], 2, "write a number and a unit"),
        (["log", "archive", "--keep-events", "-1"], 2, "0 or more are possible"),
        (["log", "archive"], 3, "no running stack on .data"),
        (["log", "replay"], 3, "no running stack on .data"),
        (["log", "replay", "--from", "nothing"], 1, "holds no archived epochs"),
        (["log", "restore", "x.log.gz", "--into", "nothing"], 1, "is no data folder"),
        (["log", "verify", "x.log.gz"], 1, "x.log.gz cannot be read"),
        (["backup", "copy"], 3, "no running stack on"),
        (["restore", "copy", "--data-dir", "new"], 1, "holds no complete backup"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*words)
    assert result.exit_code == code, result.output
    assert said in " ".join(result.stderr.split()) and "Traceback" not in result.output


def test_nothing_archived_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("log", "archives").stdout.strip() == "Nothing was archived."
    assert invoke("log", "archives", "--json").stdout.strip() == "[]"
    assert invoke("log", "verify").stdout.strip() == "Nothing was archived."
