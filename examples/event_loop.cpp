#include <poll.h>
#include <cstdio>
#include <store/store.hpp>

int main() {
  const store::Store db = store::Store::open("/tmp/event-loops.db");
  store::CompletionQueue queue;
  store::AsyncStore async(db, queue);
  bool over = false;
  async.put("hello", "world", [&](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);  // comes out of run()
    async.get("hello", [&](std::exception_ptr failed, std::optional<std::string> value) {
      if (failed) std::rethrow_exception(failed);
      std::printf("hello = %s\n", value->c_str());
      over = true;
    });
  });
  while (!over) {
    pollfd watched{.fd = queue.fd(), .events = POLLIN, .revents = 0};
    ::poll(&watched, 1, -1);
    queue.run();
  }
}
