"""Slots: the first free one, never one for two processes, and free again when its process ends, however that ends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shardy_common import slots
from shardy_common.config import Settings
from shardy_common.slots import SlotError, take

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="advisory locks")
HOLDER = """
import sys, time
from pathlib import Path
from shardy_common.slots import take
name, held = take(Path(sys.argv[1]), "quorum", "auto")
print(name, flush=True)
time.sleep(60)
"""


def holder(folder: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_processes_take_the_first_free_slot_and_a_killed_ones_is_taken_over(tmp_path: Path) -> None:
    started = [holder(tmp_path) for _ in range(3)]
    try:
        assert [name for _, name in started] == ["0", "1", "2"]
        started[1][0].send_signal(signal.SIGKILL)
        started[1][0].wait(10)
        replaced = holder(tmp_path)
        started.append(replaced)
        assert replaced[1] == "1"
        assert take(tmp_path, "quorum", "auto")[0] == "3"
        assert take(tmp_path, "matchmaker", "auto")[0] == "0", "each service has slots of its own"
    finally:
        for process, _ in started:
            process.kill()
            process.wait(10)
            if process.stdout:
                process.stdout.close()


def test_many_at_once_get_different_slots(tmp_path: Path) -> None:
    """Started together, as by compose: no name twice."""
    processes = [
        subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    try:
        names = [p.stdout.readline().strip() for p in processes if p.stdout]
        assert sorted(names) == [str(n) for n in range(6)]
    finally:
        for process in processes:
            process.kill()
            process.wait(10)
            if process.stdout:
                process.stdout.close()


def test_a_name_that_is_held_is_refused_and_auto_steps_aside(tmp_path: Path) -> None:
    name, file = take(tmp_path, "gateway", "0")
    assert name == "0" and file is not None
    with pytest.raises(SlotError, match=r"another gateway holds the instance '0'.*SHARDY_INSTANCE"):
        take(tmp_path, "gateway", "0", patience_s=0.2)
    assert take(tmp_path, "gateway", "auto")[0] == "1"
    file.close()
    assert take(tmp_path, "gateway", "0", patience_s=0.2)[1] is not None


def test_a_name_is_waited_for_while_its_holder_ends(tmp_path: Path) -> None:
    _, file = take(tmp_path, "gateway", "0")
    assert file is not None
    child = os.fork() if hasattr(os, "fork") else 0
    if child == 0:  # holds the inherited lock a moment longer, as a process that is ending does
        time.sleep(0.5)
        os._exit(0)
    file.close()
    started = time.monotonic()
    assert take(tmp_path, "gateway", "0")[1] is not None
    assert time.monotonic() - started > 0.2
    os.waitpid(child, 0)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_auto_says_what_to_do_and_a_name_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(slots.fcntl, "flock", flock)
    with pytest.raises(SlotError, match=r"needs a file system with advisory locks.*a name of its own"):
        take(tmp_path, "quorum", "auto")
    assert take(tmp_path, "quorum", "7") == ("7", None)


def test_all_slots_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SLOTS_MAX", 2)
    held = [take(tmp_path, "quorum", "auto") for _ in range(2)]
    with pytest.raises(SlotError, match="all 2 slots of the quorum"):
        take(tmp_path, "quorum", "auto")
    assert [name for name, _ in held] == ["0", "1"]


def test_settings_carry_the_slot(tmp_path: Path) -> None:
    settings = slots.settle("quorum", Settings(data_dir=tmp_path, instance="auto"))
    assert settings.instance == "0" and settings.projection_path("quorum") == tmp_path / "projections/quorum-0.db"
    assert slots.settle("quorum", Settings(data_dir=tmp_path, instance="auto")).instance == "1"
    for wrong in ("", "a.b", "a b", "*", "x" * 65):
        with pytest.raises(ValueError, match="instance"):
            Settings(instance=wrong)
