"""Which replica of its service a process is: a numbered slot, held by an advisory lock while the process lives.

A slot's projection file outlives its holder, so a process that is started again, or a container that takes another's
place, goes on from the file that it finds. The kernel drops the lock with the process, however that ends; nothing has
to be cleaned up.
"""

from __future__ import annotations

import errno
import logging
import time
from pathlib import Path
from typing import IO, TypeVar

from shardy_common.config import Settings

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

AUTO = "auto"
SLOTS_MAX = 64  # replicas of one service on one data folder
PATIENCE_S = 10.0  # how long a named slot may still be held by a process that is just ending
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
log = logging.getLogger("shardy.slots")
SomeSettings = TypeVar("SomeSettings", bound=Settings)
_held: list[IO[str]] = []  # open until the process ends: closing a file would give its slot away


class SlotError(RuntimeError):
    """No slot can be had; the text says what to change."""


def settle(service: str, settings: SomeSettings) -> SomeSettings:
    """Take a slot for the life of this process; the settings with its name in `instance`."""
    name, file = take(settings.data_dir / "projections", service, settings.instance)
    if file is not None:
        _held.append(file)
    return settings.model_copy(update={"instance": name})


def take(folder: Path, service: str, instance: str, patience_s: float = PATIENCE_S) -> tuple[str, IO[str] | None]:
    """The slot's name and the file whose lock holds it. instance: `auto` for the first free one, or a name."""
    folder.mkdir(parents=True, exist_ok=True)
    if instance != AUTO:
        return instance, _take_named(folder, service, instance, patience_s)
    for number in range(SLOTS_MAX):
        try:
            file = _lock(folder / f"{service}-{number}.lock")
        except OSError as error:
            raise SlotError(
                f"SHARDY_INSTANCE=auto needs a file system with advisory locks, and {folder} has none "
                f"({error.strerror or error}): give each replica of the {service} a name of its own in SHARDY_INSTANCE"
            ) from None
        if file is not None:
            return str(number), file
    raise SlotError(
        f"all {SLOTS_MAX} slots of the {service} in {folder} are taken: run fewer replicas, or give some another "
        "SHARDY_DATA_DIR"
    )


def _take_named(folder: Path, service: str, instance: str, patience_s: float) -> IO[str] | None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            file = _lock(folder / f"{service}-{instance}.lock")
        except OSError as error:
            log.warning("%s has no advisory locks (%s): nothing keeps two replicas from one name", folder, error)
            return None
        if file is not None:
            return file
        if time.monotonic() > deadline:
            raise SlotError(
                f"another {service} holds the instance {instance!r} in {folder}: stop it, or set SHARDY_INSTANCE to "
                "another name, or to auto"
            )
        time.sleep(0.1)


def _lock(path: Path) -> IO[str] | None:
    """The file, locked; None when another process has it. OSError where there are no locks."""
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no flock")
    file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - held open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in _NO_LOCKS:
            raise
        return None
    return file
