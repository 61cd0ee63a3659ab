// A store's device beneath the engine, for commands that have something to tell of a store that does not open, or that another
// process has open for writing.
//
// Meta pages may be read beside a writer: it never writes the slot of its newest commit, and a copy that is read while it is
// written does not pass its checksum. So they are read until two readings agree, and what is wrong with the other slot then may be a
// commit in flight all the same, unless it stays. Whatever else is read needs the lock,
// but for the root of the bitmaps, which info holds to its checksum.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <monterey/task.hpp>
#include <store/block_device.hpp>
#include <string>
#include <vector>

#include "store/page/meta.hpp"
#include "store/sharded/manifest.hpp"
#include "tools/fields.hpp"
#include "tools/session.hpp"

namespace store::tool {

// One copy of a meta page, as it was read.
struct MetaCopy {
  enum class State : std::uint8_t { good, zeros, no_magic, damaged, unreadable };

  State state = State::unreadable;
  std::string reason;  // empty when good
  Meta meta;           // meaningful when good
};

struct MetaPages {
  std::array<MetaCopy, kMetaBlocks> copies;

  // The good copy of the highest generation, which a store is opened in; null: there is none.
  const Meta* newest() const;
  // What is wrong with copies, a line each. A slot that has not been written yet is not wrong.
  std::vector<std::string> damage() const;
  // Each copy: block, state, generation and what is wrong.
  std::vector<Fields> rows() const;
};

// Errors: not_a_store when no copy has the magic; unsupported_format when a good one is of a newer format; those of the device but
// io_error, which is a state of a copy.
monterey::Task<MetaPages> read_meta_pages(BlockDevice& device);

// What a meta page says. Names as `store stat` has them where both tell the same.
Fields fields_of(const Meta& meta);

// Who has a file open as a store: "a writer", "readers" or "nobody".
std::string users_of(const std::string& path);

using DeviceWork = std::function<monterey::Task<ExitCode>(BlockDevice&)>;

// Runs `work` on the device of a single store, opened for reading, under a lock. Errors: those of open_device();
// invalid_argument for a directory; what `work` throws.
ExitCode with_device(const SessionOptions& options, const DeviceWork& work);
// The same for the meta pages alone, without a lock where the device is a file.
ExitCode with_meta_device(const SessionOptions& options, const DeviceWork& work);

// Of the sharded store in a directory, read without a lock. Errors: not_found, not_a_store, corruption, unsupported_format, io_error.
detail::Manifest manifest_of(const std::string& directory);

}  // namespace store::tool
