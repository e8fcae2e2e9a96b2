"""Commands that run something on this machine: worker, up, rebuild, doctor, completion."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from shardy_client import complete
from shardy_client import doctor as checks
from shardy_client.cli_bars import Bars
from shardy_client.cli_common import URL, AsJson, DataDir, Url, command, err, out, print_json
from shardy_client.errors import InvalidInput, MeshUnreachable, ShardyError
from shardy_client.transport import gateways


@command
def worker(
    url: Url = URL,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            help="File with this worker's identity, made if missing. Workers on one machine need one each.",
            show_default="in your user data folder",
        ),
    ] = None,
    ephemeral: Annotated[bool, typer.Option(help="Use an identity that is gone afterwards; writes no file.")] = False,
    name: Annotated[str, typer.Option(help="Name shown in lists.")] = "",
    backend: Annotated[
        str,
        typer.Option(
            help="'wasm' (CPU), 'gpu', or 'auto': the faster of the two, measured.",
            autocompletion=complete.among(("auto", "wasm", "gpu")),
        ),
    ] = "auto",
    threads: Annotated[int, typer.Option(help="Products computed at the same time.")] = 1,
    memory_mib: Annotated[
        int | None, typer.Option(help="Most memory to use, in MiB.", show_default="half of what is free")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong.")] = False,
    as_json: AsJson = False,
) -> None:
    """Join a mesh and compute for it until Ctrl-C.

    The worker checks its devices, measures them, and joins with its own key. Ctrl-C gives unfinished work back.
    Of several gateways it joins the first that answers.

    JSON, once it has left: worker, outcomes {outcome: count}.
    """
    from shardy_client.worker.native import NativeWorker, run_worker

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("shardy").setLevel(logging.WARNING if quiet else logging.INFO)
    place = _answering(url)
    made: list[NativeWorker] = []

    def make() -> NativeWorker:
        made.append(
            NativeWorker(
                place,
                key,
                ephemeral=ephemeral,
                backend=backend,
                name=name,
                threads=threads,
                memory_mib=memory_mib,
            )
        )
        if not quiet:
            err.print(f"worker {made[0].worker_id}", highlight=False)
        return made[0]

    run_worker(make)
    if as_json and made:
        outcomes = {str(name): count for name, count in made[0].state.counters.outcomes.items()}
        print_json({"worker": made[0].worker_id, "outcomes": outcomes})
    elif not quiet and made:
        counters = made[0].state.counters
        err.print(f"left the mesh; {counters.outcomes['accepted']} results were accepted", highlight=False)


def _answering(url: str) -> str:
    """Of several gateways, the first that answers, or the first."""
    if "," not in url:
        return url
    import httpx

    for gateway in gateways(url):
        try:
            if httpx.get(f"{gateway}/healthz", timeout=3).status_code == 200:
                return gateway
        except httpx.HTTPError:
            continue
    return gateways(url)[0]


@command
def up(
    data_dir: DataDir = Path(".data"),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines join.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the API and the worker page.")] = 8765,
    demo: Annotated[
        bool, typer.Option("--demo", help="Let devices behind one address check each other: one machine only.")
    ] = False,
    development: Annotated[
        bool,
        typer.Option(
            "--development", help="Take development keys of proofs, which anybody can forge under: trials only."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole mesh on this machine until Ctrl-C: log, services, API and worker page.

    The first start makes two keys and shows them once: one to submit jobs, one to operate the mesh. They are kept in
    the data folder, where commands of this folder find them.

    JSON, when it is up: url, page, data_dir, api_key_file, operator_key_file, mesh_key.
    """
    if not 0 <= port <= 65_535:
        raise InvalidInput(f"--port is {port}; 0 to 65535 are possible")
    stack = _stack()
    from shardy_common import up

    try:
        up.up_command(data_dir, host, port, demo, as_json, development)
    except (stack.StackError, OSError) as error:
        raise ShardyError(str(error)) from None


@command
def rebuild(
    service: Annotated[
        str,
        typer.Argument(help="Which service: gateway, matchmaker, quorum, …", autocompletion=complete.services),
    ],
    data_dir: DataDir = Path(".data"),
    as_json: AsJson = False,
) -> None:
    """Forget a service's projection and fold it anew from the log, while the mesh runs; each replica in turn.

    JSON: a list with what each replica answers: service, instance, events, seconds, checkpoint, checksum, skipped.
    """
    stack = _stack()
    from shardy_common import rebuild as rebuilding

    try:
        with Bars() as bars:
            answers = rebuilding.rebuild_command(data_dir, service, bars.build)
    except stack.StackError as error:
        raise InvalidInput(str(error)) from None
    except Exception as error:
        # What the message bus raises is as various as what can happen to it.
        raise MeshUnreachable(f"{service} did not answer: {error or type(error).__name__}") from None
    if as_json:
        print_json(answers)
    else:
        for answer in answers:
            out.print(f"{service} was rebuilt: " + _rebuilt(answer), highlight=False, markup=False, soft_wrap=True)


def _rebuilt(answer: dict[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in answer.items() if name != "skipped")
    skipped = [entry["entry"] for entry in answer.get("skipped") or ()]
    return facts + (f"; without what it could not fold: {', '.join(skipped)} (shardy dlq show)" if skipped else "")


def _stack() -> Any:
    try:
        from shardy_common import stack
    except ImportError as error:
        raise ShardyError(f"this installation has no services to run ({error}); install shardy in full") from None
    return stack


@command
def doctor(as_json: AsJson = False, url: Url = URL) -> None:
    """Look for what Shardy can use on this machine, and say how to get what is missing.

    Exit code 1 when something is missing that nothing runs without.

    JSON: a list of name, ok, needed, detail, remedy.
    """
    found = checks.examine(url)
    if as_json:
        print_json([check.to_json() for check in found])
    else:
        for check in found:
            mark = "[green]ok[/]     " if check.ok else "[red]missing[/]" if check.needed else "[yellow]absent[/] "
            out.print(f"{mark}  [bold]{check.name}[/]: ", end="")
            out.print(check.detail, markup=False, highlight=False, soft_wrap=True)
            if not check.ok:
                out.print(f"         {check.remedy}", markup=False, highlight=False, soft_wrap=True)
    if any(check.needed and not check.ok for check in found):
        raise typer.Exit(1)
