// The way from files to batches, on one generated case of 240x240x155 (and links to it):
//
//   bench_feed [--workers N] [--batches N]
//
// 1. preparing the case, beside reading its files: what unpacking takes is no concern of ours;
// 2. a patch of 128^3 from the mapped cache, beside reading the case's files for it;
// 3. batches of two such patches with the published code's augmentation by N workers: patches a
//    second, and the memory that the loader adds to the process.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/parallel.h"
#include "segmamba/core/text.h"
#include "segmamba/data/batch_loader.h"
#include "segmamba/data/cache.h"
#include "segmamba/data/phantom.h"
#include "support/temporary_folder.h"

namespace {

using namespace segmamba;
namespace fs = std::filesystem;

double seconds_of(const std::function<void()>& work, int repeats) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

// Memory of the process but for mapped files, bytes.
std::uint64_t own_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (starts_with(line, "RssAnon:")) return std::stoull(line.substr(8)) * 1024;
  }
  return 0;
}

void bench(std::int64_t workers, std::int64_t batches) {
  const test::TemporaryFolder folder;
  const auto root = folder.path() / "cases";
  auto phantom = data::phantom_profile("brats2023");
  phantom.cases = 2;
  data::write_phantoms(root, phantom);
  data::DatasetConfig config;
  config.root = root.string();
  const auto dataset = data::open_dataset(config, data::Labels::kRequired);

  for (const char* recipe : {"paper", "upstream-code", "nnunet"}) {
    data::PreprocessConfig preprocess;
    ConfigDocument::from_text(concat("recipe: ", recipe), "bench").read(preprocess);
    const auto raw = data::read_case(dataset, dataset.cases[0]);
    const double seconds = seconds_of([&] { data::prepare_case(raw, preprocess); }, 5);
    std::printf("prepare, %-14s %8.3f s a case on one core, beside reading\n", recipe, seconds);
  }
  {
    data::PreprocessConfig preprocess;
    preprocess.spacing = {1.2, 1.2, 1.2};
    const auto raw = data::read_case(dataset, dataset.cases[0]);
    const double seconds = seconds_of([&] { data::prepare_case(raw, preprocess); }, 3);
    std::printf("prepare, %-14s %8.3f s\n", "to 1.2 mm", seconds);
  }

  const data::PreprocessConfig preprocess;
  const auto cache_folder = folder.path() / "cache";
  data::build_cache(dataset, preprocess, cache_folder);
  const double reading = seconds_of([&] { data::read_case(dataset, dataset.cases[0]); }, 5);
  const data::Cache cache(cache_folder, dataset, preprocess);
  const double opening = seconds_of([&] { cache.open(dataset.cases[0].name); }, 5);
  const auto item = cache.open(dataset.cases[0].name);
  const data::Index3 size = {128, 128, 128};
  std::vector<float> image(4 * 128 * 128 * 128);
  std::vector<std::uint8_t> labels(128 * 128 * 128);
  data::PatchScratch scratch;
  const auto plan = data::no_augmentation(size, 4);
  std::int64_t shift = 0;
  const double crop = seconds_of(
      [&] {
        data::render_patch(item, {shift % 10, shift % 30, shift % 8}, plan, image.data(),
                           labels.data(), scratch);
        ++shift;
      },
      15);
  std::printf("read the files    %8.1f ms a case\n", 1000 * reading);
  std::printf("open in the cache %8.1f ms a case, its hash checked; once a run\n", 1000 * opening);
  std::printf("crop of 128^3     %8.1f ms from the cache: %.0fx\n", 1000 * crop, reading / crop);

  data::CaseStore store(dataset, preprocess, cache_folder);
  for (std::size_t i = 0; i < store.size(); ++i) store.get(i);
  data::PatchSource source(store, {.size = size});
  const std::uint64_t before = own_memory();
  std::uint64_t most = before;
  data::BatchLoader loader(source, {.batch_size = 2, .workers = workers}, 0, batches);
  const double all = seconds_of(
      [&] {
        for (std::int64_t i = 0; i < batches; ++i) {
          loader.next();
          most = std::max(most, own_memory());
        }
      },
      1);
  std::printf("loader, %lld workers on %d processors: %.1f patches/s, %s of memory\n",
              static_cast<long long>(workers), thread_count(),
              2 * static_cast<double>(batches) / all, format_bytes(most - before).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  std::int64_t workers = 8, batches = 60;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--workers") workers = std::max(1, std::atoi(argv[i + 1]));
    if (option == "--batches") batches = std::max(1, std::atoi(argv[i + 1]));
  }
  set_log_level(LogLevel::kError);
  try {
    bench(workers, batches);
  } catch (const Error& error) {
    std::fprintf(stderr, "bench_feed: %s\n", error.what());
    return 1;
  }
}
