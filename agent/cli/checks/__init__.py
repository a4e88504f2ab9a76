"""What `warren check` looks at: named checks, each with what to do (docs/checks.md has them all)."""

from agent.cli.checks import chain, cluster, host, kernel, parts
from agent.cli.checks.check import Check

CHECKS: tuple[Check, ...] = (*kernel.CHECKS, *host.CHECKS, *chain.CHECKS, *parts.CHECKS, *cluster.CHECKS)
