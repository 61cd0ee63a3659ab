"""`./dev nvme`: the block device, the partition and the tool on a real NVMe driver, in virtual machines. Ends with 0 if all went well, 1 if
something failed, and 77, loudly, if this machine cannot run it: that is no pass."""
import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import vm

# kernel, MDTS (a transfer of 4 KiB << MDTS), LBA bytes. Each value of each stands beside each of the others at least once.
CONFIGURATIONS = (("6.12", 7, 512), ("6.12", 5, 4096), ("6.1", 5, 512), ("6.1", 7, 4096))

SCRIPT = r"""
# The kernel numbers namespaces as it meets them, in any order.
node() { for block in /sys/block/nvme0n*; do [ "$(cat $block/nsid)" = "$1" ] && echo "/dev/ng${block#/sys/block/nvme}"; done; }
while [ -z "$(node 1)" ] || [ -z "$(node 2)" ] || [ -z "$(node 3)" ]; do sleep 0.05; done
disk=$(node 1); with_metadata=$(node 2); small=$(node 3)
block=/dev/nvme${disk#/dev/ng}
export STORE_TEST_NVME=$disk
case $(uname -r) in 6.12*) export STORE_TEST_NVME_POLLED=1 ;; esac
failed=0
begin() { echo "guest: begin $1"; }
interrupts() { awk '/nvme/ { for (i = 2; i <= 3; i++) sum += $i } END { print sum + 0 }' /proc/interrupts; }
fail() { echo "guest: FAILED: $*"; failed=1; }
# expect CODE WORDS COMMAND...: the exit code, and what its output holds
expect() {
  code=$1; words=$2; shift 2
  "$@" >/tmp/out 2>&1; got=$?
  [ $got -eq $code ] && { [ -z "$words" ] || grep -q -- "$words" /tmp/out; } && return
  cat /tmp/out; fail "'$*' ended with $got, not $code, or did not say '$words'"
}
begin block-device
block_tests --gtest_brief=1 --gtest_filter='Nvme*' >/tmp/out 2>&1 || { cat /tmp/out; fail block_tests; }
grep -q SKIPPED /tmp/out && fail "block_tests skipped some"
grep PASSED /tmp/out
begin model
for seed in 1 2 3; do
  STORE_SEED=$seed model_tests --gtest_brief=1 --gtest_filter='Seeds/PartitionModel.EqualsAMap/0' >/tmp/out 2>&1 || { cat /tmp/out; fail model_tests; }
done
grep PASSED /tmp/out
begin quick-start
dd if=/dev/zero of=$block bs=4096 count=32 conv=notrunc,fsync 2>/dev/null
expect 0 'hello = world' nvme_quick_start $disk
begin tool
expect 3 'holds a store already' store create $disk
expect 0 '' store create $disk --overwrite
expect 0 '' store --device $disk put greeting hello
expect 0 '^hello' store get $disk greeting
i=0; while [ $i -lt 2000 ]; do echo "key$i	value $i"; i=$((i + 1)); done > /tmp/records
expect 0 '' store load $disk /tmp/records
expect 0 'ok: ' store check $disk
expect 0 '2001' store stat $disk
expect 0 'a store of 2001 entries' store devices
expect 0 'ok: ' store backup $disk /tmp/copy
expect 0 'ok: ' store check /tmp/copy
expect 0 '' store create $disk --first-block 20000 --blocks 1000
expect 0 '' store put $disk --first-block 20000 --blocks 1000 other window
expect 0 '2001' store stat $disk
expect 0 'readrandom' store bench --device $disk --existing --benchmarks overwrite,readrandom --num 2000
begin locks
mkfifo /tmp/hold
nvme_power hold $disk 1000 100 </tmp/hold >/tmp/held & holder=$!
exec 9>/tmp/hold
until grep -q held /tmp/held; do [ -d /proc/$holder ] || break; done
expect 3 'another process has it open' store stat $disk
expect 3 'another process has it open' store create $disk --first-block 1099 --blocks 900
expect 3 'another process has it open' store stat $block
expect 0 '' store create $disk --first-block 1100 --blocks 900 --overwrite
exec 9>&-
wait $holder || fail hold
expect 0 '^entries' store stat $disk
begin bad-input
expect 3 'no such device' store create /dev/ng7n1
expect 3 'not a namespace of an NVMe disk' store stat /dev/nvme0
expect 3 'the namespace has' store stat $disk --first-block 100000000
expect 3 'its LBA format has 512 bytes of data and 8 of metadata' store create $with_metadata
expect 3 'cannot grow to 8 blocks; it has 4 blocks' store create $small
expect 3 'cannot be opened; give this user' su nobody -c "store stat $disk"
dd if=/dev/zero of=$block bs=4096 count=8 conv=notrunc 2>/dev/null
mkswap $block >/dev/null 2>&1 && swapon $block || fail swapon
expect 3 "the kernel uses $block" store create $disk --overwrite
swapoff $block
expect 3 'holds something that is not a store' store create $disk
expect 0 '' store create $disk --overwrite
begin shards
expect 0 '2000 entries in 3 windows' nvme_power shards $disk
expect 0 '' store create $disk --overwrite
begin goes-away
nvme_power vanish $disk ${STORE_TEST_NVME_POLLED:+--polled} >/tmp/out 2>&1 &
writer=$!
# In the midst of its writes: some hundred commands have ended since it opened the disk.
until ls -l /proc/$writer/fd 2>/dev/null | grep -q "$disk"; do [ -d /proc/$writer ] || break; done
before=$(interrupts)
while [ -d /proc/$writer ] && [ $(interrupts) -lt $((before + 300)) ]; do :; done
echo 1 > /sys/class/nvme/nvme0/device/remove
wait $writer || { cat /tmp/out; fail "what the store said when its disk went away"; }
exit $failed
"""


