"""`python -m shardy_client.demo`: words nearest to words, computed by a mesh on this machine with a liar in it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from shardy_client import cli_bars, cli_common
from shardy_client.demo import show, words
from shardy_client.demo.children import Children
from shardy_client.doctor import adapter, find_chromium
from shardy_client.errors import InvalidInput, ShardyError
from shardy_client.mesh import AsyncMesh
from shardy_client.worker.prepare import BACKENDS

BATCH_ROWS = 2048
JOIN_S = 60.0
JOB_S = 300.0
LIAR = "liar"

console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=110)


@dataclass(slots=True)
class Outcome:
    """What the demonstration claims, and whether it held."""

    exact: list[bool] = field(default_factory=list)
    frauds: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """What did not hold; empty when all of it did."""
        problems = [f"{name} did not join" for name in self.missing]
        if not self.exact or not all(self.exact):
            problems.append("a product differs from NumPy's")
        if not any(_is(fraud, LIAR) for fraud in self.frauds):
            problems.append("the liar was not caught")
        problems += [f"{show.own_name(f)} was accused, and is no liar" for f in self.frauds if not _is(f, LIAR)]
        return problems


def _is(entry: dict[str, Any], name: str) -> bool:
    """Whether a worker or a fraud is of the one called `name`: an agent is program/version and name."""
    return show.own_name(entry) == name


async def _joined(mesh: AsyncMesh, names: list[str]) -> list[str]:
    """Wait for the workers; the names of those that did not come in time."""
    deadline = time.monotonic() + JOIN_S
    while True:
        present = [w for w in (await mesh.listing("workers"))["workers"] if w["present"] and w["tier"]]
        missing = [name for name in names if not any(_is(worker, name) for worker in present)]
        if not missing or time.monotonic() > deadline:
            return missing
        await asyncio.sleep(0.1)


async def _work(mesh: AsyncMesh, table: words.Table, chosen: list[str], outcome: Outcome) -> None:
    rows = words.rows_of(chosen, table.tokens)
    stored = await mesh.put(table.q, name="the embedding table")
    jobs = []
    frequent = [row for row, token in enumerate(table.tokens) if words.is_word(token)][:BATCH_ROWS]
    for text, wanted, policy in (("words", rows, "quorum"), ("a batch", frequent, "audit")):
        a = np.ascontiguousarray(table.q[wanted])
        started = time.perf_counter()
        job = await mesh.submit_matmul(a, stored, policy=policy, label=f"demo: {text}")
        name = f"{text}: {a.shape[0]:,}×{a.shape[1]} by {stored.rows:,}×{stored.cols} ({policy})"
        with cli_bars.progress_bar(name) as progress:
            await job.wait(progress, JOB_S)
        c = await job.result("c")
        seconds = time.perf_counter() - started
        exact = np.array_equal(c, await asyncio.to_thread(words.expected, a, table.q))
        outcome.exact.append(exact)
        show.timing(console, name, seconds, 2.0 * a.size * stored.rows, exact)
        if wanted is rows:
            show.nearest(console, chosen, words.neighbours(table, rows, c))
        jobs.append(job)
    console.print("NumPy's product was taken in float64: exact here, as every sum stays under 2⁵³.")
    tasks = [task for job in jobs for task in (await mesh.tasks(job.id, 10_000))["tasks"]]
    outcome.frauds = (await mesh.listing("frauds"))["frauds"]
    show.computed(console, (await mesh.listing("workers"))["workers"], tasks)
    show.caught(console, outcome.frauds)


@dataclass(slots=True, frozen=True)
class Wishes:
    """What the user asked for. backend: auto, wasm or gpu."""

    words: list[str]
    browser: bool
    natives: int
    backend: str


async def _demonstrate(folder: Path, wishes: Wishes) -> Outcome:
    from shardy_common.stack import Stack

    outcome = Outcome()
    started = time.perf_counter()
    words.rows_of(wishes.words, words.vocabulary())
    chromium = find_chromium() if wishes.browser else None
    loading = asyncio.create_task(asyncio.to_thread(words.load))
    asking = asyncio.create_task(asyncio.to_thread(_backend, wishes.backend))
    async with Stack(folder / "mesh", allow_same_address=True) as stack, Children(folder) as children:
        console.print(f"mesh: {stack.url} ({time.perf_counter() - started:.1f} s)")
        backend = await asking
        names = [f"native-{i + 1}" for i in range(wishes.natives)]
        tabs = ["tab-1", "tab-2"] if chromium is not None else []
        for name in names:
            await children.native(stack.url, name, backend)
        await children.liar(stack.url, LIAR)
        if chromium is not None:
            await children.tabs(chromium, stack.page_url, tabs, "webgpu" if backend == "gpu" else backend)
        elif wishes.browser:
            console.print("no Chromium was found (shardy doctor says how to get it): going on without browser tabs")
        async with AsyncMesh(stack.url, stack.api_key) as mesh:
            with console.status("workers check and measure their devices…"):
                outcome.missing = await _joined(mesh, [*names, LIAR, *tabs])
            joined = [name for name in (*names, *tabs, LIAR) if name not in outcome.missing]
            console.print(f"joined: {', '.join(joined)} ({time.perf_counter() - started:.1f} s)")
            await _work(mesh, await loading, wishes.words, outcome)
    console.print(f"everything was stopped ({time.perf_counter() - started:.1f} s in all)")
    return outcome


def _backend(choice: str) -> str:
    """`auto` only where there is graphics hardware: trying every kernel on an adapter in software takes a minute."""
    if choice != "auto":
        return choice
    found = adapter()
    return "auto" if found is not None and found[1] else "wasm"


async def _main(folder: Path, wishes: Wishes) -> Outcome:
    task = asyncio.current_task()
    assert task is not None
    if sys.platform != "win32":
        # As Ctrl-C does: everything that was started is stopped on the way out.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await _demonstrate(folder, wishes)


@cli_common.command
def main(
    words_: Annotated[
        str, typer.Option("--words", help="Words to look up, separated by commas.", metavar="A,B,C")
    ] = words.DEFAULT_WORDS,
    browser: Annotated[bool, typer.Option(help="Let two headless Chromium tabs join, if Chromium is found.")] = True,
    natives: Annotated[int, typer.Option(min=1, max=16, help="How many native workers join.")] = 2,
    backend: Annotated[
        str, typer.Option(help="'gpu', 'wasm' (CPU), or 'auto': try the adapter where it is hardware.")
    ] = "auto",
) -> None:
    """Find the words nearest to words on a mesh on this machine, in which one worker cheats and is caught.

    Exit code 0 only if every byte was right and the liar, and nobody else, was caught.
    """
    from shardy_common.stack import StackError

    chosen = [word.strip().lower() for word in words_.split(",") if word.strip()]
    if not chosen:
        raise InvalidInput("--words names no word")
    if backend not in BACKENDS:
        raise InvalidInput(f"--backend is {backend!r}; choose one of {', '.join(BACKENDS)}")
    folder = Path(tempfile.mkdtemp(prefix="shardy-demo-"))
    held = False
    try:
        outcome = asyncio.run(_main(folder, Wishes(list(dict.fromkeys(chosen)), browser, natives, backend)))
        problems = outcome.problems()
        held = not problems
    except InvalidInput:
        held = True
        raise
    except StackError as error:
        raise ShardyError(str(error)) from None
    except (asyncio.CancelledError, KeyboardInterrupt):
        held = True
        raise KeyboardInterrupt from None
    finally:
        if held:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            console.print(f"logs were kept in {folder}")
    if problems:
        raise ShardyError("; ".join(problems))
    console.print("[bold green]The answer is right, and the liar was caught.[/]")


if __name__ == "__main__":
    typer.run(main)
