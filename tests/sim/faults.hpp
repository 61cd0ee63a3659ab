// The fault programme: one entry for each row of the promise, which makes lives, lets the fault strike and judges what is
// found. An entry is a function of a seed; it counts the images that it judged.
#pragma once

#include <cstdint>
#include <monterey/fixed_bufs.hpp>
#include <span>
#include <string>
#include <vector>

#include "sim/life.hpp"

namespace store::test {

struct FaultContext {
  monterey::FixedBufs& arena;
  WalMode mode = WalMode::none;
  std::uint64_t images = 0;                 // judged so far; of faults that hit operations, lives
  std::uint64_t most_images = ~0ull;        // of one seed, about
  bool trace = false;                       // print what happens in every life
  const std::vector<char>* only = nullptr;  // of the first life's operations, those to do
};

struct FaultEntry {
  const char* name;
  const char* what;
  bool has_lives;        // runs the usual lives, so that any bug may show
  std::uint64_t images;  // what `./dev sim` asks for when nothing else is said
  // Returns what is wrong, or an empty text.
  std::string (*run)(FaultContext& context, std::uint64_t seed);
};

std::span<const FaultEntry> all_faults();

// The mode of a seed's lives where none is asked for: each in turn.
WalMode mode_of(std::uint64_t seed);
const char* name_of(WalMode mode);

// --- what the entries share ---

// A plan drawn from the seed: sizes, values, schedule. The same seed gives the same plan whatever the fault.
LifePlan plan_of(const FaultContext& context, std::uint64_t seed);

// A store's beginning: nothing, a small store closed in order, or one whose numbers are near their limits.
struct Beginning {
  SimImage image;
  std::optional<SimImage> log_device;
  State state;
  std::uint32_t next_op = 1;
};
Beginning begin_store(FaultContext& context, const LifePlan& plan, const KeySpace& keys, std::string& wrong);

// Whether blocks are of a meta page or of the log, which no pointer vouches for.
bool is_in_log_or_meta(const SimImage& image, const Extent& blocks);

// Judges an image of `parent`'s by a life that begins with it. `lives` keeps that life for who wants it.
struct Judgement {
  bool damaged = false;           // bits were changed: an error that names the damage is right, too
  bool prefix_is_enough = false;  // what was acknowledged may be missing, never a mix
  bool works_on = false;          // the life also works, and is closed
};
std::string judge_image(FaultContext& context, const Life& parent, const CrashImage& image, const KeySpace& keys,
                        LifePlan plan, const Judgement& judgement, std::unique_ptr<Life>* life = nullptr);

}  // namespace store::test
