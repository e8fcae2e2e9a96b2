"""The command line: `shardy`. Commands live in cli_compute, cli_lists and cli_local.

Exit codes: 0 done, 1 the job or worker failed, 2 wrong usage or input, 3 the mesh cannot be reached, 4 it refused.
"""

from __future__ import annotations

import typer

from shardy_client import cli_compute, cli_lists, cli_local

app = typer.Typer(
    name="shardy",
    help="Exact matrix products on a mesh of browsers and native workers, where every result is checked.\n\n"
    "Start a mesh with `shardy up`, give it devices with `shardy worker` or by opening its page in a browser,"
    " and multiply with `shardy matmul A.npy B.npy -o C.npy`.\n\n"
    "Exit codes: 0 done, 1 the job failed, 2 wrong usage or input, 3 mesh not reached, 4 mesh refused.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PANELS = {
    "Run": (cli_local.up, cli_local.worker, cli_local.doctor, cli_local.rebuild),
    "Compute": (cli_compute.matmul, cli_compute.stream),
    "Look": (cli_lists.jobs, cli_lists.job, cli_lists.cancel, cli_lists.workers, cli_lists.frauds, cli_lists.dlq),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
