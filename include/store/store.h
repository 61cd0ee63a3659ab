/* The store in C: the calls of store::Store (store/blocking_store.hpp), for C99 and for what binds to C. Link libstore.so.
 *
 * Calls return a store_code: STORE_OK; an outcome that is no failure, which is negative; or an error, which is positive, and after which
 * store_last_error() says what happened. Any thread may call; no call throws. The verbs, their limits, their durability and their
 * errors are those of Partition (store/partition.hpp); docs/c.md shows them at work.
 *
 * Handles are numbers in the shape of pointers, not addresses. NULL, and what never was a handle, is STORE_ERROR_INVALID_ARGUMENT; a handle that
 * was closed is STORE_ERROR_CLOSED. Batches, snapshots and scans belong to one thread at a time: a call that meets another one
 * on the same handle is STORE_ERROR_INVALID_ARGUMENT. Closing waits for the calls that other threads have under way on the handle.
 *
 * Keys and values are bytes with a length. A pointer may be NULL if its length is 0; where NULL means something of its own, the call says so,
 * and an empty string is then any other pointer with length 0. What a call gives out (`T *out`) is set to NULL or 0 when it does not
 * return STORE_OK. All are required unless the call says that they may be NULL. */
#ifndef STORE_STORE_H_
#define STORE_STORE_H_

#include <stddef.h>
#include <stdint.h>

