"""A virtual machine with an NVMe disk: QEMU by software emulation, a Debian kernel that is unpacked and never installed, and an initial
RAM disk of busybox and the programs under test. Boots, runs a script, and tells how it ended."""
import gzip
import lzma
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

KERNELS = {"6.12": "linux-image-6.12-amd64", "6.1": "linux-image-amd64"}
MODULES = ("nvme",)
BEGIN = "guest: the script begins"
END = "guest: the end"
EXIT_BASE = 16      # of what the guest writes to QEMU's debug port, so that 0 differs from a panic's exit
EXIT_GOOD = EXIT_BASE << 1 | 1
BOOT_SECONDS = 120
BOOT_ATTEMPTS = 3
XZ_MAGIC = b"\xfd7zXZ\x00"

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /tmp
mount -t tmpfs tmpfs /tmp
ip link set lo up 2>/dev/null
for module in $(cat /modules.txt); do
  parameters=
  [ "$module" = nvme.ko ] && parameters=poll_queues=2
  insmod "/modules/$module" $parameters || echo "guest: no module $module"
done
tries=0
while [ ! -c /dev/ng0n1 ] && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done
echo "%s"
sh /script
result=$?
echo "guest: result $result"
echo "%s"
sync
printf "\\\\$(printf %%o $((result + %d)))" | dd of=/dev/port bs=1 seek=244 count=1 conv=notrunc 2>/dev/null
poweroff -f
""" % (BEGIN, END, EXIT_BASE)


class Unavailable(Exception):
    """What the machine cannot give: packages, the emulator."""


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, capture_output=True, **options).stdout


@dataclass
class Kernel:
    name: str
    image: Path      # uncompressed, for the emulator's direct boot
    modules: list    # paths in the order in which they are to be loaded


def package_of(meta):
    """The concrete package behind a meta package."""
    try:
        depends = run("apt-cache", "depends", meta)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        raise Unavailable(f"apt-cache does not know {meta}: {error}") from error
    found = re.search(r"Depends: (linux-image-[0-9]\S+)", depends)
    if not found:
        raise Unavailable(f"{meta} depends on no kernel here")
    return found.group(1)


def unpack(name, cache):
    """The folder of an unpacked kernel package."""
    package = package_of(KERNELS[name])
    folder = cache / package
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        run("apt-get", "download", package, cwd=folder)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{package} cannot be downloaded: {error.stderr.strip()}") from error
    archive = next(folder.glob("*.deb"))
    run("dpkg", "-x", str(archive), str(folder))
    archive.unlink()
    (folder / "complete").touch()
    return folder


def uncompressed_image(folder):
    """The ELF file inside the kernel's image, which boots some seconds faster."""
    packed = next(folder.glob("boot/vmlinuz-*"))
    image = folder / "vmlinux"
    if image.exists():
        return image
    data = packed.read_bytes()
    at = data.find(XZ_MAGIC)
    if at < 0:
        return packed
    image.write_bytes(lzma.LZMADecompressor().decompress(data[at:]))
    return image


def module_bytes(path):
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def module_order(folder, wanted):
    """The modules and what they depend on, each behind what it needs."""
    files = {}
    for root in ("lib/modules", "usr/lib/modules"):
        for path in folder.glob(root + "/**/*.ko*"):
            files[path.name.split(".ko")[0].replace("-", "_")] = path
    ordered = []

    def add(name):
        path = files.get(name.replace("-", "_"))
        if path is None or path in ordered:
            return  # built in, or there already
        depends = re.search(rb"\0?depends=([^\0]*)\0", module_bytes(path))
        for needed in depends.group(1).decode().split(",") if depends else ():
            if needed:
                add(needed)
        ordered.append(path)

    for name in wanted:
        add(name)
    if not ordered:
        raise Unavailable(f"{folder} has none of the modules {', '.join(wanted)}")
    return ordered


def kernel(name, cache, extra_modules=()):
    folder = unpack(name, cache)
    return Kernel(name, uncompressed_image(folder), module_order(folder, (*MODULES, *extra_modules)))


class Archive:
    """An initial RAM disk in the newc format of cpio. Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst."""

    def __init__(self):
        self.bytes = bytearray()
        self.entries = 0
        self.folders = set()

    def _entry(self, name, mode, data=b""):
        self.entries += 1
        encoded = name.encode() + b"\0"
        fields = (self.entries, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        self.bytes += b"070701" + b"".join(b"%08x" % value for value in fields) + encoded
        self.bytes += b"\0" * (-len(self.bytes) % 4)
        self.bytes += data
        self.bytes += b"\0" * (-len(self.bytes) % 4)

    def folder(self, name):
        if not name or name in self.folders:
            return
        self.folder(os.path.dirname(name))
        self.folders.add(name)
        self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o755):
        name = name.lstrip("/")
        self.folder(os.path.dirname(name))
        self._entry(name, stat.S_IFREG | mode, data)

    def finish(self):
        self._entry("TRAILER!!!", 0)
        return bytes(self.bytes)


