"""`shardy matmul` and `shardy stream`: .npy files in, .npy files out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from shardy_client.arrays import PreExec
from shardy_client.cli_common import URL, AsJson, Key, Url, command, err, number, print_json, progress_bar, with_mesh
from shardy_client.errors import InvalidInput
from shardy_client.jobs import AsyncJob
from shardy_client.mesh import AsyncMesh

Lo = Annotated[float | None, typer.Option("--lo", help="Lower clamp bound (float32 operands).", show_default=False)]
Hi = Annotated[float | None, typer.Option("--hi", help="Upper clamp bound (float32 operands).", show_default=False)]
EmaAxis = Annotated[int, typer.Option("--ema-axis", help="Smooth: -1 not at all, 0 down the rows, 1 along each row.")]
Alpha = Annotated[float, typer.Option("--alpha", help="Weight of the new value when smoothing, over 0 to 1.")]
SegmentRows = Annotated[int, typer.Option("--segment-rows", help="Rows a device smooths at a time (axis 0).")]
Scale = Annotated[str, typer.Option("--scale", help="Quantise by each 'row' or by the bounds ('tensor').")]
Redundancy = Annotated[int, typer.Option("--redundancy", help="How many devices must agree on each result.")]
Label = Annotated[str, typer.Option("--label", help="Free text shown in lists.")]
TaskRows = Annotated[int | None, typer.Option("--task-rows", help="Rows of a task; else the mesh chooses.")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Give up waiting after so many seconds.")]
Detach = Annotated[bool, typer.Option("--detach", help="Print the job's id and don't wait for it.")]


def load(path: Path) -> NDArray[Any]:
    """The array of a .npy file, mapped rather than read."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError) as error:
        raise InvalidInput(f"{path} is no .npy file of numbers: {error}") from None
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{path} holds several arrays; save the one to use with numpy.save")
    return array


def pre_of(lo: float | None, hi: float | None, **more: Any) -> PreExec | None:
    """PreExec of the options, or None when no bound is given."""
    if lo is None and hi is None:
        return None
    if lo is None or hi is None:
        raise InvalidInput("give both clamp bounds, --lo and --hi")
    return PreExec(lo, hi, **more)


def writable(path: Path) -> Path:
    """`path`, if a file can be put there: better known before the work than after."""
    if path.is_dir() or not (path.parent or Path()).is_dir():
        raise InvalidInput(f"cannot write {path}: {'it is a folder' if path.is_dir() else 'its folder does not exist'}")
    return path


async def _finish(
    job: AsyncJob, saves: dict[str, Path], text: str, timeout: float | None, as_json: bool, ops: float
) -> None:
    started = time.perf_counter()
    with progress_bar(text, quiet=as_json) as show:
        await job.wait(show, timeout)
    took = time.perf_counter() - started
    for part, path in saves.items():
        await job.save(path, part)
    if as_json:
        print_json(job.last)
        return
    for fraud in job.last.get("frauds") or ():
        err.print(f"caught: {fraud.get('name')} sent a wrong result for {fraud.get('task')} ({fraud.get('method')})")
    rate = f", {number(ops / took)} operations a second" if ops else ""
    err.print(f"wrote {', '.join(map(str, saves.values()))} ({took:.2f} s{rate}; job {job.id})", highlight=False)


@command
def matmul(
    a: Annotated[Path, typer.Argument(help="A: m×k, int8 or float32, as .npy.")],
    b: Annotated[Path, typer.Argument(help="B: k×n, of the same type.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the product goes (.npy).")],
    policy: Annotated[
        str,
        typer.Option(help="'quorum': devices must agree; 'audit': one device, and a Freivalds check of its result."),
    ] = "quorum",
    redundancy: Redundancy = 2,
    audit_rounds: Annotated[int, typer.Option(help="Rounds of the Freivalds check; each misses once in 2³¹.")] = 2,
    b_layout: Annotated[str, typer.Option(help="'kn': B is k×n; 'nk': B is stored transposed, n×k.")] = "kn",
    part: Annotated[str | None, typer.Option(help="float32: d (dequantised), c (exact integers) or a scale.")] = None,
    lo: Lo = None,
    hi: Hi = None,
    ema_axis: EmaAxis = -1,
    alpha: Alpha = 1.0,
    segment_rows: SegmentRows = 4096,
    scale: Scale = "row",
    label: Label = "",
    task_rows: TaskRows = None,
    timeout: Timeout = None,
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """Multiply two matrices on the mesh: C = A·B, exactly, every result checked.

    int8 files give the exact int32 product. float32 files are clamped to [--lo, --hi], quantised to int8 row by row,
    multiplied exactly, and given back as float32.

    Example: shardy matmul A.npy B.npy -o C.npy --policy audit
    """
    left, right = load(a), load(b)
    pre = pre_of(lo, hi, ema_axis=ema_axis, alpha=alpha, segment_rows=segment_rows, scale=scale)
    if part not in (None, "c", "d", "a_scale", "b_scale") or (part not in (None, "c") and pre is None):
        raise InvalidInput(f"--part is {part!r}; int8 products have c, float32 ones c, d, a_scale and b_scale")
    target = writable(output)

    async def do(mesh: AsyncMesh) -> None:
        job = await mesh.submit_matmul(
            left,
            right,
            policy=policy,
            redundancy=redundancy,
            audit_rounds=audit_rounds,
            pre=pre,
            b_layout=b_layout,
            label=label,
            task_rows=task_rows,
        )
        if detach:
            print_json(job.last) if as_json else typer.echo(job.id)
            return
        chosen = part or ("c" if pre is None else "d")
        cols = right.shape[1 if b_layout == "kn" else 0]
        ops = 2.0 * left.shape[0] * left.shape[1] * cols
        await _finish(job, {chosen: target}, f"{left.shape[0]}×{left.shape[1]}×{cols}", timeout, as_json, ops)

    with_mesh(url, key, do)


@command
def stream(
    x: Annotated[Path, typer.Argument(help="X: float32 rows×columns, as .npy.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the int8 values go (.npy).")],
    lo: Annotated[float, typer.Option("--lo", help="Lower clamp bound; NaN becomes this.")],
    hi: Annotated[float, typer.Option("--hi", help="Upper clamp bound.")],
    scales: Annotated[Path | None, typer.Option("--scales", help="Where the row scales go (.npy).")] = None,
    ema_axis: EmaAxis = -1,
    alpha: Alpha = 1.0,
    segment_rows: SegmentRows = 4096,
    scale: Scale = "row",
    redundancy: Redundancy = 2,
    label: Label = "",
    task_rows: TaskRows = None,
    timeout: Timeout = None,
    detach: Detach = False,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """Clamp, smooth and quantise a float32 matrix on the mesh, to the same bytes on every device.

    Example: shardy stream X.npy -o Q.npy --scales S.npy --lo -3 --hi 3 --ema-axis 0 --alpha 0.1
    """
    rows = load(x)
    pre = PreExec(lo, hi, ema_axis=ema_axis, alpha=alpha, segment_rows=segment_rows, scale=scale)
    saves = {"q": writable(output)}
    if scales is not None:
        saves["scale"] = writable(scales)

    async def do(mesh: AsyncMesh) -> None:
        job = await mesh.submit_stream(rows, pre, redundancy=redundancy, label=label, task_rows=task_rows)
        if detach:
            print_json(job.last) if as_json else typer.echo(job.id)
            return
        await _finish(job, saves, f"{rows.shape[0]}×{rows.shape[1]}", timeout, as_json, 0)

    with_mesh(url, key, do)
