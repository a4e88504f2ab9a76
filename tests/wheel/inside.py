"""Run by the root's Python: an agent from its start to its end, and what is said of it meanwhile, as JSON."""

import json
import subprocess
import sys
from pathlib import Path

GROUP, BPFFS, RUN = Path("/sys/fs/cgroup/node"), Path("/sys/fs/bpf/warren"), Path("/run/warren")


def main() -> None:
    manifests = Path("/etc/manifests")
    for folder in (GROUP, manifests):
        folder.mkdir(exist_ok=True)
    options = ["--source", f"dir:{manifests}", "--node", "node1"]
    places = ["--run-dir", RUN, "--cgroup", GROUP, "--bpffs", BPFFS]
    command = ["warren", "agent", *options, *map(str, places)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as agent:
        assert agent.stderr
        said = []
        for line in agent.stderr:
            said.append(line)
            if "ready:" in line:
                break
        pinned = sorted(path.name for path in BPFFS.iterdir()) if BPFFS.exists() else []
        checked = subprocess.run(
            ["warren", "check", "-v", "--json"], capture_output=True, text=True, check=False
        )
        agent.terminate()
        said += agent.stderr
    told = {"code": agent.returncode, "said": said, "pinned": pinned, "check": checked.stdout}
    json.dump({**told, "complaints": checked.stderr}, sys.stdout)


if __name__ == "__main__":
    main()