#define STORE_API __attribute__((visibility("default")))
#ifdef __cplusplus
#define STORE_NOEXCEPT noexcept
extern "C" {
#else
#define STORE_NOEXCEPT
#endif

/* --- outcomes --- */

/* The errors are those of store::Errc, with its numbers (docs/errors.md says what each leaves behind), and two more. */
typedef enum store_code {
  STORE_OK = 0,

  STORE_KEY_NOT_FOUND = -1, /* there is no entry with this key */
  STORE_END = -2,           /* there is no further entry */

  STORE_ERROR_INVALID_ARGUMENT = 1,
  STORE_ERROR_NOT_FOUND = 2, /* the device or file does not exist; of a key it is STORE_KEY_NOT_FOUND */
  STORE_ERROR_ALREADY_EXISTS = 3,
  STORE_ERROR_LOCKED = 4,
  STORE_ERROR_NOT_A_STORE = 5,
  STORE_ERROR_UNSUPPORTED_FORMAT = 6,
  STORE_ERROR_CORRUPTION = 7,
  STORE_ERROR_IO_ERROR = 8, /* store_last_os_error() is the errno */
  STORE_ERROR_NO_SPACE = 9,
  STORE_ERROR_READ_ONLY = 10,
  STORE_ERROR_POISONED = 11,
  STORE_ERROR_CONFLICT = 12,
  STORE_ERROR_CLOSED = 13,
  STORE_ERROR_ABORTED = 14,

  STORE_ERROR_OUT_OF_MEMORY = 100, /* a read: nothing changed; a write: it may have been applied */
  STORE_ERROR_UNKNOWN = 101        /* none of these; store_last_error() has what is known */
} store_code;

/* The name of a code without its prefix: "ok", "key_not_found", "invalid_argument". "unknown" for what is no code. */
STORE_API const char* store_code_name(int code) STORE_NOEXCEPT;
/* What went wrong in this thread's last call that failed, "" before. Valid until its next call that fails. */
STORE_API const char* store_last_error(void) STORE_NOEXCEPT;
/* The errno of that failure, 0 if it had none. */
STORE_API int store_last_os_error(void) STORE_NOEXCEPT;

/* The version of the library: "1.2.3", and 10203. */
STORE_API const char* store_version(void) STORE_NOEXCEPT;
STORE_API int store_version_number(void) STORE_NOEXCEPT;

/* Frees a buffer that a call gave to the caller. NULL is no buffer. */
STORE_API void store_free(void* buffer) STORE_NOEXCEPT;

/* --- a store --- */

typedef struct store_db store_db;
typedef struct store_batch store_batch;
typedef struct store_snapshot store_snapshot;
typedef struct store_scan store_scan;

/* Structs of options begin with their size, so that later versions can add to their ends: set them by their `init`, then change what is wanted.
 * A size that is smaller than the first version had, or larger than the library knows with anything but zeros in the rest, is
 * STORE_ERROR_INVALID_ARGUMENT. */

enum store_wal_mode {                        /* what makes writes durable: docs/durability.md */
                      STORE_WAL_NONE = 0,    /* store_flush() or store_sync() */
                      STORE_WAL_BATCHED = 1, /* the log, about a millisecond after them */
                      STORE_WAL_PER_OP = 2   /* the log, before the call returns */
};

typedef struct store_options {
  size_t size;
  uint64_t cache_bytes;        /* of cached pages; 64 MiB */
  uint64_t write_buffer_bytes; /* 16 KiB to 32 GiB; 32 MiB */
  uint64_t capacity_bytes;     /* what the file may grow to; 0, what the format allows */
  int wal_mode;                /* enum store_wal_mode; STORE_WAL_BATCHED */
  int create;                  /* 0 or 1: make the store if there is none; 1 */
  int read_only;               /* 0 or 1: open it for reading, and never make it; 0 */
  int reserved;                /* 0 */
} store_options;

/* Sets a struct to the defaults above. */
#define store_options_init(options) store_options_init_sized((options), sizeof(*(options)))
STORE_API store_code store_options_init_sized(store_options* options, size_t size) STORE_NOEXCEPT;

/* Opens the store in a file or on an NVMe namespace (its character device), or makes it. `options` may be NULL for the defaults.
 * Errors: not_found when there is none and it is not to be made; locked while this or another process has it open; those of Store::open. */
STORE_API store_code store_open(const char* path, const store_options* options, store_db** db) STORE_NOEXCEPT;
/* Flushes, gives the file back and frees the handle, which is free also when the flush failed. NULL is no store, and STORE_OK. Calls on
 * its snapshots and scans then are STORE_ERROR_CLOSED; they are to be freed all the same. */
STORE_API store_code store_close(store_db* db) STORE_NOEXCEPT;

/* Gives a copy of the value, to be freed by store_free(); it is not NULL even if the value is empty. Or STORE_KEY_NOT_FOUND. */
STORE_API store_code store_get(store_db* db, const void* key, size_t key_len, void** value,
                               size_t* value_len) STORE_NOEXCEPT;
/* Copies the value into `buffer`, as much of it as fits; `value_len` is the length of all of it. Or STORE_KEY_NOT_FOUND. */
STORE_API store_code store_get_into(store_db* db, const void* key, size_t key_len, void* buffer, size_t buffer_len,
                                    size_t* value_len) STORE_NOEXCEPT;
/* The same from the byte `offset` of the value on; nothing is copied from its end on. `value_len` is the length of the whole value all the same. A
 * big value is read in parts of any size without being held as a whole. */
STORE_API store_code store_get_part(store_db* db, const void* key, size_t key_len, uint64_t offset, void* buffer,
                                    size_t buffer_len, size_t* value_len) STORE_NOEXCEPT;
/* STORE_OK or STORE_KEY_NOT_FOUND. */
STORE_API store_code store_contains(store_db* db, const void* key, size_t key_len) STORE_NOEXCEPT;
/* Gives copies of the values of `count` keys. `values` and `value_lens` are arrays of `count`; each value is to be freed
 * by store_free(), and is NULL if there is no entry with its key. On an error all are NULL. */
STORE_API store_code store_get_many(store_db* db, size_t count, const void* const* keys, const size_t* key_lens,
                                    void** values, size_t* value_lens) STORE_NOEXCEPT;

STORE_API store_code store_put(store_db* db, const void* key, size_t key_len, const void* value,
                               size_t value_len) STORE_NOEXCEPT;
/* Removes the entry; STORE_OK also when there is none. */
STORE_API store_code store_erase(store_db* db, const void* key, size_t key_len) STORE_NOEXCEPT;
/* Erases all keys in [from, to), all from `from` on if `to` is NULL. An empty or reversed range is no change. */
STORE_API store_code store_erase_range(store_db* db, const void* from, size_t from_len, const void* to,
                                       size_t to_len) STORE_NOEXCEPT;
/* Puts `desired`, or erases if it is NULL, if the key has exactly the value `expected`, or is absent if that is NULL, in one step.
 * Errors: conflict when it has not; nothing was changed. */
STORE_API store_code store_compare_and_put(store_db* db, const void* key, size_t key_len, const void* expected,
                                           size_t expected_len, const void* desired, size_t desired_len) STORE_NOEXCEPT;

/* Gives the next entry of a bulk load, and returns a store_code: STORE_OK with its key and value, which must stay as they are until the next call; STORE_END behind the last; or
 * an error, which ends the load. It runs on the store's own thread, where all other calls on the store wait for it: it must not wait for
 * them. Of the calls of this header it may make those that take no handle and those on batches; the others are STORE_ERROR_INVALID_ARGUMENT
 * there, or wait for I/O. It must return: no exception, no longjmp(). It is not called again after anything but STORE_OK. */
typedef int (*store_source_fn)(void* context, const void** key, size_t* key_len, const void** value, size_t* value_len);
/* Fills an empty store with the entries of a source, whose keys must ascend: one sequential write, durable when the call returns. `entries`, how
 * many there were, may be NULL. Errors: the source's own; invalid_argument for a store that is not empty, a key that does not ascend, or
 * another outcome of the source; the store then is empty as before. */
STORE_API store_code store_bulk_load(store_db* db, store_source_fn source, void* context,
                                     uint64_t* entries) STORE_NOEXCEPT;
/* About how much [from, to) holds, `to` as in store_erase_range(): `entries`, and the `bytes` that they take on the device; either may be NULL. As of
 * the last flush, and cheap: no entry is read. */
STORE_API store_code store_approximate_range(store_db* db, const void* from, size_t from_len, const void* to,
                                             size_t to_len, uint64_t* entries, uint64_t* bytes) STORE_NOEXCEPT;

/* --- batches: changes that are applied as a whole or not at all --- */

/* A batch owns copies of what is added to it, belongs to no store, and is to be freed by store_batch_free(). */
STORE_API store_code store_batch_create(store_batch** batch) STORE_NOEXCEPT;
/* NULL is no batch, and STORE_OK. */
STORE_API store_code store_batch_free(store_batch* batch) STORE_NOEXCEPT;
/* Each adds a change; of two changes to one key the later wins. A range reaches what was there before it, with `to` as in store_erase_range();
 * there may be 64 in a batch. After an error the batch is as before. */
STORE_API store_code store_batch_put(store_batch* batch, const void* key, size_t key_len, const void* value,
                                     size_t value_len) STORE_NOEXCEPT;
STORE_API store_code store_batch_erase(store_batch* batch, const void* key, size_t key_len) STORE_NOEXCEPT;
STORE_API store_code store_batch_erase_range(store_batch* batch, const void* from, size_t from_len, const void* to,
                                             size_t to_len) STORE_NOEXCEPT;
/* Makes the batch conditional: it is written only if the key then has exactly the value `expected`, or is absent if that is NULL. */
STORE_API store_code store_batch_expect(store_batch* batch, const void* key, size_t key_len, const void* expected,
                                        size_t expected_len) STORE_NOEXCEPT;
STORE_API store_code store_batch_clear(store_batch* batch) STORE_NOEXCEPT;
/* Applies all of the batch or nothing; the batch stays as it is. Errors: conflict when an expectation does not hold. */
STORE_API store_code store_write(store_db* db, store_batch* batch) STORE_NOEXCEPT;

/* --- snapshots: a store as of one moment --- */

/* The snapshot is to be freed by store_snapshot_free(); while it lives, the space of what it alone can see is not used again. */
STORE_API store_code store_snapshot_create(store_db* db, store_snapshot** snapshot) STORE_NOEXCEPT;
/* NULL is no snapshot, and STORE_OK. */
STORE_API store_code store_snapshot_free(store_snapshot* snapshot) STORE_NOEXCEPT;
/* As store_get(), store_contains() and store_get_many(). */
STORE_API store_code store_snapshot_get(store_snapshot* snapshot, const void* key, size_t key_len, void** value,
                                        size_t* value_len) STORE_NOEXCEPT;
STORE_API store_code store_snapshot_contains(store_snapshot* snapshot, const void* key, size_t key_len) STORE_NOEXCEPT;
STORE_API store_code store_snapshot_get_many(store_snapshot* snapshot, size_t count, const void* const* keys,
                                             const size_t* key_lens, void** values, size_t* value_lens) STORE_NOEXCEPT;

/* --- scans: the entries of a range in the order of their keys, as of the scan's start --- */

enum store_bound {
  STORE_UNBOUNDED = 0, /* the range has no such end; key and length are not looked at */
  STORE_INCLUSIVE = 1,
  STORE_EXCLUSIVE = 2
};

typedef struct store_scan_options {
  size_t size;
  const void* lower;
  size_t lower_len;
  const void* upper;
  size_t upper_len;
  int lower_bound; /* enum store_bound; STORE_UNBOUNDED */
  int upper_bound; /* enum store_bound; STORE_UNBOUNDED */
  int reverse;     /* 0 or 1: from the end of the range to its start; 0 */
  int reserved;    /* 0 */
  uint64_t limit;  /* entries after which the scan ends; 0, no limit */
} store_scan_options;

#define store_scan_options_init(options) store_scan_options_init_sized((options), sizeof(*(options)))
STORE_API store_code store_scan_options_init_sized(store_scan_options* options, size_t size) STORE_NOEXCEPT;

/* Begins a scan, to be freed by store_scan_free(). `options` may be NULL for all entries. The bounds are copied. */
STORE_API store_code store_scan_create(store_db* db, const store_scan_options* options,
                                       store_scan** scan) STORE_NOEXCEPT;
/* The same for the keys that begin with `prefix`; the options must have no bounds. */
STORE_API store_code store_scan_prefix(store_db* db, const void* prefix, size_t prefix_len,
                                       const store_scan_options* options, store_scan** scan) STORE_NOEXCEPT;
/* Both for a snapshot, which the scan may outlive. */
STORE_API store_code store_snapshot_scan(store_snapshot* snapshot, const store_scan_options* options,
                                         store_scan** scan) STORE_NOEXCEPT;
STORE_API store_code store_snapshot_scan_prefix(store_snapshot* snapshot, const void* prefix, size_t prefix_len,
                                                const store_scan_options* options, store_scan** scan) STORE_NOEXCEPT;
/* Goes to the next entry, at first to the first, and gives its key and value, which are the scan's own and valid until the next call on it.
 * Or STORE_END. */
STORE_API store_code store_scan_next(store_scan* scan, const void** key, size_t* key_len, const void** value,
                                     size_t* value_len) STORE_NOEXCEPT;
/* The next store_scan_next() goes to the first entry at or after `key` (at or before it in reverse), within the range. */
STORE_API store_code store_scan_seek(store_scan* scan, const void* key, size_t key_len) STORE_NOEXCEPT;
/* NULL is no scan, and STORE_OK. */
STORE_API store_code store_scan_free(store_scan* scan) STORE_NOEXCEPT;

/* --- upkeep --- */

/* Makes everything written before the call durable: by the log, or without one by a flush. */
STORE_API store_code store_sync(store_db* db) STORE_NOEXCEPT;
/* Merges what is buffered into the tree and commits it. */
STORE_API store_code store_flush(store_db* db) STORE_NOEXCEPT;
/* Makes the store small. `bytes_freed`, by which the file became smaller, may be NULL. */
STORE_API store_code store_compact(store_db* db, uint64_t* bytes_freed) STORE_NOEXCEPT;
/* A part of it: ends behind the commit that has written `max_bytes_moved` bytes anew; another call goes on from there. `finished` is 1 when there is
 * nothing more to do now. The places for results may be NULL. */
STORE_API store_code store_compact_step(store_db* db, uint64_t max_bytes_moved, int* finished, uint64_t* bytes_moved,
                                        uint64_t* bytes_freed) STORE_NOEXCEPT;

#define STORE_BACKUP_OF_TARGET UINT64_MAX

typedef struct store_backup_options {
  size_t size;
  uint64_t since; /* bring the target, which holds the copy of this generation, up to date, or of whichever it says
                     (STORE_BACKUP_OF_TARGET); 0: write a full copy */
  int overwrite;  /* 0 or 1: a full copy replaces what is on the target, a store included; 0 */
  int reserved;   /* 0 */
} store_backup_options;

#define store_backup_options_init(options) store_backup_options_init_sized((options), sizeof(*(options)))
STORE_API store_code store_backup_options_init_sized(store_backup_options* options, size_t size) STORE_NOEXCEPT;

/* Copies the store as of now to another file or namespace, while it is read and written. `options` may be NULL. `generation`, which the next
 * incremental copy may name (0: none can follow), may be NULL. Errors: those of Partition::backup. */
STORE_API store_code store_backup(store_db* db, const char* target, const store_backup_options* options,
                                  uint64_t* generation) STORE_NOEXCEPT;

/* Gets one finding: where, what, expected and found; valid during the call. */
typedef void (*store_finding_fn)(void* context, const char* finding);
/* Verifies every page of the last commit. Calls `finding`, which may be NULL, for at most 100 findings, on this thread, after the check.
 * Errors: corruption when there are any. */
STORE_API store_code store_check(store_db* db, store_finding_fn finding, void* context) STORE_NOEXCEPT;

/* Gives a number of docs/metrics.md by its name there: one of store::Stats (store/stats.hpp), such as "entries", or one of its histograms, such
 * as "get_read_p99_ns". Errors: invalid_argument for another name. */
STORE_API store_code store_stat(store_db* db, const char* name, uint64_t* value) STORE_NOEXCEPT;
/* The name of the number at `index`, from 0 on; NULL beyond the last. Later versions may add names anywhere. */
STORE_API const char* store_stat_name(size_t index) STORE_NOEXCEPT;
/* Gives a text of store::Stats, "" where there is nothing to say, to be freed by store_free(): "uuid"; "origin", the UUID of the store that this one
 * is a copy of and the generation there, with a space in between; "open_notes", what opening met and mended, a line each; "poisoned", why
 * writes are refused; "snapshots", a line for each that lives: the sequence number of the last write that it sees, its age in nanoseconds, the
 * blocks held for it. Errors: invalid_argument for another name. */
STORE_API store_code store_stat_text(store_db* db, const char* name, char** text) STORE_NOEXCEPT;
/* The name of the text at `index`, from 0 on; NULL beyond the last. */
STORE_API const char* store_stat_text_name(size_t index) STORE_NOEXCEPT;
/* Gives the numbers of `count` stores in the text format of Prometheus (version 0.0.4), to be freed by store_free(): each number as store_NAME, a
 * counter with _total behind it, each histogram of latencies as store_NAME_seconds. `names`, in UTF-8, are the values of the label `store` that tells the stores apart, each another one; it may be NULL if there is one. */
STORE_API store_code store_prometheus(size_t count, store_db* const* dbs, const char* const* names,
                                      char** text) STORE_NOEXCEPT;

/* --- event loops: calls that return at once, and tell by a callback how they ended --- */

/* Callbacks that wait for the program's loop, of any number of stores. To be freed by store_queue_free(). */
typedef struct store_queue store_queue;
STORE_API store_code store_queue_create(store_queue** queue) STORE_NOEXCEPT;
/* What has not been called will not be. NULL is no queue, and STORE_OK. Errors: invalid_argument in a callback. */
STORE_API store_code store_queue_free(store_queue* queue) STORE_NOEXCEPT;
/* Gives a file descriptor, -1 if it fails, that is readable while callbacks wait; it is to be watched only. */
STORE_API store_code store_queue_fd(store_queue* queue, int* fd) STORE_NOEXCEPT;
/* Calls the callbacks that wait now, on this thread. `called`, how many they were, may be NULL. Errors: invalid_argument in a callback. */
STORE_API store_code store_queue_run(store_queue* queue, size_t* called) STORE_NOEXCEPT;

/* Is told how a call ended, once: STORE_OK; STORE_KEY_NOT_FOUND; or an error, which is this thread's last one. `value` is what a get has found, else
 * empty; it is never NULL, and valid during the call. It may call anything but store_queue_free() and store_queue_run(), and must return: no exception,
 * no longjmp(), no end of its thread. */
typedef void (*store_done_fn)(void* context, store_code code, const void* value, size_t value_len);
/* As the calls of the same names; STORE_OK says that the call is under way and will be told. What is given is copied. Calls that are in flight together take
 * effect in any order; a call sees the writes that were told before it. store_close() waits for those in flight. */
STORE_API store_code store_async_get(store_db* db, store_queue* queue, const void* key, size_t key_len,
                                     store_done_fn done, void* context) STORE_NOEXCEPT;
STORE_API store_code store_async_put(store_db* db, store_queue* queue, const void* key, size_t key_len,
                                     const void* value, size_t value_len, store_done_fn done,
                                     void* context) STORE_NOEXCEPT;
STORE_API store_code store_async_erase(store_db* db, store_queue* queue, const void* key, size_t key_len,
                                       store_done_fn done, void* context) STORE_NOEXCEPT;
STORE_API store_code store_async_write(store_db* db, store_queue* queue, store_batch* batch, store_done_fn done,
                                       void* context) STORE_NOEXCEPT;
STORE_API store_code store_async_sync(store_db* db, store_queue* queue, store_done_fn done,
                                      void* context) STORE_NOEXCEPT;
STORE_API store_code store_async_flush(store_db* db, store_queue* queue, store_done_fn done,
                                       void* context) STORE_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif /* STORE_STORE_H_ */
