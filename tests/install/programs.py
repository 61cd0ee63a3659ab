"""What the tests of this folder compile and run: a program for each language that prints what it put into a store, named by its argument."""
import subprocess

CXX = r"""#include <cstdio>
#include <store/store.hpp>
int main(int, char** argv) {
  store::Store db = store::Store::open(argv[1]);
  db.put("greeting", "hello");
  store::CompletionQueue queue;
  store::AsyncStore(db, queue).get("greeting", [](std::exception_ptr, std::optional<std::string> value) {
    std::printf("%s\n", value->c_str());
  });
  while (queue.run() == 0) {
  }
}
"""
C = r"""#include <stdio.h>
#include <store/store.h>
int main(int argc, char** argv) {
  store_options options;
  store_db* db = NULL;
  void* value = NULL;
  size_t size = 0;
  (void)argc;
  store_options_init(&options);
  if (store_open(argv[1], &options, &db) != STORE_OK) return 1;
  if (store_put(db, "greeting", 8, "hello", 5) != STORE_OK) return 4;
  if (store_get(db, "greeting", 8, &value, &size) != STORE_OK) return 2;
  printf("%.*s\n", (int)size, (const char*)value);
  store_free(value);
  return store_close(db) == STORE_OK ? 0 : 3;
}
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout[-5000:]}{done.stderr[-5000:]}")
    return done.stdout
