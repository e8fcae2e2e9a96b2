"""The command line: `shardy`. Commands live in cli_compute, cli_jobs, cli_mesh, cli_operate, cli_verifiers,
cli_ceremony, cli_verify, cli_local, cli_log, cli_care."""

from __future__ import annotations

import typer

from shardy_client import (
    cli_care,
    cli_ceremony,
    cli_completion,
    cli_compute,
    cli_jobs,
    cli_local,
    cli_log,
    cli_mesh,
    cli_operate,
    cli_verifiers,
    cli_verify,
)
from shardy_client.cli_common import OneLineErrors

EXIT_CODES = (
    "0 done, 1 the job, worker or check failed, 2 wrong usage or input, 3 mesh not reached, 4 mesh refused,"
    " 130 interrupted"
)

cli_completion.mend()
app = typer.Typer(
    name="shardy",
    cls=OneLineErrors,
    help="Exact matrix products on a mesh of browsers and native workers, where every result is checked.\n\n"
    "Start a mesh with `shardy up`, give it devices with `shardy worker` or by opening its page in a browser,"
    " and multiply with `shardy matmul A.npy B.npy -o C.npy`.\n\n"
    f"Exit codes: {EXIT_CODES}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PANELS = {
    "Run": (cli_local.up, cli_local.worker, cli_local.doctor, cli_local.rebuild, cli_completion.completion),
    "Compute": (cli_compute.matmul, cli_compute.stream),
    "Look": (cli_jobs.jobs, cli_jobs.job, cli_jobs.cancel, cli_mesh.workers, cli_mesh.frauds, cli_mesh.credit),
    "Prove": (cli_jobs.receipt, cli_verify.verify),
    "Operate": (cli_care.backup, cli_care.restore, cli_care.blobs),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(cli_log.log, name="log", rich_help_panel="Operate")
app.add_typer(cli_operate.dlq, name="dlq", rich_help_panel="Operate")
app.add_typer(cli_operate.keys, name="keys", rich_help_panel="Operate")
app.add_typer(cli_ceremony.ceremony, name="ceremony", rich_help_panel="Operate")
app.add_typer(cli_verifiers.verifiers, name="verifiers", rich_help_panel="Operate")


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
