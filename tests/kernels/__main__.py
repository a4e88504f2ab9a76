"""Run the redirection's tests on Debian's kernels, emulated: `python -m tests.kernels 5.10 6.1 6.12`.

The machine's files are this machine's, read only. Kernels are Debian's packages, kept in build/kernels.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.archives import archive

REPOSITORY = Path(__file__).parents[2]
BUILD = REPOSITORY / "build" / "kernels"
SUITES = {"5.10": "bullseye-security", "6.1": "bookworm", "6.12": "trixie"}
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "veth", "overlay", "tcp_diag")
NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "depmod": "kmod",
    "modprobe": "kmod",
}
# Emulated, a machine is some 30 times slower: what opens many connections at once is left out.
TESTS = (
    "tests/bpf tests/agent/node/test_datapath.py tests/agent/node/test_routing.py "
    "tests/agent/node/test_cookie.py tests/agent/node/test_features.py tests/agent/node/test_redirect.py "
    "tests/agent/node/test_probes.py tests/agent/node/test_direct.py tests/agent/node/test_audit.py "
    "--color=no -k 'not nothing_is_left and not used_again and not many_short'"
)
MINUTES = 20


def main(versions: list[str]) -> int:
    """Exit code 0 if the tests pass on every version, 1 if not, 2 if something is missing."""
    if unknown := [version for version in versions if version not in SUITES]:
        print(f"{unknown[0]}: choose from {', '.join(SUITES)}", file=sys.stderr)
        return 2
    if absent := sorted({package for program, package in NEEDED.items() if not shutil.which(program)}):
        print(f"missing: apt-get install {' '.join(absent)}", file=sys.stderr)
        return 2
    failed = [version for version in versions or SUITES if not _passes(version)]
    return 1 if failed else 0


def _passes(version: str) -> bool:
    kernel = BUILD / version
    if not kernel.is_dir():
        _fetch(version, kernel)
    command = f"{sys.executable} -m pytest -p no:cacheprovider {TESTS}"
    print(f"Linux {version}:", flush=True)
    output = _boot(kernel, _initramfs(kernel, command))
    print("\n".join(output.splitlines()[-40:]), flush=True)
    return "exit code 0" in output


def _fetch(version: str, kernel: Path) -> None:
    """The newest kernel package of a suite, unpacked."""
    work = BUILD / f"{version}.apt"
    (work / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (work / "list").write_text(f"deb [signed-by={key}] {archive(SUITES[version])} {SUITES[version]} main\n")
    places = {
        "Dir::Etc::sourcelist": work / "list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": work / "lists",
    }
    options = [
        f"-o{name}={place}"
        for name, place in {**places, "Dir::Cache": work, "APT::Sandbox::User": "root"}.items()
    ]
    subprocess.run(["apt-get", *options, "-qq", "update"], check=True)
    found = _output(
        "apt-cache", *options, "search", "--names-only", f"^linux-image-{re.escape(version)}.*-amd64$"
    )
    names = [line.split()[0] for line in found.splitlines()]
    packages = [name for name in names if not re.search("cloud|-rt-|unsigned|dbg", name)]
    newest = max(packages, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    subprocess.run(["apt-get", *options, "-qq", "download", newest], cwd=work, check=True)
    subprocess.run(["dpkg", "-x", next(work.glob(f"{newest}_*.deb")), kernel], check=True)
    if not (kernel / "lib").exists():  # newer packages have it below /usr only
        (kernel / "lib").symlink_to("usr/lib")


def _initramfs(kernel: Path, command: str) -> Path:
    root = BUILD / f"{kernel.name}.root"
    shutil.rmtree(root, ignore_errors=True)
    for directory in ("bin", "modules", "proc", "dev", "host", "over", "new"):
        (root / directory).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin" / "busybox")
    (root / "bin" / "sh").symlink_to("busybox")
    shutil.copy(Path(__file__).with_name("init.sh"), root / "init")
    (root / "init").chmod(0o755)
    (root / "command").write_text(command)
    (root / "repository").write_text(str(REPOSITORY))
    (root / "modules" / "order").write_text(
        "".join(f"{name}\n" for name in _modules(kernel, root / "modules"))
    )
    image = BUILD / f"{kernel.name}.img"
    files = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with image.open("wb") as out:
        subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet"], input=files.encode(), stdout=out, cwd=root, check=True
        )
    return image


def _modules(kernel: Path, into: Path) -> list[str]:
    """Copies the modules that the machine needs; their names in the order in which they load."""
    release = next((kernel / "lib" / "modules").iterdir()).name
    subprocess.run(["depmod", "-b", kernel, release], check=True)
    names: list[str] = []
    for module in MODULES:
        shown = _output("modprobe", "-d", str(kernel), "-S", release, "--show-depends", module)
        for path in (Path(line.split()[1]) for line in shown.splitlines() if line.startswith("insmod")):
            name = path.name.removesuffix(".xz")
            if name not in names:
                names.append(name)
                packed = path.suffix == ".xz"
                data = (
                    subprocess.run(["xz", "-dc", path], capture_output=True, check=True).stdout
                    if packed
                    else path.read_bytes()
                )
                (into / name).write_bytes(data)
    return names


def _boot(kernel: Path, image: Path) -> str:
    machine = shlex.split(
        "qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3G -nographic -no-reboot -nic none "
        "-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
    )
    parameters = "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off"
    vmlinuz = next((kernel / "boot").glob("vmlinuz-*"))
    command = [*machine, "-kernel", str(vmlinuz), "-initrd", str(image), "-append", parameters]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60 * MINUTES,
            check=False,
            env=os.environ,
        )
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode(errors="replace")
        return f"{said}\nnot done after {MINUTES} minutes: a machine that has nothing else to do is faster"
    return done.stdout.decode(errors="replace")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
