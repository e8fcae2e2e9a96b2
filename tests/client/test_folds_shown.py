"""What doctor and rebuild show of the services' folds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shardy_client import doctor_mesh
from shardy_client.cli import app
from shardy_common import rebuild as rebuilding
from shardy_common.replies import SERVICES
from shardy_common.stack import SERVICES as STARTED

STATUS = {
    "instance": "0", "checkpoint": 90, "lag_events": 0, "lag_ms": 0, "snapshot_checkpoint": 0, "build": None,
    "skipped": [], "standing": None,
}  # fmt: skip
SKIPPED = [{"seq": 5, "entry": "handler-quorum-5", "error": "KeyError at a.py:1: x", "version": "1"}]


def test_the_services_asked_are_those_that_are_started() -> None:
    assert set(SERVICES) == set(STARTED)


@pytest.mark.parametrize(
    ("change", "words", "remedy"),
    [
        ({}, "has folded all 90 events", ""),
        ({"snapshot_checkpoint": 80}, "snapshot at 80", ""),
        ({"lag_events": 12, "lag_ms": 2_500}, "12 events behind, 2.5 s old", ""),
        (
            {"build": {"done": 10, "of": 40, "per_s": 5, "seconds_left": 6.0}},
            "10 of 40 events, 5 a second, 6 s left",
            "",
        ),
        ({"build": {"done": 0, "of": 40, "per_s": 0, "seconds_left": None}}, "0 of 40 events, 0 a second", ""),
        ({"skipped": SKIPPED}, "without 1 that it could not fold", "shardy dlq show handler-quorum-5"),
        (
            {"standing": {"seq": 9, "subject": "s", "tries": 7, "error": "KeyError"}},
            "stands still at event 9 (KeyError)",
            "upgrade or repair",
        ),
    ],
)
def test_doctor_says_how_far_each_service_is(change: dict[str, Any], words: str, remedy: str) -> None:
    check = doctor_mesh._service({"name": "quorum", "replicas": [STATUS | change]})
    assert check.name == "service quorum" and words in check.detail
    assert check.ok == (not remedy) and remedy in check.remedy


def test_doctor_names_each_replica_and_misses_a_service() -> None:
    two = doctor_mesh._service({"name": "quorum", "replicas": [STATUS, STATUS | {"instance": "1", "skipped": SKIPPED}]})
    assert two.detail.startswith("0: has folded") and "; 1: " in two.detail and not two.ok
    assert not doctor_mesh._service({"name": "dlq", "replicas": []}).ok


ANSWER = {
    "service": "quorum", "instance": "0", "events": 40, "seconds": 8.0, "checkpoint": 40, "checksum": "ab",
    "skipped": SKIPPED,
}  # fmt: skip


def test_rebuild_follows_the_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def command(_: Path, service: str, on_status: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
        for done in (0, 20, 40):
            build = {"done": done, "of": 40, "per_s": 5, "seconds_left": None}
            on_status({"service": service, "instance": "0", "build": build})
        on_status({"service": service, "instance": "0", "build": None})
        return [ANSWER]

    monkeypatch.setattr(rebuilding, "rebuild_command", command)
    shown = CliRunner().invoke(app, ["rebuild", "quorum", "--data-dir", str(tmp_path)])
    assert shown.exit_code == 0 and "checksum ab" in shown.output and "handler-quorum-5" in shown.output
    shown = CliRunner().invoke(app, ["rebuild", "quorum", "--data-dir", str(tmp_path), "--json"])
    assert shown.exit_code == 0 and '"checksum": "ab"' in shown.output
