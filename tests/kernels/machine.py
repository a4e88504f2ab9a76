"""The emulated machine: a kernel, and the first files, by which this machine's files are readable in it."""

import shlex
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "veth", "overlay", "tcp_diag")
NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "depmod": "kmod",
    "modprobe": "kmod",
}
# thread=multi: a thread for each CPU.
_QEMU = (
    "qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3G -nographic -no-reboot -nic none "
    "-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
)
# no_timer_check: on a machine that is busy an emulated timer is late, and the kernel would do without it.
_PARAMETERS = "console=ttyS0 panic=-1 mitigations=off no_timer_check"


def missing() -> list[str]:
    """Debian's packages that are to be installed."""
    return sorted({package for program, package in NEEDED.items() if not shutil.which(program)})


def machine(kernel: Path, command: str) -> list[str]:
    """How to start one that does `command` in this repository, tells "exit code" and the code, and ends.

    Nothing that it writes stays. kernel: where a package of it is unpacked; its initramfs is put beside it.
    """
    image = _initramfs(kernel, command)
    vmlinuz = str(_vmlinuz(kernel))
    return [*shlex.split(_QEMU), "-kernel", vmlinuz, "-initrd", str(image), "-append", _PARAMETERS]


def _vmlinuz(kernel: Path) -> Path:
    """Beside its modules in Debian's packages of Linux 7.2, in /boot in those before."""
    [found] = (*kernel.glob("boot/vmlinuz-*"), *kernel.glob("lib/modules/*/vmlinuz"))
    return found


def _initramfs(kernel: Path, command: str) -> Path:
    root = kernel.with_name(f"{kernel.name}.root")
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
    image = kernel.with_name(f"{kernel.name}.img")
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
        if not [*kernel.glob(f"lib/modules/{release}/kernel/**/{module}.ko*")]:
            continue  # built in, as a part of virtio is since 7.2, whose packages have no list of what is
        command = ["modprobe", "-d", str(kernel), "-S", release, "--show-depends", module]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
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
