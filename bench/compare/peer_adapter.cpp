#include <chrono>
#include <exception>
#include <mutex>
#include <thread>

#include "adapter.hpp"

namespace comparison {
namespace {

void perform(Peer& peer, Session& session, Client& client) {
  switch (client.verb()) {
    case Verb::get:
    case Verb::get_into: session.get(client); break;
    case Verb::get_pinned: session.get_pinned(client); break;
    case Verb::get_many: session.get_many(client); break;
    case Verb::put: session.put(client.key(), client.value()); break;
    case Verb::read_modify_write:
      session.get(client);
      session.put(client.key(), client.value());
      break;
    case Verb::scan:
      session.scan(client.key(),
                   [&client](std::string_view key, std::string_view value) { return client.entry(key, value); });
      break;
    case Verb::flush:
      session.finish();
      peer.flush();
      break;
    case Verb::rest: std::this_thread::sleep_for(std::chrono::milliseconds(kRestMs)); break;
  }
}

class PeerAdapter final : public Adapter {
 public:
  explicit PeerAdapter(OpenPeer open) : open_(open) {}

  Report load(const Options& options, Source& source, const std::function<void()>& settled) override {
    const std::unique_ptr<Peer> peer = open_(options);
    if (is_sorted_load(options)) {
      peer->load_sorted(source);
    } else {
      const std::unique_ptr<Session> session = peer->session();
      std::string_view key;
      std::string_view value;
      while (source.next(key, value)) session->put(key, value);
      session->finish();
    }
    peer->settle();
    settled();
    return peer->report();
  }

  Report run(Run& run, std::span<Client> clients) override {
    const std::unique_ptr<Peer> peer = open_(run.options());
    if (run.options().warm) {
      const std::unique_ptr<Session> session = peer->session();
      session->scan({}, [](std::string_view, std::string_view) { return true; });
    }
    run.start();
    std::vector<std::jthread> threads;
    for (Client& client : clients) threads.emplace_back([&] { work(*peer, client); });
    threads.clear();
    if (failure_) std::rethrow_exception(failure_);
    return peer->report();
  }

 private:
  void work(Peer& peer, Client& client) noexcept {
    try {
      const std::unique_ptr<Session> session = peer.session();
      while (client.next()) {
        perform(peer, *session, client);
        client.done();
      }
      session->finish();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
    }
  }

  OpenPeer open_;
  std::mutex mutex_;
  std::exception_ptr failure_;
};

}  // namespace

std::unique_ptr<Adapter> make_peer_adapter(OpenPeer open) { return std::make_unique<PeerAdapter>(open); }

}  // namespace comparison
