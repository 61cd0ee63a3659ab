/* Every call of the C API, from C99. Argument: a directory for its files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <store/store.h>

static int failures = 0;

#define EXPECT(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__, #condition, store_last_error()); \
      ++failures; \
    } \
  } while (0)
#define OK(call) EXPECT((call) == STORE_OK)

static int is_text(const void* bytes, size_t len, const char* text) {
  return bytes != NULL && len == strlen(text) && memcmp(bytes, text, len) == 0;
}

static int has(store_db* db, const char* key, const char* wanted) {
  void* value;
  size_t len;
  int same;
  const store_code code = store_get(db, key, strlen(key), &value, &len);
  if (wanted == NULL) return code == STORE_KEY_NOT_FOUND && value == NULL && len == 0;
  same = code == STORE_OK && is_text(value, len, wanted);
  store_free(value);
  return same;
}

static store_code put(store_db* db, const char* key, const char* value) {
  return store_put(db, key, strlen(key), value, strlen(value));
}

/* The keys that are left of a scan, one letter each; frees it. */
static const char* keys_of(store_scan* scan) {
  static char keys[64];
  size_t count = 0;
  const void *key, *value;
  size_t key_len, value_len;
  store_code code;
  while ((code = store_scan_next(scan, &key, &key_len, &value, &value_len)) == STORE_OK) {
    if (count < sizeof keys - 1) keys[count++] = *(const char*)key;
  }
  EXPECT(code == STORE_END && key == NULL && value_len == 0);
  keys[count] = '\0';
  OK(store_scan_free(scan));
  return keys;
}

static void test_versions(void) {
  int major, minor, patch;
  EXPECT(sscanf(store_version(), "%d.%d.%d", &major, &minor, &patch) == 3);
  EXPECT(store_version_number() == major * 10000 + minor * 100 + patch);
  EXPECT(strcmp(store_code_name(STORE_ERROR_NO_SPACE), "no_space") == 0);
  EXPECT(strcmp(store_code_name(12345), "unknown") == 0);
}

static void test_keys(store_db* db) {
  char buffer[4] = "";
  size_t len;
  const void* keys[3] = {"b", "nope", "a"};
  const size_t key_lens[3] = {1, 4, 1};
  void* values[3];
  size_t value_lens[3];
  int i;

  OK(put(db, "a", "1"));
  OK(put(db, "b", "twenty-two"));
  OK(store_put(db, "empty", 5, NULL, 0));
  EXPECT(has(db, "a", "1"));
  EXPECT(has(db, "empty", ""));
  EXPECT(has(db, "nope", NULL));
  OK(store_contains(db, "a", 1));
  EXPECT(store_contains(db, "nope", 4) == STORE_KEY_NOT_FOUND);
  OK(store_get_into(db, "b", 1, buffer, sizeof buffer, &len));
  EXPECT(len == 10 && memcmp(buffer, "twen", 4) == 0);
  OK(store_get_into(db, "b", 1, NULL, 0, &len));
  EXPECT(len == 10);
  OK(store_get_part(db, "b", 1, 7, buffer, sizeof buffer, &len));
  EXPECT(len == 10 && memcmp(buffer, "twon", 4) == 0);
  OK(store_get_part(db, "b", 1, UINT64_MAX, buffer, sizeof buffer, &len));
  EXPECT(len == 10 && memcmp(buffer, "twon", 4) == 0);
  EXPECT(store_get_into(db, "nope", 4, buffer, sizeof buffer, &len) == STORE_KEY_NOT_FOUND && len == 0);
  OK(store_get_many(db, 3, keys, key_lens, values, value_lens));
  EXPECT(is_text(values[0], value_lens[0], "twenty-two") && values[1] == NULL &&
         is_text(values[2], value_lens[2], "1"));
  for (i = 0; i < 3; ++i) store_free(values[i]);
  OK(store_get_many(db, 0, NULL, NULL, NULL, NULL));

  EXPECT(store_compare_and_put(db, "a", 1, "2", 1, "3", 1) == STORE_ERROR_CONFLICT);
  EXPECT(store_compare_and_put(db, "a", 1, NULL, 0, "3", 1) == STORE_ERROR_CONFLICT);
  EXPECT(has(db, "a", "1"));
  OK(store_compare_and_put(db, "a", 1, "1", 1, "3", 1));
  EXPECT(has(db, "a", "3"));
  OK(store_compare_and_put(db, "a", 1, "3", 1, NULL, 0));
  EXPECT(has(db, "a", NULL));
  OK(store_compare_and_put(db, "a", 1, NULL, 0, "", 0));
  EXPECT(has(db, "a", ""));

  OK(store_erase(db, "a", 1));
  OK(store_erase(db, "a", 1));
  EXPECT(has(db, "a", NULL));
  OK(store_erase_range(db, "b", 1, "", 0));
  EXPECT(has(db, "b", "twenty-two"));
  OK(store_erase_range(db, "b", 1, "c", 1));
  EXPECT(has(db, "b", NULL) && has(db, "empty", ""));
  OK(store_erase_range(db, NULL, 0, NULL, 0));
  EXPECT(has(db, "empty", NULL));
}

