// Makes damage pass the checksums. After bytes of pages were changed at will, the Mender goes from the meta pages down as far
// as pointers lead and, on the way back up, writes what a page says of itself (page number, CRC, heads of its slots) and
// what its parent says of it (CRC, birth, info, what is free below). What is left wrong is what the change meant.
#pragma once

#include <cstdint>
#include <map>

#include "store/page/header.hpp"
#include "store/page/overflow.hpp"
#include "support/mem_block_device.hpp"

namespace store::fuzz {

// Writes heads that fit the suffixes of a leaf or a branch, where its slots lie in the page.
void mend_heads(PageBytes page);

// What is not mended, so that the checks of it are met as well.
struct Unmended {
  bool heads = false;
  bool infos = false;
  bool summaries = false;
  bool births = false;
  bool runs = false;
};

class Mender {
 public:
  Mender(test::MemDisk& disk, Unmended leave) : disk_(disk), leave_(leave) {}

  // All four meta pages and everything below them.
  void mend_all();

 private:
  void mend_pointer(std::byte* at);
  void mend_page(PageNo number);
  void mend_branch(PageBytes page);
  void mend_leaf(PageBytes page);
  void mend_bitmap_parent(PageBytes page);
  void mend_run(std::byte* reference, std::size_t payload_bytes);
  bool is_page(PageNo page) const;

  test::MemDisk& disk_;
  Unmended leave_;
  enum class State : std::uint8_t { begun, done };
  std::map<std::uint32_t, State> pages_;
};

}  // namespace store::fuzz
