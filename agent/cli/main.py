"""`warren`: finds the command, and turns every failure into lines that a person can act on.

Exit codes: 0 done, 1 failed, 2 bad usage or settings, 130 interrupted.
"""

import importlib
import sys
from pathlib import Path

import click

from agent.errors import explain

# The text is here and not taken from the command, so that `warren --help` imports no command.
COMMANDS = {
    "agent": "Run a node's agent: redirection, pods and configuration for the tunnel.",
    "tunnel": "Run a node's tunnel: the bytes, inside mutual TLS.",
    "gateway": "Run a gateway: what comes from outside of the mesh, by Istio's or the Gateway API's objects.",
    "gateway-agent": "Serve configuration to the gateway of this pod, beside it.",
    "cni": "Put the CNI plugin on this node, or take it away.",
    "ca": "Run the certificate authority.",
    "discovery": "Serve the mesh's configuration to the agents of all nodes.",
    "reporter": "Write into objects' status why they are not in force.",
    "lab": "Build a mesh out of network namespaces on this machine.",
    "check": "Say whether agent, tunnel, CA, certificates, objects and kernel of this node are well.",
    "status": "Show this node in one screen.",
    "why": "Say what becomes of a connection or request, and why; or try it.",
    "pods": "List this node's pods: captured or not, and why.",
    "workloads": "List the workloads of the mesh.",
    "services": "List services with their ports and endpoints.",
    "policies": "List policies, and how often each has decided.",
    "certs": "List the certificates of this node's identities.",
    "connections": "List open connections: who, by which path, how much.",
    "flows": "Show connections and requests that ended or were refused, and why.",
    "trace": "Show connects, resets, retransmits and drops of a pod, by the kernel.",
    "capture": "Write a pod's packets to a file for Wireshark, with identities.",
    "dashboard": "Print the link to the live map: who talks to whom, how well, and what protects it.",
    "top": "Show who is busy, by service, workload or connection.",
    "cost": "Show what the mesh takes of this node's CPUs, and for which pods.",
    "analyze": "Say what is wrong with manifests or what is in force; for CI.",
    "config": "Compare the configuration at source, agent, tunnel and kernel.",
    "log": "Show or change what agent and tunnel log, while they run.",
    "authz": "Say who may talk to whom on this node, and why.",
    "routes": "Say what happens to requests that pods of this node send, and why.",
    "bug-report": "Write all that this node says into one archive, without secrets.",
    "completion": "Print what a shell needs to complete commands.",
    "crds": "Print the definitions of Istio's kinds, for clusters without Istio.",
}
_AT_HOME = {
    "agent",
    "tunnel",
    "gateway",
    "gateway-agent",
    "cni",
    "ca",
    "reporter",
    "lab",
    "crds",
    "completion",
}


class _Commands(click.Group):
    """Imports a command when it is called: a tunnel should not pay for the agent's libraries."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = _imported(cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Here, or on another node: there the command is looked for, too."""
        node, namespace = ctx.params["node"], ctx.params["namespace"]
        if node is None and namespace is None:
            return super().invoke(ctx)
        words = [*ctx._protected_args, *ctx.args]
        if words[0] in _AT_HOME:
            raise click.UsageError(f"{words[0]} is run where it is needed: without --node and -n", ctx)
        from agent.cli.remote import remote  # noqa: PLC0415

        given = ctx.params
        return remote(words, node, namespace or "default", given["system_namespace"], given["kubeconfig"])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _imported(name: str) -> object:
    return getattr(importlib.import_module(f"agent.cli.{name}"), name)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="warren-mesh", prog_name="warren")
@click.option("--node", metavar="NODE", help="do COMMAND on that node, through the API server (pods/exec)")
@click.option("-n", "--namespace", metavar="NS", help="... on that of a workload of NS: why deploy/a svc/b")
@click.option("--system-namespace", default="warren-system", show_default=True, help="where the agents are")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="[default: kubectl's]")
def warren(**_: object) -> None:
    """A service mesh without sidecars."""


def main() -> None:
    """The `warren` program. Ends the process; no traceback is ever shown."""
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run one command line and give its exit code."""
    try:
        result = warren.main(args, prog_name="warren", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        help_wanted.show()
        return 2
    except click.ClickException as error:
        _complain(error.format_message(), error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # `warren ... | head`: nobody is left to be told
        sys.stderr.close()
        return 1
    except Exception as error:
        _complain(explain(error), error)
        return int(getattr(error, "exit_code", 1))


def _complain(text: str, error: Exception) -> None:
    ctx = getattr(error, "ctx", None)
    who = ctx.command_path if ctx else "warren"
    for line in getattr(error, "lines", None) or text.splitlines() or [type(error).__name__]:
        click.echo(f"{who}: {line}", err=True)


if __name__ == "__main__":
    main()
