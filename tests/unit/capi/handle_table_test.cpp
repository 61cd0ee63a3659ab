// The table behind the handles, where the calls of the API do not reach.
#include "store/capi/handle_table.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

namespace store::capi {
namespace {

struct Handle;
using Table = HandleTable<int, Handle, 7>;

template <class Fn>
Errc errc_of(Fn fn) {
  try {
    fn();
  } catch (const Error& error) {
    return error.errc();
  }
  ADD_FAILURE() << "no error was thrown";
  return Errc{};
}

TEST(CapiHandleTable, HandlesLeadToTheirObjects) {
  static constinit Table table("number");
  std::vector<Handle*> handles;
  constexpr int kMany = 5000;  // more than a few chunks
  for (int i = 0; i < kMany; ++i) handles.push_back(table.insert(std::make_unique<int>(i)));
  EXPECT_EQ(std::set<Handle*>(handles.begin(), handles.end()).size(), handles.size());
  for (int i = 0; i < kMany; ++i) EXPECT_EQ(*Table::Use(table, handles[static_cast<std::size_t>(i)]), i);
  for (int i = 0; i < kMany; ++i) EXPECT_EQ(*table.remove(handles[static_cast<std::size_t>(i)]), i);
}

TEST(CapiHandleTable, ASlotThatIsUsedAgainHasAnotherHandle) {
  static constinit Table table("number");
  std::set<Handle*> seen;
  for (int i = 0; i < 1000; ++i) {
    Handle* const handle = table.insert(std::make_unique<int>(i));
    EXPECT_TRUE(seen.insert(handle).second);
    EXPECT_EQ(*table.remove(handle), i);
    for (Handle* const old : {*seen.begin(), handle}) {
      EXPECT_EQ(errc_of([&] { const Table::Use use(table, old); }), Errc::closed);
      EXPECT_EQ(errc_of([&] { static_cast<void>(table.remove(old)); }), Errc::closed);
    }
  }
}

TEST(CapiHandleTable, WhoRemovesWaitsForTheLastUse) {
  static constinit Table table("number");
  for (int i = 0; i < 200; ++i) {
    Handle* const handle = table.insert(std::make_unique<int>(1));
    std::atomic<bool> used{false};
    std::atomic<bool> let_go{false};
    std::thread user([&] {
      const Table::Use use(table, handle);
      used = true;
      while (errc_of([&] { const Table::Use other(table, handle, Table::Sharing::one_thread); }) != Errc::closed) {
      }
      let_go = true;
      ++*use;
    });
    while (!used) std::this_thread::yield();
    EXPECT_EQ(*table.remove(handle), 2);
    EXPECT_TRUE(let_go);
    user.join();
  }
}

TEST(CapiHandleTable, AChildOfForkDoesNotWaitForCallsOfTheParent) {
  static constinit Table table("number");
  Handle* const handle = table.insert(std::make_unique<int>(1));
  const Table::Use use(table, handle);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(20);
    ::_exit(table.remove(handle) == nullptr ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(CapiHandleTable, ThreadsTakeAndGiveBackSlots) {
  static constinit Table table("number");
  static std::atomic<int> started{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      ++started;
      while (started < 4) std::this_thread::yield();
      for (int i = 0; i < 100000; ++i) {
        Handle* const first = table.insert(std::make_unique<int>(t));
        Handle* const second = table.insert(std::make_unique<int>(~t));
        ASSERT_EQ(*Table::Use(table, first), t);
        ASSERT_EQ(*table.remove(first), t);
        ASSERT_EQ(*table.remove(second), ~t);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace store::capi
