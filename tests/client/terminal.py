"""An interactive shell on a pseudo-terminal: keys in, and the line that they make."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

PATIENCE_S = 60.0
START_OF_LINE, END_OF_LINE = "\x01", "\x05"  # Ctrl-A, Ctrl-E


class Terminal:
    """`argv` with these variables in `folder`; ended with `close`."""

    def __init__(self, argv: list[str], env: dict[str, str], folder: Path) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=folder, start_new_session=True
        )
        os.close(slave)
        self._seen = ""

    def send(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, pattern: str) -> str:
        """Wait until the screen shows this; the first group."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self._seen)) is None:
            assert time.monotonic() < deadline, f"no {pattern!r} in {self._seen[-2000:]!r}"
            if select.select([self._master], [], [], 0.2)[0]:
                self._seen += os.read(self._master, 65_536).decode(errors="replace")
        self._seen = self._seen[found.end() :]
        return found[1]

    def ready(self) -> None:
        """Wait until the shell has read its files and takes lines."""
        self.send("echo 're'ady\r")
        self.until(r"(ready)\r?\n")

    def completed(self, line: str) -> str:
        """What the line is after a tab: the shell is made to echo it instead of running it."""
        self.send(f"{line}\t")
        self.send(f"{START_OF_LINE}echo 'line is' : {END_OF_LINE} :end\r")
        return self.until(r"line is : (.*?) :end\r?\n").strip()

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._master)
