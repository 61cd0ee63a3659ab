// What the crash test runs in processes of its own: a load on a store until it is killed, a recovery to be killed, and the
// verification afterwards.
#pragma once

#include <cstdint>
#include <limits>
#include <store/config.hpp>
#include <string>

namespace store::crash {

struct Settings {
  std::string store;  // the file of the store
  std::string state;  // the expected state beside it
  WalMode mode = WalMode::none;
  std::uint64_t seed = 1;
  std::uint64_t operations = std::numeric_limits<std::uint64_t>::max();  // after which the load closes the store
};

// Small and different every time, so that flushes and the recycling of what they make free happen all the time.
PartitionConfig random_config(WalMode mode, std::uint64_t seed);

// Tells the driver where the process has got to: one letter on standard output, written at once.
enum class Phase : char { opening = 'o', working = 'w', closing = 'c' };
void announce(Phase phase);

// Opens, or creates, and writes until it is killed or done; then closes.
void run_load(const Settings& settings);
// Opens, and then flushes, closes or waits; changes nothing.
void run_recovery(const Settings& settings);
// Opens, checks, and judges what is found against the expected state, which starts anew from there. Returns how many
// violations it printed; the files are left as they were found if there are any.
std::size_t run_verification(const Settings& settings);

}  // namespace store::crash
