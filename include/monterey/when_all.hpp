// when_all: runs tasks at the same time and waits for all of them. They are started in order, each up to its first
// suspension, inside the await; none needs a frame of its own for it. If some fail, all are still waited for, and the
// error of the first in order is thrown. The tasks live in when_all's frame.
#pragma once

#include <coroutine>
#include <cstddef>
#include <monterey/task.hpp>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace monterey {
namespace detail {

// Starts tasks through `start`, which is called once with the latch, and waits until all have arrived.
template <class Start>
class [[nodiscard]] StartAll {
 public:
  StartAll(std::size_t count, Start start) noexcept : start_(start) { latch_.left = count; }

  bool await_ready() const noexcept { return latch_.left == 0; }
  bool await_suspend(std::coroutine_handle<> waiter) {
    start_(latch_);
    if (latch_.left == 0) {
      if (!consume_budget(1)) return false;
      latch_.node.park(waiter);
      return true;
    }
    latch_.node.hold(waiter);
    return true;
  }
  void await_resume() noexcept {}

 private:
  Latch latch_;
  Start start_;
};

template <class... Ts>
struct StartTuple {
  std::tuple<Task<Ts>...>* tasks;
  void operator()(Latch& latch) const {
    std::apply([&latch](auto&... task) { (task.start(latch), ...); }, *tasks);
  }
};

template <class T>
struct StartVector {
  std::vector<Task<T>>* tasks;
  void operator()(Latch& latch) const {
    for (Task<T>& task : *tasks) task.start(latch);
  }
};

template <class T>
using WhenAllPart = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

template <class T>
WhenAllPart<T> take_part(Task<T>& task) {
  if constexpr (std::is_void_v<T>) {
    task.result().take();
    return std::monostate{};
  } else {
    return task.result().take();
  }
}

}  // namespace detail

// Awaits to a tuple of the results in order, std::monostate for void; to void if all tasks are void.
template <class... Ts>
requires(sizeof...(Ts) > 0 &&
         !(std::is_void_v<Ts> && ...)) Task<std::tuple<detail::WhenAllPart<Ts>...>> when_all(Task<Ts>... parts) {
  std::tuple<Task<Ts>...> tasks(std::move(parts)...);
  detail::StartTuple<Ts...> start{&tasks};
  co_await detail::StartAll<detail::StartTuple<Ts...>>(sizeof...(Ts), start);
  // Braces: evaluated in order, so the first error in order is the one thrown.
  co_return std::apply([](auto&... task) { return std::tuple<detail::WhenAllPart<Ts>...>{detail::take_part(task)...}; },
                       tasks);
}

template <class... Ts>
requires(sizeof...(Ts) > 0 && (std::is_void_v<Ts> && ...)) Task<> when_all(Task<Ts>... parts) {
  std::tuple<Task<Ts>...> tasks(std::move(parts)...);
  detail::StartTuple<Ts...> start{&tasks};
  co_await detail::StartAll<detail::StartTuple<Ts...>>(sizeof...(Ts), start);
  std::apply([](auto&... task) { (task.result().take(), ...); }, tasks);
}

// Awaits to the results in order. Pass a named, moved vector: g++ 12 refuses a braced list in an await expression.
template <class T>
requires(!std::is_void_v<T>) Task<std::vector<T>> when_all(std::vector<Task<T>> tasks) {
  detail::StartVector<T> start{&tasks};
  co_await detail::StartAll<detail::StartVector<T>>(tasks.size(), start);
  std::vector<T> results;
  results.reserve(tasks.size());
  for (Task<T>& task : tasks) results.push_back(task.result().take());
  co_return results;
}

inline Task<> when_all(std::vector<Task<>> tasks) {
  detail::StartVector<void> start{&tasks};
  co_await detail::StartAll<detail::StartVector<void>>(tasks.size(), start);
  for (Task<>& task : tasks) task.result().take();
}

}  // namespace monterey
