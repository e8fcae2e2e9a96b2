"""Progress on standard error: bars with rate and time left on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from shardy_client.cli_common import err, number
from shardy_client.jobs import OnProgress
from shardy_client.progress import Progress as JobProgress
from shardy_client.upload import Transfer


class _Rate(ProgressColumn):
    """Elements or bytes a second."""

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(f"{number(rate)}{task.fields['unit']}/s" if rate else "", style="cyan")


class Bars:
    """Uploads, a job, and downloads, each with a bar of its own as it comes up."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said = ""

    def __enter__(self) -> Bars:
        if not self._quiet and err.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[state]}"),
            )
            self._bars = Progress(*columns, console=err)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def upload(self, now: Transfer) -> None:
        """To be given as on_transfer of what sends."""
        self._show(f"sending {now.name}", now.bytes_done, now.bytes_total, "B")

    def download(self, now: Transfer) -> None:
        """To be given as on_transfer of what fetches."""
        self._show(f"fetching {now.name}", now.bytes_done, now.bytes_total, "B")

    def held(self, _pause_s: float, why: str) -> None:
        """To be given as on_held of what submits."""
        self.job("asking for the job")(JobProgress("held", 0, 0, 0, 0, 0, why))

    def job(self, text: str) -> OnProgress:
        """To be given to `wait` or `follow`."""

        def show(now: JobProgress) -> None:
            note = f"waiting: {now.waiting_for}" if now.waiting_for else now.state
            if now.frauds:
                note += f", {now.frauds} wrong result{'s' if now.frauds > 1 else ''} caught"
            self._show(text, now.cells_done, now.cells, "", note)
            if self._bars is None and not self._quiet and note != self._said:
                self._said = note
                err.print(f"{text}: {note}", markup=False, highlight=False, soft_wrap=True)

        return show

    def build(self, status: dict[str, Any]) -> None:
        """To be given as on_status of a rebuild: what a replica says of itself (docs/api.md)."""
        build = status.get("build")
        if build:
            self._show(f"{status['service']} {status['instance']}".strip(), build["done"], build["of"], " events")

    def _show(self, text: str, done: int, total: int, unit: str, state: str = "") -> None:
        if self._bars is None:
            return
        if text not in self._tasks:
            more: dict[str, Any] = {"unit": unit, "state": state}
            self._tasks[text] = self._bars.add_task(text, total=None, **more)
        self._bars.update(self._tasks[text], completed=done, total=total or None, state=state)


@contextmanager
def progress_bar(text: str, quiet: bool = False) -> Iterator[OnProgress]:
    """A bar for one job; the callable to give to `wait`."""
    with Bars(quiet) as bars:
        yield bars.job(text)
