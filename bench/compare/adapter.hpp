// What an engine must do to be compared. The store performs the clients' operations in tasks (store_adapter.cpp); a peer in threads, each
// with a Session of its own, by run_peer().
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "workload.hpp"

namespace comparison {

// What an adapter has to say about itself.
struct Report {
  std::string configuration;       // in the engine's own words
  std::uint64_t budget_bytes = 0;  // of memory, which the engine was told to stay within; 0 when it takes none
  std::map<std::string, double> counters;
};

// One engine for one run. run() and load() open the store, do their work and close it.
class Adapter {
 public:
  Adapter() = default;
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;
  virtual ~Adapter() = default;

  // Fills a new store from `source`, in the way that is best for sorted entries if it is sorted. What was loaded is durable, and lies
  // where a reader of a settled store finds it, when `settled` is called, once.
  virtual Report load(const Options& options, Source& source, const std::function<void()>& settled) = 0;
  // Opens a store that was loaded, warms it if told to, lets the clients work from run.start() on, and closes it.
  virtual Report run(Run& run, std::span<Client> clients) = 0;
};

class Session {
 public:
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  virtual ~Session() = default;

  // Each calls the client's found() or absent() for its keys: with a copy of the value, but for get_pinned().
  virtual void get(Client& client) = 0;
  virtual void get_pinned(Client& client) = 0;
  virtual void get_many(Client& client) = 0;
  virtual void put(std::string_view key, std::string_view value) = 0;
  // Gives entries from the first key >= `from` on to `take`, until that returns false or there are no more.
  using Take = std::function<bool(std::string_view key, std::string_view value)>;
  virtual void scan(std::string_view from, const Take& take) = 0;
  // Ends what is begun: a transaction of many writes, a view of the past.
  virtual void finish() {}
};

class Peer {
 public:
  Peer() = default;
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  virtual ~Peer() = default;

  virtual std::unique_ptr<Session> session() = 0;
  // Loads a new store in ascending order of the keys.
  virtual void load_sorted(Source& source) = 0;
  // What was put is durable and in the engine's tables when it ends.
  virtual void flush() = 0;
  // All that the engine would do by and by is done when it ends.
  virtual void settle() { flush(); }
  virtual Report report() = 0;
};

using OpenPeer = std::unique_ptr<Peer> (*)(const Options&);
std::unique_ptr<Adapter> make_peer_adapter(OpenPeer open);

std::unique_ptr<Adapter> make_store_adapter();
std::unique_ptr<Peer> open_lmdb(const Options& options);
std::unique_ptr<Peer> open_rocksdb(const Options& options);
std::unique_ptr<Peer> open_wiredtiger(const Options& options);

// Whether the load of these options is to be in ascending order.
bool is_sorted_load(const Options& options);

}  // namespace comparison