static void test_batches(store_db* db) {
  store_batch* batch;
  OK(put(db, "old", "x"));
  OK(store_batch_create(&batch));
  OK(store_batch_erase_range(batch, "o", 1, "p", 1));
  OK(store_batch_put(batch, "k", 1, "v", 1));
  OK(store_batch_put(batch, "gone", 4, "v", 1));
  OK(store_batch_erase(batch, "gone", 4));
  OK(store_batch_expect(batch, "k", 1, NULL, 0));
  OK(store_write(db, batch));
  EXPECT(has(db, "k", "v") && has(db, "old", NULL) && has(db, "gone", NULL));
  EXPECT(store_write(db, batch) == STORE_ERROR_CONFLICT); /* now it has a value */
  OK(store_batch_clear(batch));
  OK(store_batch_erase(batch, "k", 1));
  OK(store_batch_expect(batch, "k", 1, "v", 1));
  OK(store_write(db, batch));
  EXPECT(has(db, "k", NULL));
  OK(store_batch_free(batch));
  OK(store_batch_free(NULL));
}

static const char* scanned(store_db* db, int lower_bound, int upper_bound, int reverse, uint64_t limit) {
  store_scan_options options;
  store_scan* scan;
  OK(store_scan_options_init(&options));
  options.lower = "b";
  options.lower_len = 1;
  options.lower_bound = lower_bound;
  options.upper = "d";
  options.upper_len = 1;
  options.upper_bound = upper_bound;
  options.reverse = reverse;
  options.limit = limit;
  OK(store_scan_create(db, &options, &scan));
  return keys_of(scan);
}

static void test_scans(store_db* db) {
  store_scan* scan;
  const void *key, *value;
  size_t key_len, value_len;
  const char* letter;
  for (letter = "abcde"; *letter != '\0'; ++letter) OK(store_put(db, letter, 1, letter, 1));

  EXPECT(strcmp(scanned(db, STORE_UNBOUNDED, STORE_UNBOUNDED, 0, 0), "abcde") == 0);
  EXPECT(strcmp(scanned(db, STORE_INCLUSIVE, STORE_EXCLUSIVE, 0, 0), "bc") == 0);
  EXPECT(strcmp(scanned(db, STORE_EXCLUSIVE, STORE_INCLUSIVE, 0, 0), "cd") == 0);
  EXPECT(strcmp(scanned(db, STORE_INCLUSIVE, STORE_INCLUSIVE, 1, 0), "dcb") == 0);
  EXPECT(strcmp(scanned(db, STORE_EXCLUSIVE, STORE_EXCLUSIVE, 1, 0), "c") == 0);
  EXPECT(strcmp(scanned(db, STORE_UNBOUNDED, STORE_EXCLUSIVE, 1, 2), "cb") == 0);
  EXPECT(strcmp(scanned(db, STORE_EXCLUSIVE, STORE_UNBOUNDED, 0, 2), "cd") == 0);

  OK(put(db, "bb", "longer"));
  OK(store_scan_prefix(db, "b", 1, NULL, &scan));
  EXPECT(strcmp(keys_of(scan), "bb") == 0); /* b and bb */

  OK(store_scan_create(db, NULL, &scan));
  OK(store_scan_seek(scan, "bb", 2));
  OK(store_scan_next(scan, &key, &key_len, &value, &value_len));
  EXPECT(is_text(key, key_len, "bb") && is_text(value, value_len, "longer"));
  EXPECT(strcmp(keys_of(scan), "cde") == 0);
  OK(store_scan_free(NULL));
}

static void test_snapshots(store_db* db) {
  store_snapshot* snapshot;
  store_scan* scan;
  void *value, *values[2];
  size_t len, lens[2];
  const void* keys[2] = {"a", "new"};
  const size_t key_lens[2] = {1, 3};

  OK(store_snapshot_create(db, &snapshot));
  OK(put(db, "a", "changed"));
  OK(put(db, "new", "n"));
  OK(store_snapshot_get(snapshot, "a", 1, &value, &len));
  EXPECT(is_text(value, len, "a"));
  store_free(value);
  EXPECT(store_snapshot_get(snapshot, "new", 3, &value, &len) == STORE_KEY_NOT_FOUND);
  OK(store_snapshot_contains(snapshot, "a", 1));
  EXPECT(store_snapshot_contains(snapshot, "new", 3) == STORE_KEY_NOT_FOUND);
  OK(store_snapshot_get_many(snapshot, 2, keys, key_lens, values, lens));
  EXPECT(is_text(values[0], lens[0], "a") && values[1] == NULL);
  store_free(values[0]);
  OK(store_snapshot_scan_prefix(snapshot, "n", 1, NULL, &scan));
  EXPECT(strcmp(keys_of(scan), "") == 0);
  OK(store_snapshot_scan(snapshot, NULL, &scan));
  OK(store_snapshot_free(snapshot));
  EXPECT(strcmp(keys_of(scan), "abbcde") == 0); /* it outlives its snapshot */
  OK(store_snapshot_free(NULL));
}

