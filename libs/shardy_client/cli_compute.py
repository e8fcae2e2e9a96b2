"""`shardy matmul` and `shardy stream`: matrices in files, results in files."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer

from shardy_client import complete
from shardy_client.arrays import PreExec
from shardy_client.cli_bars import Bars
from shardy_client.cli_common import URL, AsJson, Key, Url, command, err, number, print_json, with_mesh
from shardy_client.errors import InvalidInput
from shardy_client.files import load, split, writable
from shardy_client.jobs import AsyncJob
from shardy_client.mesh import AsyncMesh

Lo = Annotated[float | None, typer.Option("--lo", help="Lower clamp bound (float32 operands).", show_default=False)]
Hi = Annotated[float | None, typer.Option("--hi", help="Upper clamp bound (float32 operands).", show_default=False)]
EmaAxis = Annotated[int, typer.Option("--ema-axis", help="Smooth: -1 not at all, 0 down the rows, 1 along each row.")]
Alpha = Annotated[float, typer.Option("--alpha", help="Weight of the new value when smoothing, over 0 to 1.")]
SegmentRows = Annotated[int, typer.Option("--segment-rows", help="Rows a device smooths at a time (axis 0).")]
Scale = Annotated[
    str,
    typer.Option(
        "--scale",
        help="Quantise by each 'row' or by the bounds ('tensor').",
        autocompletion=complete.among(("row", "tensor")),
    ),
]
Redundancy = Annotated[int, typer.Option("--redundancy", help="How many devices must agree on each result.")]
Label = Annotated[str, typer.Option("--label", help="Free text shown in lists.")]
TaskRows = Annotated[int | None, typer.Option("--task-rows", help="Rows of a task; else the mesh chooses.")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Give up waiting after so many seconds.")]
Detach = Annotated[bool, typer.Option("--detach", help="Print the job's id and don't wait for it.")]
IdempotencyKey = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="Asking again with the same words gives the same job, for a day."),
]
FILE = "FILE"


def pre_of(lo: float | None, hi: float | None, **more: Any) -> PreExec | None:
    """PreExec of the options, or None when no bound is given."""
    if lo is None and hi is None:
        return None
    if lo is None or hi is None:
        raise InvalidInput("give both clamp bounds, --lo and --hi")
    return PreExec(lo, hi, **more)


def target(text: str) -> str:
    """`text`, if a result can be put there: better known before the work than after."""
    path, _ = split(text)
    writable(path)
    if path.suffix not in (".npy", ".safetensors"):
        raise InvalidInput(f"cannot write {path}: results go to .npy or .safetensors files")
    return text


async def _finish(
    job: AsyncJob, saves: dict[str, str], text: str, timeout: float | None, as_json: bool, ops: float
) -> None:
    started = time.perf_counter()
    try:
        with Bars(as_json) as bars:
            await job.wait(None if as_json else bars.job(text), timeout)
            took = time.perf_counter() - started
            for part, path in saves.items():
                await job.save(path, part, bars.download)
    except asyncio.CancelledError:
        err.print(f"job {job.id} goes on: shardy job {job.id} --follow, or shardy cancel {job.id}", highlight=False)
        raise
    if as_json:
        print_json({**job.last, "files": saves})
        return
    for fraud in job.last.get("frauds") or ():
        err.print(f"caught: {fraud.get('name')} sent a wrong result for {fraud.get('task')} ({fraud.get('method')})")
    rate = f", {number(ops / took)} operations a second" if ops else ""
    err.print(f"wrote {', '.join(saves.values())} ({took:.2f} s{rate}; job {job.id})", highlight=False)


@command
def matmul(
    a: Annotated[str, typer.Argument(help="A: m×k, int8 or float32: A.npy, or A.safetensors:NAME.", metavar="A")],
    b: Annotated[str, typer.Argument(help="B: k×n, of the same type.", metavar="B")],
    output: Annotated[
        str,
        typer.Option("-o", "--output", help="Where the product goes: C.npy, or C.safetensors:NAME.", metavar=FILE),
    ],
    policy: Annotated[
        str,
        typer.Option(
            help="'quorum': devices must agree; 'audit': one device, and a Freivalds check of its result; 'adaptive':"
            " as many answers as the devices' records ask for; 'proof': one device, which proves tiles of its result.",
            autocompletion=complete.policies,
        ),
    ] = "quorum",
    redundancy: Redundancy = 2,
    audit_rounds: Annotated[int, typer.Option(help="Rounds of the Freivalds check; each misses once in 2³¹.")] = 2,
    proof_tiles: Annotated[
        int | None, typer.Option(help="Policy proof: how many tiles of each task are proved; 4 unless given.")
    ] = None,
    proof_circuit: Annotated[
        str | None,
        typer.Option(
            help="Policy proof: the circuit; else the one that costs least.", autocompletion=complete.circuits
        ),
    ] = None,
    b_layout: Annotated[
        str,
        typer.Option(
            help="'kn': B is k×n; 'nk': B is stored transposed, n×k.", autocompletion=complete.among(("kn", "nk"))
        ),
    ] = "kn",
    part: Annotated[
        str | None,
        typer.Option(
            help="float32: d (dequantised), c (exact integers) or a scale.",
            autocompletion=complete.among(("d", "c", "a_scale", "b_scale")),
        ),
    ] = None,
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
    idempotency_key: IdempotencyKey = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """Multiply two matrices on the mesh: C = A·B, exactly, every result checked.

    int8 files give the exact int32 product. float32 files are clamped to [--lo, --hi], quantised to int8 row by row,
    multiplied exactly, and given back as float32.

    JSON: the job's status, and files {part: FILE} once they are written.

    Example: shardy matmul A.npy model.safetensors:head.weight -o C.npy --policy audit
    """
    left, right = load(a), load(b)
    pre = pre_of(lo, hi, ema_axis=ema_axis, alpha=alpha, segment_rows=segment_rows, scale=scale)
    if part not in (None, "c", "d", "a_scale", "b_scale") or (part not in (None, "c") and pre is None):
        raise InvalidInput(f"--part is {part!r}; int8 products have c, float32 ones c, d, a_scale and b_scale")
    saved = target(output)

    async def do(mesh: AsyncMesh) -> None:
        with Bars(as_json) as bars:
            job = await mesh.submit_matmul(
                left,
                right,
                policy=policy,
                redundancy=redundancy,
                audit_rounds=audit_rounds,
                proof_tiles=proof_tiles,
                proof_circuit=proof_circuit,
                pre=pre,
                b_layout=b_layout,
                label=label,
                task_rows=task_rows,
                idempotency_key=idempotency_key,
                on_transfer=bars.upload,
                on_held=bars.held,
            )
        if detach:
            print_json(job.last) if as_json else typer.echo(job.id)
            return
        chosen = part or ("c" if pre is None else "d")
        cols = right.shape[1 if b_layout == "kn" else 0]
        ops = 2.0 * left.shape[0] * left.shape[1] * cols
        await _finish(job, {chosen: saved}, f"{left.shape[0]}×{left.shape[1]}×{cols}", timeout, as_json, ops)

    with_mesh(url, key, do)


@command
def stream(
    x: Annotated[str, typer.Argument(help="X: float32 rows×columns: X.npy, or X.safetensors:NAME.", metavar="X")],
    output: Annotated[str, typer.Option("-o", "--output", help="Where the int8 values go.", metavar=FILE)],
    lo: Annotated[float, typer.Option("--lo", help="Lower clamp bound; NaN becomes this.")],
    hi: Annotated[float, typer.Option("--hi", help="Upper clamp bound.")],
    scales: Annotated[str | None, typer.Option("--scales", help="Where the row scales go.", metavar=FILE)] = None,
    ema_axis: EmaAxis = -1,
    alpha: Alpha = 1.0,
    segment_rows: SegmentRows = 4096,
    scale: Scale = "row",
    redundancy: Redundancy = 2,
    label: Label = "",
    task_rows: TaskRows = None,
    timeout: Timeout = None,
    detach: Detach = False,
    idempotency_key: IdempotencyKey = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """Clamp, smooth and quantise a float32 matrix on the mesh, to the same bytes on every device.

    JSON: the job's status, and files {part: FILE} once they are written.

    Example: shardy stream X.npy -o Q.npy --scales S.npy --lo -3 --hi 3 --ema-axis 0 --alpha 0.1
    """
    rows = load(x)
    pre = PreExec(lo, hi, ema_axis=ema_axis, alpha=alpha, segment_rows=segment_rows, scale=scale)
    saves = {"q": target(output)}
    if scales is not None:
        saves["scale"] = target(scales)

    async def do(mesh: AsyncMesh) -> None:
        with Bars(as_json) as bars:
            job = await mesh.submit_stream(
                rows,
                pre,
                redundancy=redundancy,
                label=label,
                task_rows=task_rows,
                idempotency_key=idempotency_key,
                on_transfer=bars.upload,
                on_held=bars.held,
            )
        if detach:
            print_json(job.last) if as_json else typer.echo(job.id)
            return
        await _finish(job, saves, f"{rows.shape[0]}×{rows.shape[1]}", timeout, as_json, 0)

    with_mesh(url, key, do)