def libraries_of(program):
    """What the loader maps for a program, as paths of this machine."""
    found = set()
    for line in run("ldd", str(program)).splitlines():
        match = re.search(r"(/\S+) \(0x", line)
        if match:
            found.add(match.group(1))
    return found


def stripped(program, work):
    small = work / (Path(program).name + ".stripped")
    run("strip", "-g", "-o", str(small), str(program))
    return small.read_bytes()


def base_archive(kernel_, programs, work):
    """Everything but the script, compressed; several machines may share it."""
    archive = Archive()
    for folder in ("bin", "dev", "proc", "sys", "etc", "modules"):
        archive.folder(folder)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise Unavailable("busybox is not installed")
    archive.file("bin/busybox", Path(busybox).read_bytes())
    archive.file("init", INIT.encode())
    archive.file("etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644)
    archive.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
    names = []
    for path in kernel_.modules:
        name = path.name.removesuffix(".xz")
        archive.file("modules/" + name, module_bytes(path))
        names.append(name)
    archive.file("modules.txt", "\n".join(names).encode(), 0o644)
    libraries = set()
    for program in programs:
        archive.file("bin/" + Path(program).name, stripped(program, work))
        libraries |= libraries_of(program)
    for library in sorted(libraries):
        archive.file(library, Path(library).read_bytes())
    return gzip.compress(archive.finish(), compresslevel=1)


@dataclass
class Disk:
    image: Path
    megabytes: int = 256
    mdts: int = 7
    lba: int = 512
    others: tuple = ()    # (bytes, options of QEMU's nvme-ns) of further namespaces, from the second on


@dataclass
class Ended:
    good: bool
    output: str
    why: str = ""
    lines: list = field(default_factory=list)


def boot(kernel_, base, script, disks, work, seconds=BOOT_SECONDS, blocks=()):
    """Boots and runs `script` in the guest. `blocks`: -blockdev and -drive arguments instead of plain images, one list a disk."""
    if shutil.which("qemu-system-x86_64") is None:
        raise Unavailable("qemu-system-x86_64 is not installed")
    overlay = Archive()
    overlay.file("script", script.encode())
    initrd = work / "initrd"
    initrd.write_bytes(base + gzip.compress(overlay.finish(), compresslevel=1))
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults", "-display",
               "none", "-no-reboot", "-serial", "stdio", "-kernel", str(kernel_.image), "-initrd", str(initrd), "-append",
               "console=ttyS0 panic=-1 oops=panic quiet", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x01"]
    for number, disk in enumerate(disks):
        if blocks:
            command += blocks[number]
        else:
            with open(disk.image, "wb") as image:
                image.truncate(disk.megabytes << 20)
            command += ["-drive", f"file={disk.image},if=none,id=n{number},format=raw,discard=unmap,cache=unsafe"]
        command += ["-device", f"nvme,id=c{number},serial=vm{number},mdts={disk.mdts}", "-device",
                    f"nvme-ns,drive=n{number},bus=c{number},nsid=1,logical_block_size={disk.lba},physical_block_size={disk.lba}"]
        for nsid, (bytes_, options) in enumerate(disk.others, start=2):
            image = Path(f"{disk.image}.{nsid}")
            with open(image, "wb") as other:
                other.truncate(bytes_)
            command += ["-drive", f"file={image},if=none,id=n{number}-{nsid},format=raw,cache=unsafe", "-device",
                        f"nvme-ns,drive=n{number}-{nsid},bus=c{number},nsid={nsid}{options}"]
    # Emulated, a kernel that rewrites its own code while it boots panics now and then, which says nothing of what is under test.
    for attempt in range(BOOT_ATTEMPTS):
        try:
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            return Ended(False, (error.stdout or b"").decode(errors="replace"), f"the machine did not end within {seconds} s")
        output = ended.stdout.decode(errors="replace").replace("\r", "")
        if BEGIN in output or "Kernel panic" not in output:
            break
        print(f"    the guest's kernel panicked before it ran anything (attempt {attempt + 1} of {BOOT_ATTEMPTS})", flush=True)
    if ended.returncode == EXIT_GOOD and END in output:
        return Ended(True, output)
    why = f"exit code {ended.returncode}, {'with' if END in output else 'without'} the end mark; {ended.stderr.decode(errors='replace').strip()}"
    return Ended(False, output, why)
