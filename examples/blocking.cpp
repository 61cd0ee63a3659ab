// The blocking store: no event loop, no coroutines; any thread may call.
#include <cstdio>
#include <store/store.hpp>

int main() {
  store::Store db = store::Store::open("/tmp/blocking.db", {.cache_bytes = 64 << 20});
  db.put("hello", "world");
  db.put("goodbye", "moon");
  const std::optional<std::string> value = db.get("hello");
  std::printf("hello = %s\n", value->c_str());
  for (const auto& [key, text] : db.scan("a", "z")) {
    std::printf("%.*s = %.*s\n", int(key.size()), key.data(), int(text.size()), text.data());
  }
  db.close();
}
