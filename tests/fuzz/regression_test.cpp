// Runs every target over its corpus: the seeds that the fuzzers start from, and every input that once crashed (crash_*). In
// all builds, so that what a fuzzer found stays found. STORE_WRITE_SEEDS=1 in the environment writes the seeds that are
// pages and stores anew, for when the format has changed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz/base_images.hpp"
#include "fuzz/core.hpp"
#include "fuzz/exercise.hpp"
#include "fuzz/image_target.hpp"
#include "fuzz/mend.hpp"
#include "fuzz/targets.hpp"
#include "store/page/branch.hpp"
#include "store/page/meta.hpp"

namespace store::fuzz {
namespace {

namespace fs = std::filesystem;

fs::path corpus_of(std::string_view target) { return fs::path(STORE_FUZZ_CORPUS) / target; }

std::vector<fs::path> files_of(std::string_view target) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(corpus_of(target))) files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

std::vector<std::uint8_t> read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class Corpus : public testing::TestWithParam<Target> {};

TEST_P(Corpus, RunsThrough) {
  const std::vector<fs::path> files = files_of(GetParam().name);
  EXPECT_GE(files.size(), 2u);
  for (const fs::path& file : files) {
    std::printf("%s\n", file.filename().c_str());
    std::fflush(stdout);  // the last name printed is the one that ended the process
    GetParam().run(read_file(file));
  }
  GetParam().run({});
}

INSTANTIATE_TEST_SUITE_P(Fuzz, Corpus, testing::ValuesIn(targets().begin(), targets().end()),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST(Mender, LeavesASoundStoreAsItIs) {
  for (const BaseImage& image : base_images()) {
    SCOPED_TRACE(image.name);
    const auto mended = image.disk->copy();
    Mender(*mended, {}).mend_all();
    for (const PageNo page : image.pages) {
      EXPECT_TRUE(std::ranges::equal(mended->block(page), image.disk->block(page))) << page.value;
    }
  }
}

// What a change leaves behind its checksums is what the targets are about: the checksums themselves must hold again.
TEST(Mender, MakesChangedBytesPassTheChecksums) {
  const BaseImage& image = base_images()[2];
  const auto disk = image.disk->copy();
  ASSERT_EQ(page_type(disk->block(image.pages.back()).data()), PageType::leaf);
  disk->block(image.pages.back())[kPageBytes - 1] ^= std::byte{1};  // behind the cells
  Mender(*disk, {}).mend_all();
  CheckReport report;
  run_on_core(check(disk, &report));
  EXPECT_TRUE(report.ok) << (report.errors.empty() ? "" : report.errors.front());
}

// --- seeds ---

void write_seed(std::string_view target, const std::string& name, const std::vector<std::uint8_t>& bytes) {
  std::ofstream file(corpus_of(target) / ("seed_" + name + ".bin"), std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

void write_page_seeds() {
  std::map<std::string, std::vector<std::uint8_t>> seeds;
  const auto add = [&seeds](const std::string& name, std::uint8_t kind, ConstPageBytes page) {
    std::vector<std::uint8_t> bytes{kind};
    std::ranges::transform(page, std::back_inserter(bytes), [](std::byte b) { return static_cast<std::uint8_t>(b); });
    while (bytes.back() == 0) bytes.pop_back();
    const auto [seed, is_new] = seeds.try_emplace(name, bytes);
    if (!is_new && bytes.size() < seed->second.size()) seed->second = bytes;
  };
  for (const BaseImage& image : base_images()) {
    for (const PageNo number : image.pages) {
      const auto page = image.disk->block(number);
      switch (page_type(page.data())) {
        case PageType::leaf: add("leaf", 2, page); break;
        case PageType::branch: add("branch", 2, page); break;
        case PageType::bitmap: add("bitmap", 2, page); break;
        case PageType::bitmap_parent: add("bitmap_parent", 2, page); break;
        case PageType::meta: add("meta", 0, page); break;
      }
    }
  }
  for (const auto& [name, bytes] : seeds) write_seed("pages", name, bytes);
}

TEST(Seeds, ImagesAreStores) {
  if (std::getenv("STORE_WRITE_SEEDS") != nullptr) {
    write_page_seeds();
    write_seed("image", "empty", encode_image(*base_images()[0].disk));
    write_seed("image", "one_leaf", encode_image(*base_images()[1].disk));
  }
  for (const char* name : {"seed_empty.bin", "seed_one_leaf.bin"}) {
    SCOPED_TRACE(name);
    CheckReport report;
    run_on_core(check(decode_image(read_file(corpus_of("image") / name)).disk, &report));
    EXPECT_TRUE(report.ok) << (report.errors.empty() ? "" : report.errors.front());
  }
}

}  // namespace
}  // namespace store::fuzz
