// What g++ 12 makes of coroutines, pattern by pattern. The faults are reproduced, so that a compiler that has lost
// them shows here (and the rules that they forced on us may go); the patterns that this project uses instead are
// shown to be sound with every compiler. Each test counts constructions and destructions: a temporary destroyed twice
// frees its memory twice.
//
// The rules (docs: style of coroutines): 1. An aggregate temporary with a member that is not trivially destructible,
// in an expression with co_await: destroyed twice.
//     Options structs are therefore trivially destructible; what owns memory has a constructor.
// 2. The same for a temporary closure with such a capture: pass trivially destructible closures, or named ones. 3. A
// braced list that becomes a vector or an initializer_list inside such an expression does not compile: name the
// vector. 4. A capturing lambda that is a coroutine refers to its closure: keep it as long as the task, or pass
// parameters by value. 5. Tail calls between coroutines exist only with optimisation:
// Task.TenMillionReadyAwaitsInALoop in task_test.cpp. 6. A lazy coroutine that declares nothing in its body and has a
// co_await in a condition never starts: await into a variable and test that.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <coroutine>
#include <exception>
#include <memory>
#include <monterey/detail/reactor.hpp>
#include <monterey/monterey.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "unit/monterey/core_harness.hpp"

namespace monterey {
namespace {

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
constexpr bool kFaultyCompiler = true;
#else
constexpr bool kFaultyCompiler = false;
#endif

int alive = 0;

struct Owner {
  Owner() { ++alive; }
  Owner(const Owner&) { ++alive; }
  Owner(Owner&&) noexcept { ++alive; }
  Owner& operator=(const Owner&) = default;
  ~Owner() { --alive; }
};

struct OwningOptions {  // an aggregate that owns: the faulty kind
  int level = 0;
  Owner owner = {};
};
struct OwningClass {  // what owns has a constructor
  explicit OwningClass(int l) : level(l) {}
  int level;
  Owner owner;
};
struct PlainOptions {  // the kind that the API uses
  int level = 0;
  const char* name = "";
};

Task<> by_value(OwningOptions) { co_return; }
Task<> by_reference(const OwningOptions&) { co_return; }
Task<> takes_class(OwningClass) { co_return; }
Task<> takes_owner(Owner) { co_return; }
Task<int> takes_plain(PlainOptions options) {
  co_await yield();
  co_return options.level + options.name[0];
}
Task<> call(auto fn) { co_await fn(); }
Task<> nothing() { co_return; }
Task<> waits() { co_await yield(); }

// Objects that were destroyed more often than made, after `task` has run.
int surplus_destructions(Task<> (*body)()) {
  alive = 0;
  test::run_on_core(body());
  return -alive;
}
constexpr int kFault = kFaultyCompiler ? 1 : 0;

TEST(CoroutineFaults, AggregateTemporariesThatOwn) {
  EXPECT_EQ(surplus_destructions([]() -> Task<> { co_await by_value({.level = 1}); }), kFault);
  EXPECT_EQ(surplus_destructions([]() -> Task<> { co_await by_value({}); }), kFault);
  EXPECT_EQ(surplus_destructions([]() -> Task<> { co_await by_value(OwningOptions{.level = 1}); }), kFault);
  EXPECT_EQ(surplus_destructions([]() -> Task<> { co_await by_reference({.level = 1}); }), kFault);
}

TEST(CoroutineFaults, TemporaryClosuresThatOwn) {
  EXPECT_EQ(surplus_destructions([]() -> Task<> { co_await call([o = Owner()] { return nothing(); }); }), kFault);
  EXPECT_EQ(surplus_destructions([]() -> Task<> { co_await spawn_on(0, [o = Owner()] { return waits(); }); }), kFault);
}

TEST(CoroutineFaults, SoundPatterns) {
  // Named aggregates and closures, classes with constructors, and temporaries of classes.
  EXPECT_EQ(surplus_destructions([]() -> Task<> {
              OwningOptions options{.level = 1};
              co_await by_value(std::move(options));
              co_await by_reference(options);
            }),
            0);
  EXPECT_EQ(surplus_destructions([]() -> Task<> { co_await takes_class(OwningClass(1)); }), 0);
  EXPECT_EQ(surplus_destructions([]() -> Task<> { co_await takes_owner(Owner()); }), 0);
  EXPECT_EQ(surplus_destructions([]() -> Task<> {
              auto fn = [o = Owner()] { return waits(); };
              co_await call(fn);
              co_await spawn_on(0, fn);
              co_await spawn_on(0, std::move(fn));
            }),
            0);
  // Tasks of several kinds in one expression, each moved into the frame of when_all.
  EXPECT_EQ(surplus_destructions(
                []() -> Task<> { co_await when_all(takes_owner(Owner()), takes_class(OwningClass(2)), waits()); }),
            0);
  EXPECT_EQ(surplus_destructions([]() -> Task<> {
              Channel<Owner> channel(1);
              co_await channel.push(Owner());
              static_cast<void>(co_await channel.pop());
              co_await spawn(takes_owner(Owner()));
            }),
            0);
  // An operation that is not awaited after all, and one that throws.
  EXPECT_EQ(surplus_destructions([]() -> Task<> {
              static_cast<void>(takes_owner(Owner()));
              auto fails = [](Owner) -> Task<> {
                co_await yield();
                throw 1;
              };
              try {
                co_await fails(Owner());
              } catch (int) {
              }
            }),
            0);
}

TEST(CoroutineFaults, PlainOptionsInAnAwaitExpression) {
  auto body = []() -> Task<> {
    EXPECT_EQ(co_await takes_plain({.level = 3, .name = "\x01"}), 4);
    EXPECT_EQ(co_await takes_plain({}), 0);
    EXPECT_EQ(co_await takes_plain(PlainOptions{.level = 2}), 2);
  };
  test::run_on_core(body());
}

// Rule 3 is about what does not compile, so that only the other way can be shown.
TEST(CoroutineFaults, NamedVectors) {
  auto body = []() -> Task<> {
    std::vector<Task<>> tasks;
    tasks.push_back(nothing());
    tasks.push_back(waits());
    co_await when_all(std::move(tasks));
  };
  test::run_on_core(body());
}

// A lazy coroutine and nothing else; what it runs is over after one resume().
struct Lazy {
  struct promise_type {
    Lazy get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
  std::coroutine_handle<promise_type> handle;
};
struct ReadyTrue {
  bool await_ready() const { return true; }
  void await_suspend(std::coroutine_handle<>) const {}
  bool await_resume() const { return true; }
};
Lazy tests_an_await(bool* ran) {
  if (co_await ReadyTrue{}) *ran = true;
}
Lazy tests_a_variable(bool* ran) {
  const bool value = co_await ReadyTrue{};
  if (value) *ran = true;
}

// In a process of its own, since a lost body is undefined: the resumption returns or traps, as the optimiser likes.
TEST(CoroutineFaults, BodyThatDeclaresNothingAndTestsAnAwait) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    bool ran = false;
    tests_an_await(&ran).handle.resume();
    _exit(ran ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  const bool ran = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  EXPECT_EQ(ran, !kFaultyCompiler);
}

TEST(CoroutineFaults, AwaitIntoAVariableThenTest) {
  bool ran = false;
  const Lazy sound = tests_a_variable(&ran);
  sound.handle.resume();
  EXPECT_TRUE(ran);
  EXPECT_TRUE(sound.handle.done());
  sound.handle.destroy();
}

// Every options struct of the runtime may stand as a braced temporary in an await expression.
template <class Options>
constexpr bool kSafeAsTemporary = std::is_aggregate_v<Options>&& std::is_trivially_destructible_v<Options>;
static_assert(kSafeAsTemporary<OpenOptions>);
static_assert(kSafeAsTemporary<BufferConfig>);
static_assert(kSafeAsTemporary<detail::ReactorOptions>);
static_assert(kSafeAsTemporary<PlainOptions> && !kSafeAsTemporary<OwningOptions>);

// And what owns is no aggregate, so that a temporary of it is safe too.
static_assert(!std::is_aggregate_v<Task<>> && !std::is_aggregate_v<Task<>::Awaiter>);
static_assert(!std::is_aggregate_v<JoinHandle<>> && !std::is_aggregate_v<JoinHandle<>::Awaiter>);
static_assert(!std::is_aggregate_v<Semaphore::Acquire> && !std::is_aggregate_v<Semaphore::Units>);
static_assert(!std::is_aggregate_v<Mutex::Lock> && !std::is_aggregate_v<Mutex::Guard>);
static_assert(!std::is_aggregate_v<Event::Wait> && !std::is_aggregate_v<Gate::Close> &&
              !std::is_aggregate_v<Gate::Holder>);
static_assert(!std::is_aggregate_v<Channel<Owner>::Push> && !std::is_aggregate_v<Channel<Owner>::Pop>);
static_assert(!std::is_aggregate_v<detail::Sleep> && !std::is_aggregate_v<detail::Yield>);
static_assert(!std::is_aggregate_v<File> && !std::is_aggregate_v<FixedBuf>);

}  // namespace
}  // namespace monterey
