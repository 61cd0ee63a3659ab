// What `store --help` and the help of the commands say behind the options; man pages have it, too.
#pragma once

namespace store::tool {

inline constexpr const char* kFooter = R"(`store --device PATH COMMAND ...` is the same as `store COMMAND PATH ...`.

PATH may also be a sharded store, a directory that `store create PATH --shards N` makes: then the shards are spread over as many
cores as there are. `store reshard` divides one anew.

Examples:
  store create app.db
  store create app --shards 4
  store put app.db greeting "hello, world"
  store get app.db greeting
  store scan app.db --prefix user: --limit 10
  mdb_dump old.lmdb | store load app.db --format mdb
  store dump app.db --format jsonl > app.jsonl
  store check app.db && store stat app.db --json
  store info app.db
  store --device /dev/ng0n1 stat

Exit codes:
  0  done
  1  the key is not there, or damage was found
  2  wrong usage
  3  bad input, an I/O error, or an error of the store

Results go to standard output; messages go to standard error as "store: what happened".
`store COMMAND --help` says more about a command.)";

inline constexpr const char* kCreateFooter =
    R"(With --shards or --split the store is a sharded one: a directory with a file for each shard, which is new or empty. Shard i is
on core i modulo the number of cores that a program opens it with. With --shards alone the hash of a key says to which shard it
belongs. With --split keys before the first one given belong to the first shard, those from it on to the second, and so on.
`store reshard` changes that.

Examples:
  store create app.db
  store create app --shards 4
  store create app --split g --split p)";

inline constexpr const char* kFormats = R"(
Formats:
  tsv    a line each: key, tab, value; \t \n \r \\ and \xHH stand for the bytes that would be misread
  jsonl  a line each: {"key": "...", "value": "..."}; what is not UTF-8 as "key_base64", "value_base64"
  mdb    the portable text of mdb_dump and mdb_load)";

inline constexpr const char* kLoadFooter =
    R"(All input is read and checked before the first record is stored, so a malformed line leaves the store as it was.
A pipe is copied to a temporary file beside the store, or in its directory, meanwhile. With --partial nothing is checked ahead and nothing is
copied: what stands before a malformed line is stored, and the command ends with 3. Of several records with one key the
last stays. After a crash the same load, run again, completes.

With --sorted a store is filled that is empty or not there yet: full pages are written one after the other, and one commit ends
it. So the input is read once, a pipe is not copied, and an error, a crash or a record out of order leaves nothing of it. Keys
ascend as unsigned bytes (as `store dump`, mdb_dump and `LC_ALL=C sort` have them), each once.

--shards and --split are for a store that is not there yet, as in `store create`; one that is there must be made up so.

Examples:
  store load app.db records.tsv
  store dump old.db | store load new.db --sorted
  mdb_dump old.lmdb | store load app.db --format mdb
  store dump app.db | store load app --shards 4
)";

inline constexpr const char* kBackupFooter =
    R"(The copy is a store of its own, packed, and holds all that the store does, what is in its log alone included. The store is
only read. Damage in it ends the backup with an error and leaves no copy: `store salvage` skips damage.

With --incremental an older copy of the store, which was not written to since, becomes a new one in a single step, at the cost of
what has changed; --since says of which generation it must be. `store stat` says of which it is. Generation 0 means that no
increment can follow: a crash had left writes in the log alone. Any command that writes merges them.

The copy of a sharded store is one, in a directory, with all shards as of the same moment. An increment of it that is cut off leaves
no copy that opens until it was run again; its shards have generations of their own, so --since is not for it.

Examples:
  store backup app.db app.backup
  store backup app.db app.backup --incremental)";

inline constexpr const char* kReshardFooter =
    R"(Copies all entries into new files in the same directory, which then take the place of the old ones in one step: there must be
room for both meanwhile. Nobody else may have the store open. A crash leaves it as it was, or divided anew; the same command, run
again, completes, and removes what was left over. Without --split keys are routed by their hash.

Examples:
  store reshard app.db --shards 8
  store reshard app.db --split h --split q)";

inline constexpr const char* kSalvageFooter =
    R"(Reads the newest commit page by page, leaves out what is damaged, and applies the log behind it as far as it is whole. Where a
branch is damaged, or no meta page is good, all blocks of the file are searched for leaves of the keys in question, and the
newest are taken; if the store's bitmaps are damaged too, entries that were erased may come back. Nothing is taken that its
checksum does not vouch for. The damaged file is only read. A program may have made the store with its log on a device of its own:
name that with --log, or what it has beyond the last commit is left out.

