"""Run a server: `python -m tests.support.kubernetes --dir DIR`. SIGTERM ends it."""

import argparse
import asyncio
import signal
from pathlib import Path

from tests.support.kubernetes.server import Server


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.kubernetes", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="for data, certificates and kubeconfig")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 for a free one")
    parser.add_argument("--audit-log", type=Path, help="gets one JSON line for each request")
    parser.add_argument("--min-token-ttl", default="600s", help="shortest time that a token can be asked for")
    asyncio.run(_run(parser.parse_args()))


async def _run(options: argparse.Namespace) -> None:
    shortest = int(options.min_token_ttl.removesuffix("s"))
    server = Server(options.dir, port=options.port, audit_log=options.audit_log, shortest_token=shortest)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    kubeconfig = await server.start()
    print(f"ready: {kubeconfig}", flush=True)
    await ended.wait()
    await server.close()


main()
