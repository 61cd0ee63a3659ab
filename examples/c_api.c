/* The store from C: gcc -Iinclude c_api.c -lstore */
#include <stdio.h>
#include <stdlib.h>
#include <store/store.h>

static void check(store_code code) {
  if (code > 0) { /* outcomes that are no failures are negative */
    fprintf(stderr, "%s: %s\n", store_code_name(code), store_last_error());
    exit(1);
  }
}

int main(int argc, char **argv) {
  store_options options;
  store_db *db;
  void *value;
  size_t value_len;
  store_batch *batch;
  store_scan_options range;
  store_scan *scan;
  const void *key;
  const void *text;
  size_t key_len, text_len;

  check(store_options_init(&options));
  options.cache_bytes = 16 << 20;
  check(store_open(argc > 1 ? argv[1] : "/tmp/c.db", &options, &db));

  check(store_put(db, "hello", 5, "world", 5));
  check(store_get(db, "hello", 5, &value, &value_len));
  printf("hello = %.*s\n", (int)value_len, (const char *)value);
  store_free(value);
  if (store_get(db, "bye", 3, &value, &value_len) == STORE_KEY_NOT_FOUND) puts("bye is not there");

  check(store_batch_create(&batch)); /* all of it or nothing */
  check(store_batch_put(batch, "apple", 5, "red", 3));
  check(store_batch_put(batch, "pear", 4, "green", 5));
  check(store_batch_expect(batch, "hello", 5, "world", 5));
  check(store_write(db, batch));
  check(store_batch_free(batch));

  check(store_scan_options_init(&range)); /* from "b" on, the last first */
  range.lower = "b";
  range.lower_len = 1;
  range.lower_bound = STORE_INCLUSIVE;
  range.reverse = 1;
  check(store_scan_create(db, &range, &scan));
  while (store_scan_next(scan, &key, &key_len, &text, &text_len) == STORE_OK) {
    printf("%.*s = %.*s\n", (int)key_len, (const char *)key, (int)text_len, (const char *)text);
  }
  check(store_scan_free(scan));

  check(store_close(db));
  return 0;
}
