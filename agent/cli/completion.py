"""`warren completion`: what a shell needs to complete commands and options."""

import click
from click.shell_completion import get_completion_class

from agent.cli.command import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes warren's commands and options in a shell.

    \b
    Examples:
      source <(warren completion bash)
      warren completion zsh > ~/.zfunc/_warren
      warren completion fish > ~/.config/fish/completions/warren.fish
    """
    found = get_completion_class(shell)
    assert found
    click.echo(found(ctx.find_root().command, {}, "warren", "_WARREN_COMPLETE").source())
