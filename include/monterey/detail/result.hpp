// What a coroutine leaves behind: nothing yet, a value or an error. Owned by its promise; taken once, on the core
// that filled it.
#pragma once

#include <exception>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace monterey::detail {

[[noreturn]] void result_misused() noexcept;

template <class T>
class Result {
  static_assert(std::is_object_v<T>, "a task returns an object or void");

 public:
  Result() noexcept : nothing_() {}
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  ~Result() {
    if (state_ == State::value) std::destroy_at(std::addressof(value_));
    if (state_ == State::error) std::destroy_at(std::addressof(error_));
  }

  template <class U>
  void set_value(U&& value) {
    ::new (static_cast<void*>(std::addressof(value_))) T(std::forward<U>(value));
    state_ = State::value;
  }
  void set_error(std::exception_ptr error) noexcept {
    // A value is there when the coroutine threw after `co_return`: a destructor of its locals did.
    if (state_ == State::value) std::destroy_at(std::addressof(value_));
    ::new (static_cast<void*>(std::addressof(error_))) std::exception_ptr(std::move(error));
    state_ = State::error;
  }
  bool has_error() const noexcept { return state_ == State::error; }
  std::exception_ptr take_error() noexcept { return std::move(error_); }
  // Returns the value or throws the error.
  T take() {
    if (state_ == State::value) [[likely]]
      return std::move(value_);
    if (state_ != State::error) result_misused();
    std::rethrow_exception(std::move(error_));
  }

 private:
  enum class State : unsigned char { nothing, value, error };
  union {
    char nothing_;
    T value_;
    std::exception_ptr error_;
  };
  State state_ = State::nothing;
};

template <>
class Result<void> {
 public:
  void set_error(std::exception_ptr error) noexcept { error_ = std::move(error); }
  bool has_error() const noexcept { return error_ != nullptr; }
  std::exception_ptr take_error() noexcept { return std::move(error_); }
  void take() {
    if (error_) [[unlikely]]
      std::rethrow_exception(std::move(error_));
  }

 private:
  std::exception_ptr error_;
};

// The half of a promise that differs between void and a value.
template <class T>
class ResultPromise {
 public:
  template <class U = T>
  requires std::is_constructible_v<T, U&&>
  void return_value(U&& value) { result.set_value(std::forward<U>(value)); }
  void unhandled_exception() noexcept { result.set_error(std::current_exception()); }

  Result<T> result;
};

template <>
class ResultPromise<void> {
 public:
  void return_void() noexcept {}
  void unhandled_exception() noexcept { result.set_error(std::current_exception()); }

  Result<void> result;
};

}  // namespace monterey::detail