POWER_SCRIPT = "nvme_power load /dev/ng0n1 @OPERATIONS@ @LIE@\n"
OPERATIONS = 150
STORE_MEGABYTES = 64
RECORDS = 50_000  # over some three hundred leaves, so that the sector that cannot be read is one of a leaf
FEWEST_IMAGES = 600
FEWEST_INTERVALS = 200  # between flushes
WRITERS = 4             # of the load

# iotype of blkdebug | what the guest runs, and what it must say.
FAULTS = (("read", "store check /dev/ng0n1", "unrecovered read error (0x281)"),
          ("write", "store put /dev/ng0n1 new value", "write fault (0x280)"),
          ("flush", "store put /dev/ng0n1 new value", "write fault (0x280)"))
FAULT_SCRIPT = r"""
@COMMAND@ >/tmp/out 2>&1; code=$?
cat /tmp/out
[ $code -ne 0 ] && grep -qF '@WORDS@' /tmp/out
"""


class Failed(Exception):
    """What went wrong, in words."""


def booted(kernel, base, script, disk, work, blocks):
    ended = vm.boot(kernel, base, script, [disk], work, seconds=300, blocks=[blocks])
    if not ended.good:
        raise Failed(f"{ended.why}\n{ended.output[-20000:]}")


def empty_image(path):
    with open(path, "wb") as image:
        image.truncate(STORE_MEGABYTES << 20)


def cut_power(kernel, base, programs, work, seed):
    """Replays a log of writes and flushes; then the same of a store whose flushes were dropped, which must be found out."""
    replayer = programs / "tests/nvme/nvme_power"
    for lie in (False, True):
        image, log = work / "disk.img", work / "writes.log"
        empty_image(image)
        log.write_bytes(b"")
        blocks = ["-blockdev", f"driver=blklogwrites,node-name=n0,log-sector-size=512,log-super-update-interval=1,discard=unmap,"
                               f"file.driver=file,file.discard=unmap,file.filename={image},log.driver=file,log.filename={log},"
                               "log.cache.no-flush=on"]
        script = POWER_SCRIPT.replace("@OPERATIONS@", str(OPERATIONS)).replace("@LIE@", "--lie" if lie else "")
        booted(kernel, base, script, vm.Disk(image), work, blocks)
        replayed = subprocess.run([str(replayer), "replay", str(log), str(FEWEST_IMAGES), str(seed)], capture_output=True, text=True)
        print(f"    power cuts{', flushes dropped' if lie else ''}: {replayed.stdout.strip()}", flush=True)
        counts = dict(field.split("=") for field in replayed.stdout.split() if "=" in field)
        if not lie and (int(counts["intervals"]) < FEWEST_INTERVALS or int(counts["acknowledged"]) != OPERATIONS * WRITERS):
            raise Failed(f"the log of writes is not all of them: {replayed.stdout}")
        if replayed.returncode != (1 if lie else 0):
            raise Failed(f"replay ended with {replayed.returncode}\n{replayed.stderr[-5000:]}")


