#include "monterey/io_injection.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace monterey::detail {

std::int64_t IoInjection::altered(const IoOp& op, std::int64_t result) {
  if (op.opcode == IoOpcode::openat || op.opcode == IoOpcode::close) return result;
  if (happens(rates_.eintr)) return ++counts_.eintr, -EINTR;
  if (happens(rates_.eagain)) return ++counts_.eagain, -EAGAIN;
  if (happens(rates_.ecanceled)) return ++counts_.ecanceled, -ECANCELED;
  if (result > 1 && happens(rates_.short_count)) {
    ++counts_.short_count;
    return 1 + static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(result - 1));
  }
  return result;
}

void IoInjection::ended(IoOp& op, std::int64_t result) {
  op.result = altered(op, result);
  if (!happens(rates_.reorder)) {
    op.complete(op);
    return;
  }
  ++counts_.held;
  held_.push_back(&op);
}

void IoInjection::release() {
  std::shuffle(held_.begin(), held_.end(), random_);
  const std::vector<IoOp*> waiting = std::exchange(held_, {});
  for (IoOp* op : waiting) {
    if (happens(rates_.reorder / 2)) {
      held_.push_back(op);
    } else {
      op->complete(*op);
    }
  }
}

}  // namespace monterey::detail
