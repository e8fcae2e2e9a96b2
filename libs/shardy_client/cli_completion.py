"""`shardy completion`, and the one script of typer's that needs a change."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer
from typer.completion import get_completion_script

from shardy_client import complete
from shardy_client.cli_common import command, one_of

SHELLS = ("bash", "zsh", "fish")
# zsh loads the file when it is first needed, and takes what the file does for the completion: without the last lines,
# the first tab of every session would do nothing.
ZSH = """
#compdef %(prog_name)s

%(complete_func)s() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" %(autocomplete_var)s=complete_zsh %(prog_name)s)
}

if [ "$funcstack[1]" = "_%(prog_name)s" ]; then
  %(complete_func)s "$@"
else
  compdef %(complete_func)s %(prog_name)s
fi
"""


def mend() -> None:
    """Let `--show-completion` and `--install-completion` use the script above."""
    with contextlib.suppress(ImportError, AttributeError):
        from typer import _completion_shared

        _completion_shared._completion_scripts["zsh"] = ZSH


@command
def completion(
    shell: Annotated[
        str,
        typer.Argument(help="bash, zsh or fish.", metavar="SHELL", autocompletion=complete.among(SHELLS)),
    ],
) -> None:
    """Print the script that completes commands, options, files, job ids and more in a shell.

    bash: put `source <(shardy completion bash)` into ~/.bashrc. zsh: the same in ~/.zshrc, behind compinit. fish:
    shardy completion fish > ~/.config/fish/completions/shardy.fish. Or let `shardy --install-completion` do it.
    """
    one_of("the shell", shell, SHELLS)
    typer.echo(get_completion_script(prog_name="shardy", complete_var="_SHARDY_COMPLETE", shell=shell))
