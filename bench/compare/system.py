"""What compare.py asks of the system: processes, memory groups, fio, and what the machine is."""
import json
import os
import platform
import subprocess
import sys

MIB = 1 << 20


class Failed(Exception):
    """A run that gave no figure; the text says why."""


def output_of(command, timeout, group=None):
    """What a command prints. Errors: Failed."""
    words = [str(word) for word in command]
    enter = group.enter if group else None
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, preexec_fn=enter)
    except subprocess.TimeoutExpired:
        raise Failed(f"did not end within {timeout:.0f} s") from None
    except OSError as error:
        raise Failed(f"cannot run {words[0]}: {error}") from None
    if done.returncode == -9:
        raise Failed("killed by the kernel: out of memory" if group else "killed")
    if done.returncode:
        raise Failed((done.stderr or done.stdout).strip().splitlines()[-1][:300] if done.stderr or done.stdout
                     else f"ended with {done.returncode}")
    return done.stdout


class MemoryGroup:
    """A cgroup of version 1 or 2 that holds what enters it to so much memory, the page cache's included. Errors: Failed, if this
    user or container may make none."""

    def __init__(self, limit_bytes):
        self.path = None
        reasons = []
        for parent, limit_file in self._places():
            path = os.path.join(parent, f"bench-compare-{os.getpid()}-{limit_bytes}")
            try:
                os.mkdir(path)
                self.path = path
                with open(os.path.join(path, limit_file), "w") as file:
                    file.write(str(limit_bytes))
                self._write_if_there("memory.swap.max", "0")
                return
            except OSError as error:
                reasons.append(f"{parent}: {error.strerror}")
                self.close()
        raise Failed("no memory cgroup can be made here (" + ("; ".join(reasons) or "none is mounted") + ")")

    @staticmethod
    def _places():
        """(folder to make a group in, name of its limit), most fitting first."""
        with open("/proc/self/cgroup") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
        for version, root, limit_file in ((1, "/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                                          (2, "/sys/fs/cgroup", "memory.max"), (2, "/sys/fs/cgroup/unified", "memory.max")):
            own = [path for _, controllers, path in groups
                   if (controllers == "" if version == 2 else "memory" in controllers.split(","))]
            for path in [*own, os.path.dirname(own[0]) if own else "/", "/"]:
                folder = root + path.rstrip("/")
                controllers = os.path.join(folder, "cgroup.subtree_control")
                if version == 1 and os.path.exists(os.path.join(folder, limit_file)):
                    yield folder, limit_file
                elif version == 2 and os.path.exists(controllers):
                    try:
                        with open(controllers, "r+") as file:
                            if "memory" not in file.read().split():
                                file.write("+memory")
                    except OSError:
                        continue
                    yield folder, limit_file

    def _write_if_there(self, name, text):
        path = os.path.join(self.path, name)
        if os.path.exists(path):
            with open(path, "w") as file:
                file.write(text)

    def enter(self):
        """Called in the child process, before it becomes another program."""
        with open(os.path.join(self.path, "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))

    def close(self):
        if self.path:
            try:
                os.rmdir(self.path)
            except OSError as error:
                print(f"cannot remove {self.path}: {error.strerror}", file=sys.stderr)
            self.path = None


def files_of(path):
    if os.path.isfile(path):
        return [path]
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]


def size_of(path):
    """What a store takes: of each file the larger of its size and what is allocated for it."""
    return sum(max(status.st_size, status.st_blocks * 512) for status in map(os.stat, files_of(path)))


def forget(path):
    """Writes a store's files out and lets the kernel's page cache forget them."""
    for name in files_of(path):
        with open(name, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fio(path, size_bytes, seconds, *, rw, block, depth=1, sync=False):
    """What the device does by itself, as a result like an engine's: direct, io_uring, fixed buffers and files."""
    command = ["fio", "--name=device", f"--filename={path}", f"--size={size_bytes // block * block}", f"--rw={rw}", f"--bs={block}",
               f"--iodepth={depth}", "--ioengine=io_uring", "--direct=1", "--fixedbufs", "--registerfiles", "--norandommap",
               "--random_generator=tausworthe64", "--time_based", f"--runtime={max(1, round(seconds))}", f"--ramp_time={int(seconds >= 1)}", "--output-format=json",
               "--group_reporting"]
    if sync:
        command.append("--fdatasync=1")
    job = json.loads(output_of(command, seconds + 120))["jobs"][0]
    side = job["read" if "read" in rw else "write"]
    percentiles = side["clat_ns"].get("percentile", {})
    latency = {f"p{name}_us": percentiles.get(f"{float(name):.6f}", 0) / 1e3 for name in ("50", "90", "99", "99.9", "99.99")}
    latency["max_us"] = side["clat_ns"]["max"] / 1e3
    rate = side["iops"]
    cpu = (job["usr_cpu"] + job["sys_cpu"]) / 100 / rate * 1e6 if rate else 0
    return {"rate": rate, "cpu_us_per_operation": cpu, "reads" if "read" in rw else "writes": {"count": side["total_ios"], **latency},
            "configuration": " ".join(command[3:])}


def fill_with_noise(path, size_bytes):
    """A file of bytes that do not compress, every block of it written."""
    with open(path, "wb") as file:
        for _ in range(-(-size_bytes // MIB)):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())


def machine(directory):
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) // 1024
    kind = output_of(["findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", directory], 60).split()
    return {"kernel": f"{platform.system()} {platform.release()}", "processors": f"{len(models)} x {models[0] if models else platform.machine()}",
            "memory_mib": memory, "file_system": " on ".join(kind), "load_average_at_start": os.getloadavg()[0]}
