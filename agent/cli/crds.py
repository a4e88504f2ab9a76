"""`warren crds`: the definitions of the kinds that Warren acts on, for clusters without Istio."""

import click
import yaml

from agent.cli.command import Command


@click.command(cls=Command)
def crds() -> None:
    """Print CustomResourceDefinitions for clusters without Istio: warren crds | kubectl apply -f -

    Where Istio is installed, its own are there already: leave those.
    """
    from agent.model.openapi import definitions  # noqa: PLC0415

    click.echo(yaml.safe_dump_all(definitions(), sort_keys=False), nl=False)