static void count_finding(void* context, const char* finding) {
  fprintf(stderr, "%s\n", finding);
  ++*(int*)context;
}

/* Letters up to and without `end`, then `outcome`. */
struct letters {
  char next, end;
  int outcome;
  store_db* db;
};

static int next_letter(void* context, const void** key, size_t* key_len, const void** value, size_t* value_len) {
  struct letters* const letters = context;
  if (letters->next == letters->end) return letters->outcome;
  if (letters->db != NULL) {
    EXPECT(store_flush(letters->db) == STORE_ERROR_INVALID_ARGUMENT);
    EXPECT(store_close(letters->db) == STORE_ERROR_INVALID_ARGUMENT);
  }
  ++letters->next;
  *key = &letters->next;
  *key_len = 1;
  *value = &letters->end;
  *value_len = 1;
  return STORE_OK;
}

static void test_bulk_load(const char* path) {
  struct letters letters = {'a', 'a', STORE_ERROR_IO_ERROR, NULL};
  uint64_t entries = 7, bytes;
  store_db* db;
  OK(store_open(path, NULL, &db));
  letters.end = 'f';
  EXPECT(store_bulk_load(db, next_letter, &letters, &entries) == STORE_ERROR_IO_ERROR && entries == 0);
  EXPECT(strstr(store_last_error(), "source") != NULL && strstr(store_last_error(), "io_error") != NULL);
  EXPECT(store_bulk_load(db, next_letter, &letters, NULL) == STORE_ERROR_IO_ERROR);
  letters.outcome = STORE_KEY_NOT_FOUND;
  EXPECT(store_bulk_load(db, next_letter, &letters, NULL) == STORE_ERROR_INVALID_ARGUMENT);
  letters.outcome = 12345;
  EXPECT(store_bulk_load(db, next_letter, &letters, NULL) == STORE_ERROR_INVALID_ARGUMENT);
  letters.outcome = STORE_END;
  OK(store_bulk_load(db, next_letter, &letters, &entries));
  EXPECT(entries == 0);
  letters.next = 'a';
  letters.db = db;
  OK(store_bulk_load(db, next_letter, &letters, &entries));
  EXPECT(entries == 5 && has(db, "b", "f") && has(db, "f", "f"));
  letters.next = 'f';
  letters.end = 'h';
  letters.db = NULL;
  EXPECT(store_bulk_load(db, next_letter, &letters, &entries) == STORE_ERROR_INVALID_ARGUMENT); /* it is not empty */

  OK(store_approximate_range(db, NULL, 0, NULL, 0, &entries, &bytes));
  EXPECT(entries == 5 && bytes == 4096);
  OK(store_approximate_range(db, "x", 1, "", 0, &entries, NULL));
  EXPECT(entries == 0);
  OK(store_close(db));
}

static void expect_text(store_db* db, const char* name, const char* wanted) {
  char* text;
  OK(store_stat_text(db, name, &text));
  EXPECT(text != NULL && strcmp(text, wanted) == 0);
  store_free(text);
}

static void test_texts(store_db* db, const char* copy) {
  store_db *copied, *both[2];
  store_snapshot* snapshot;
  const char* names[2] = {"one", "say \"two\""};
  char *uuid, *text, origin[64];
  uint64_t generation;
  size_t i;

  for (i = 0; store_stat_text_name(i) != NULL; ++i) {
    OK(store_stat_text(db, store_stat_text_name(i), &text));
    store_free(text);
  }
  EXPECT(i == 5);
  OK(store_stat_text(db, "uuid", &uuid));
  EXPECT(strlen(uuid) == 36);
  expect_text(db, "origin", "");
  expect_text(db, "open_notes", "");
  expect_text(db, "poisoned", "");
  expect_text(db, "snapshots", "");
  OK(store_snapshot_create(db, &snapshot));
  OK(store_stat_text(db, "snapshots", &text));
  EXPECT(strchr(text, '\n') == text + strlen(text) - 1);
  store_free(text);
  OK(store_snapshot_free(snapshot));

  OK(store_stat(db, "generation", &generation));
  OK(store_open(copy, NULL, &copied));
  OK(store_stat_text(copied, "origin", &text));
  sprintf(origin, "%.40s %lu", uuid, (unsigned long)generation);
  EXPECT(strcmp(text, origin) == 0);
  store_free(text);
  store_free(uuid);

  both[0] = db;
  both[1] = copied;
  OK(store_prometheus(2, both, names, &text));
  EXPECT(strstr(text, "\nstore_entries{store=\"one\"} 7\nstore_entries{store=\"say \\\"two\\\"\"} 7\n") != NULL);
  store_free(text);
  OK(store_prometheus(1, both, NULL, &text));
  EXPECT(strstr(text, "\nstore_entries 7\n") != NULL);
  store_free(text);
  OK(store_close(copied));
}