def inject_errors(kernel, base, programs, work):
    """A device error gives the promised words, and takes nothing from the store."""
    tool = programs / "tools/store"
    image = work / "disk.img"
    for kind, command, words in FAULTS:
        empty_image(image)
        records = "".join(f"key{i:05}\tvalue {i}\n" for i in range(RECORDS))
        subprocess.run([str(tool), "create", str(image), "--overwrite"], check=True, capture_output=True)
        subprocess.run([str(tool), "load", str(image)], input=records, text=True, check=True, capture_output=True)
        where = ",inject-error.0.sector=320" if kind == "read" else ""
        blocks = ["-blockdev", f"driver=blkdebug,node-name=n0,image.driver=file,image.filename={image},inject-error.0.event=none,"
                               f"inject-error.0.iotype={kind},inject-error.0.errno=5,inject-error.0.once=off{where}"]
        script = FAULT_SCRIPT.replace("@COMMAND@", command).replace("@WORDS@", words)
        booted(kernel, base, script, vm.Disk(image), work, blocks)
        checked = subprocess.run([str(tool), "check", str(image)], capture_output=True, text=True)
        if checked.returncode != 0 or f"{RECORDS} entries" not in checked.stdout:
            raise Failed(f"after {kind} errors the store is not what it was: {checked.stdout}{checked.stderr}")
        print(f"    errors of {kind}: told, and nothing lost", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="./dev nvme", description=__doc__)
    parser.add_argument("--programs", type=Path, required=True, help="the build folder of the programs under test")
    parser.add_argument("--cache", type=Path, required=True, help="where kernels are unpacked")
    parser.add_argument("--quick", action="store_true", help="one configuration only")
    parser.add_argument("--seed", type=int, default=1, help="of the power cuts")
    arguments = parser.parse_args()
    programs = [arguments.programs / path for path in
                ("tests/unit/block/block_tests", "tests/model/model_tests", "tests/nvme/nvme_power", "examples/nvme_quick_start", "tools/store")]
    failed = 0
    try:
        for name, mdts, lba in CONFIGURATIONS[:1] if arguments.quick else CONFIGURATIONS:
            begun = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="store-nvme-") as folder:
                work = Path(folder)
                kernel = vm.kernel(name, arguments.cache)
                base = vm.base_archive(kernel, programs, work)
                # The second namespace has metadata, the third is smaller than a store.
                others = ((16 << 20, ",ms=8"), (16 << 10, ""))
                disk = vm.Disk(work / "disk.img", mdts=mdts, lba=lba, others=others)
                ended = vm.boot(kernel, base, SCRIPT, [disk], work, seconds=300)
            took = time.monotonic() - begun
            print(f"    kernel={name} mdts={mdts} lba={lba} result={'ok' if ended.good else 'FAILED'} seconds={took:.1f}", flush=True)
            if not ended.good:
                failed += 1
                print(ended.output[-20000:], file=sys.stderr)
                print(f"nvme: {ended.why}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="store-nvme-") as folder:
            work = Path(folder)
            kernel = vm.kernel("6.12", arguments.cache)
            base = vm.base_archive(kernel, programs, work)
            cut_power(kernel, base, arguments.programs, work, arguments.seed)
            inject_errors(kernel, base, arguments.programs, work)
    except Failed as error:
        print(f"nvme: {error}", file=sys.stderr)
        failed += 1
    except vm.Unavailable as error:
        print(f"nvme: SKIPPED, nothing was tested: {error}", file=sys.stderr)
        return 1 if failed else 77
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
