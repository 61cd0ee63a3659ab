#include <store/config.hpp>

#include "store/cache/page_cache.hpp"
#include "store/tree/page_writer.hpp"
#include "store/wal/log.hpp"
#include "store/writebuf/write_buffer.hpp"

namespace store {

namespace {
std::size_t registered_bytes(const PartitionConfig& config) {
  const std::size_t log = config.wal_mode == WalMode::none ? 0 : Log::kStagingBytes;
  return config.cache_pages * kPageBytes + PageWriter::kStagingBytes + config.io_depth * kPageBytes + log;
}
}  // namespace

std::size_t PartitionConfig::memory_bytes() const {
  return registered_bytes(*this) + PageCache::metadata_bytes(cache_pages) +
         write_buffer_count * WriteBuffer::memory_bytes(write_buffer_bytes);
}

monterey::BufferConfig PartitionConfig::buffer_config() const { return {.bytes = registered_bytes(*this)}; }

}  // namespace store