static void test_upkeep(store_db* db, const char* copy) {
  store_backup_options options;
  store_db* copied;
  uint64_t generation, next, value, freed, moved;
  int findings = 0, finished = 0, calls = 0;
  size_t i;

  OK(store_sync(db));
  OK(store_flush(db));
  OK(store_stat(db, "entries", &value));
  EXPECT(value == 7);
  OK(store_stat(db, "sync_count", &value));
  EXPECT(value == 1);
  OK(store_stat(db, "sync_p99_ns", &value));
  EXPECT(value > 0);
  for (i = 0; store_stat_name(i) != NULL; ++i) OK(store_stat(db, store_stat_name(i), &value));
  EXPECT(i > 60);
  OK(store_compact(db, &freed));
  OK(store_compact(db, NULL));
  while (!finished && ++calls < 100) OK(store_compact_step(db, 4096, &finished, &moved, &freed));
  EXPECT(finished == 1 && moved == 0);
  OK(store_compact_step(db, 0, NULL, NULL, NULL));
  OK(store_check(db, count_finding, &findings));
  EXPECT(findings == 0);

  OK(store_backup(db, copy, NULL, &generation));
  EXPECT(generation > 0);
  EXPECT(store_backup(db, copy, NULL, &next) == STORE_ERROR_ALREADY_EXISTS && next == 0);
  OK(put(db, "a", "later"));
  OK(store_backup_options_init(&options));
  options.since = generation;
  OK(store_backup(db, copy, &options, &next));
  EXPECT(next > generation);
  options.since = STORE_BACKUP_OF_TARGET;
  OK(store_backup(db, copy, &options, NULL));
  OK(store_open(copy, NULL, &copied));
  EXPECT(has(copied, "a", "later"));
  OK(store_close(copied));
  options.since = 0;
  options.overwrite = 1;
  OK(store_backup(db, copy, &options, NULL));
}

static void test_open(const char* path, const char* missing) {
  store_options options;
  store_db *db, *second;
  OK(store_options_init(&options));
  options.create = 0;
  EXPECT(store_open(missing, &options, &db) == STORE_ERROR_NOT_FOUND && db == NULL);
  EXPECT(strstr(store_last_error(), missing) != NULL);
  options.read_only = 1;
  options.wal_mode = STORE_WAL_PER_OP;
  OK(store_open(path, &options, &db));
  EXPECT(has(db, "a", "later"));
  EXPECT(put(db, "a", "x") == STORE_ERROR_READ_ONLY);
  OK(store_close(db));
  options.read_only = 0;
  OK(store_open(path, &options, &db));
  EXPECT(store_open(path, &options, &second) == STORE_ERROR_LOCKED && second == NULL);
  OK(store_close(db));
  OK(store_close(NULL));
  EXPECT(store_open("/dev/null/x", NULL, &db) > 0);
}

int main(int argc, char** argv) {
  char path[4096], copy[4096], missing[4096];
  store_options options;
  store_db* db = NULL;
  if (argc != 2) return 2;
  sprintf(path, "%.4000s/db", argv[1]);
  sprintf(copy, "%.4000s/copy", argv[1]);
  sprintf(missing, "%.4000s/missing", argv[1]);
  remove(path);
  remove(copy);

  EXPECT(strcmp(store_last_error(), "") == 0 && store_last_os_error() == 0);
  test_versions();
  OK(store_options_init(&options));
  options.cache_bytes = 1 << 20;
  options.write_buffer_bytes = 1 << 20;
  options.wal_mode = STORE_WAL_NONE;
  OK(store_open(path, &options, &db));
  if (db != NULL) {
    test_keys(db);
    test_batches(db);
    test_scans(db);
    test_snapshots(db);
    test_upkeep(db, copy);
    test_texts(db, copy);
    OK(store_close(db));
    test_open(path, missing);
    remove(copy);
    test_bulk_load(copy);
  }
  if (failures != 0) fprintf(stderr, "%d expectations failed\n", failures);
  return failures == 0 ? 0 : 1;
}