Of a sharded store each shard is salvaged, into a new one that is divided as it is. If its manifest cannot be read either, salvage its
files one by one.

Each place that could not be read is told on standard error, with the page and the keys that it may have held. Ends with 1 if there
is any.

Example:
  store salvage app.db rescued.db)";

inline constexpr const char* kBenchFooter =
    R"(Workloads:
  fillseq, fillrandom   put every record once, into an empty store, in order or not
  fillsync              a thousandth of the records at random, each durable when it is put
  overwrite             put records at random
  deleterandom          erase keys at random
  readrandom            get records at random; multireadrandom by get_many
  readmissing           get keys that are not there
  readseq, readreverse  scan everything
  seekrandom            go to a key at random and read one entry
  readwhilewriting      readrandom, while one more task overwrites

The store is opened anew and read once before each. The flush behind writes is counted. Latencies are those of single operations, or
of batches.

Examples:
  store bench /tmp/bench.db --benchmarks fillrandom,readrandom --num 1000000 --depth 32
  store bench /tmp/bench --shards 4 --depth 128)";

inline constexpr const char* kInfoFooter =
    R"(Reads the meta pages and the root of the bitmaps alone: what the last commit was, and which of the two slots and their copies are good. So it
works on a store that does not open, and beside a process that writes to it, which it does not disturb; what that has not committed yet
is not seen. Of a sharded store it shows each shard. Ends with 1 if one of these pages is damaged, the file is too short, or a shard is of
another store. A namespace is locked for
it, as for other commands: what another process has open it does not show.

Examples:
  store info app.db
  store info app.db --json)";

inline constexpr const char* kStatFooter =
    R"(Of a sharded store the totals of all shards, of height and generation the largest, and then each shard.

With --watch a line is printed every second, or every SECONDS, until an interrupt, or the end of the pipe it writes to. That reads the
meta pages alone, without a lock, so it shows what a running program commits to its store; what is in that program's buffers is not
seen. With --json each line is an object. A namespace is locked for it: what another process has open it does not show.

Examples:
  store stat app.db --json
  store stat app.db --watch 5)";

inline constexpr const char* kPagesFooter =
    R"(Counts the blocks by what the last commit has in them: meta pages, branches, leaves, values too long for a leaf, the allocator's pages,
the log, and what is free. What is left over is unaccounted: none in a sound store. With --list each page follows, in the order of
their numbers, with the generation that wrote it; blocks in a row of one value or log segment are one line.

Ends with 1 if pages could not be read, or are in use and free at once, which is told on standard error. Of a sharded store name one
shard's file.

Examples:
  store pages app.db
  store pages app.db --list --json)";

inline constexpr const char* kPageFooter =
    R"(Reads one block of the device and shows what is in it, whether or not the store opens: a meta page, branch, leaf, bitmap, or group of the
log, with keys and values escaped as in the tsv format. What has no header, like a block of a long value, is shown as data. Of a page
that fails its checksum as much is shown as still holds together. `state` is what the last commit has the block for, `cannot_tell` what the
block alone does not show, like a log group that goes on elsewhere.

Ends with 1 if the page is damaged, with what is wrong on standard error. Of a sharded store name one shard's file.

Examples:
  store page app.db 0
  store page app.db 17 --json)";

inline constexpr const char* kWalFooter =
    R"(Follows the log as opening the store would: from where the last commit has it begin, group by group, to where it ends. `ends_with` says
why it ends there. A record that is merged is in the tree already. The log of a store that was closed is empty. With --list
each change of each record follows.

If the log lies on a device of its own, name that with --log. Ends with 1 if the log is damaged, which is more than to end. Of a sharded
store name one shard's file.

Examples:
  store wal app.db
  store wal app.db --log app.log --list)";

inline constexpr const char* kSnapshotsFooter =
    R"(A snapshot lives in the process that took it; nothing of it is on the device. So a store that nobody has open for writing has none that
keeps blocks (those of readers keep none), which this says, and of one that somebody has, it says that it is locked: ask that process
for its statistics.

An incremental backup needs no snapshot: it takes what was written since the generation of the copy, which `store info` shows there
as copy_of_generation.

Example:
  store snapshots app.db)";

}  // namespace store::tool
