// A store in a program whose event loop is Asio's: its coroutines await the store, and no thread waits for it.
#include <asio.hpp>
#include <cstdio>
#include <store/store.hpp>

// Has the loop call the callbacks of stores.
class StoreQueue {
 public:
  explicit StoreQueue(asio::io_context& loop) : watched_(loop, queue_.fd()) { watch(); }
  ~StoreQueue() { watched_.release(); }  // the descriptor is the queue's

  store::CompletionQueue& queue() { return queue_; }
  void stop() {
    stopped_ = true;
    watched_.cancel();
  }

 private:
  void watch() {
    watched_.async_wait(asio::posix::stream_descriptor::wait_read, [this](asio::error_code stopped) {
      if (stopped) return;
      queue_.run();
      if (!stopped_) watch();  // a callback may have stopped it
    });
  }

  store::CompletionQueue queue_;
  asio::posix::stream_descriptor watched_;
  bool stopped_ = false;
};

// What a call of an AsyncStore tells its callback, awaited.
template <class... T, class Start>
auto told(Start start) {
  return asio::async_initiate<const asio::use_awaitable_t<>, void(std::exception_ptr, T...)>(
      [](auto done, Start begin) { begin(std::move(done)); }, asio::use_awaitable, std::move(start));
}

asio::awaitable<void> hello(store::AsyncStore db) {
  co_await told<>([&](auto done) { db.put("hello", "world", std::move(done)); });
  const auto value =
      co_await told<std::optional<std::string>>([&](auto done) { db.get("hello", std::move(done)); });
  std::printf("hello = %s\n", value->c_str());
  store::AsyncScan scan = db.scan("a", "z");
  for (;;) {
    const auto entries =
        co_await told<std::vector<store::AsyncScan::Entry>>([&](auto done) { scan.next(std::move(done)); });
    if (entries.empty()) break;
    for (const auto& [key, text] : entries) std::printf("%s = %s\n", key.c_str(), text.c_str());
  }
}

int main() {
  const store::Store db = store::Store::open("/tmp/asio.db");
  asio::io_context loop;
  StoreQueue queue(loop);
  asio::co_spawn(loop, hello(store::AsyncStore(db, queue.queue())), [&queue](std::exception_ptr error) {
    queue.stop();
    if (error) std::rethrow_exception(error);
  });
  loop.run();
}
