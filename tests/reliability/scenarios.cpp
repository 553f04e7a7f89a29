#include "scenarios.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "io/dicom_bytes.h"
#include "segmamba/core/error.h"
#include "whole.h"

namespace segmamba::test {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<std::string> infer_command(const std::string& checkpoint,
                                       const std::vector<std::string>& input,
                                       const std::vector<std::string>& more) {
  std::vector<std::string> words = {
      "segmamba-infer", "--checkpoint", checkpoint,        "--output", "out",
      "--device",       "cpu",          "--threads",       "1",        "--precision",
      "fp32",           "--no-tta",     "--skip-existing", "-q"};
  words.insert(words.end(), more.begin(), more.end());
  words.emplace_back("--input");
  words.insert(words.end(), input.begin(), input.end());
  return words;
}

}  // namespace

void Scenarios::SetUpTestSuite() {
  if (shared_ != nullptr) return;
  Programs::SetUpTestSuite();
  std::atexit([] { Programs::TearDownTestSuite(); });
  const auto& folder = shared_->path();
  must(run_in(folder,
              {"segmamba-train", "--config", "tiny.yaml", "--device", "cpu", "--output", "model",
               "--set", "data.root=cases", "training.iterations=4", "validation.every=0", "-q"}));
  fs::create_directory(folder / "series");
  for (int z = 0; z < 4; ++z) {
    dicom_slice(z).write(folder / "series" / concat("slice-", z));
  }
  std::vector<fs::path> few;
  for (const auto& entry : fs::directory_iterator(folder / "cases")) few.push_back(entry.path());
  std::sort(few.begin(), few.end());
  few.resize(kFew);
  fs::create_directory(folder / "few");
  fs::create_directory(folder / "few-labels");
  for (const auto& item : few) {
    const auto name = item.filename().string();
    fs::copy(item, folder / "few" / name);
    fs::copy_file(item / (name + "-seg.nii.gz"), folder / "few-labels" / (name + ".nii.gz"));
  }
}

Scenario Scenarios::training(const std::vector<std::string>& more) const {
  std::vector<std::string> words = {"--output",
                                    "out",
                                    "--resume",
                                    "-q",
                                    "--set",
                                    "training.iterations=8",
                                    "training.checkpoint_every=3",
                                    "validation.every=4",
                                    "validation.max_cases=1"};
  words.insert(words.end(), more.begin(), more.end());
  return {"training", train_command(words), cases()};
}

Scenario Scenarios::inference() {
  return {"inference", infer_command(shared("model/checkpoints/last.pt"), {shared("few")}, {}),
          shared("few")};
}

Scenario Scenarios::inference_of_everything() {
  const auto series = shared("series");
  std::vector<std::string> input;
  for (const char* channel : {"t1n=", "t1c=", "t2w=", "t2f="}) input.push_back(channel + series);
  return {"inference_of_everything",
          infer_command(shared("model/checkpoints/last.pt"), input,
                        {"--probabilities", "--uncertainty", "--regions", "--pictures"}),
          series};
}

Scenario Scenarios::evaluation() {
  return {"evaluation",
          {"segmamba-eval", "--prediction", shared("few-labels"), "--reference", shared("few"),
           "--convention", "segmamba,brats2023", "--output", "out", "--overwrite", "--threads", "1",
           "-q"},
          shared("few-labels")};
}

Scenario Scenarios::phantoms() {
  return {"phantoms",
          {"segmamba-data", "phantom", "--output", "out", "--cases", "2", "--size", "32",
           "--overwrite", "-q"},
          {}};
}

Scenario Scenarios::preparation(const std::string& cases) {
  return {"preparation",
          {"segmamba-data", "prepare", "--config", shared("tiny.yaml"), "--set",
           "data.root=" + cases, "--output", "out", "-q"},
          cases};
}

Scenario Scenarios::division() {
  return {"division",
          {"segmamba-data", "split", shared("cases"), "--output", "out/split.yaml", "--overwrite",
           "-q"},
          shared("cases")};
}

Scenario Scenarios::check() {
  return {"check",
          {"segmamba-data", "check", shared("few"), "--json", "out/check.json", "--html",
           "out/check.html", "--threads", "1", "-q"},
          shared("few")};
}

Scenario Scenarios::preview() {
  return {"preview",
          {"segmamba-data", "preview", "--config", shared("tiny.yaml"), "--set",
           "data.root=" + shared("cases"), "--output", "out", "--count", "2", "--overwrite", "-q"},
          shared("cases")};
}

Scenario Scenarios::import_of_weights() {
  return {"import",
          {"segmamba-model", "import", "--from", shared("model/checkpoints/last.pt"), "--output",
           "out/weights.safetensors", "-q"},
          shared("model/checkpoints")};
}

Scenario Scenarios::export_of_weights() {
  return {"export",
          {"segmamba-model", "export", "--from", shared("model/checkpoints/last.pt"), "--output",
           "out/weights.pt", "-q"},
          shared("model/checkpoints")};
}

fs::path Scenarios::folder_for(const std::string& name) const {
  const auto folder = new_folder(name);
  fs::create_directory(folder / "out");
  return folder;
}

std::vector<std::string> Scenarios::with_output(std::vector<std::string> words,
                                                const fs::path& out) {
  *(std::find(words.begin(), words.end(), "--output") + 1) = out.string();
  return words;
}

const Undisturbed& Scenarios::undisturbed(const Scenario& scenario) const {
  static std::map<std::vector<std::string>, Undisturbed> known;
  const auto found = known.find(scenario.words);
  if (found != known.end()) return found->second;

  const auto folder = folder_for("undisturbed");
  const auto begin = Clock::now();
  const Outcome outcome =
      run_with(folder, scenario.words, {.writes = folder / "out", .reads = shared_->path()});
  Undisturbed result;
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (outcome.exit_code != 0 || !outcome.err.empty()) {
    throw Error(concat("undisturbed, ", scenario.name, " ends with ", outcome.exit_code, ": ",
                       outcome.err));
  }
  result.contents = contents(folder / "out");
  for (auto& call : calls(folder)) {
    auto& kind = call.is_below(shared_->path()) ? result.reads : result.writes;
    kind.push_back(std::move(call));
  }
  return known.emplace(scenario.words, std::move(result)).first->second;
}

std::size_t Scenarios::read_count(const Scenario& scenario) const {
  const auto& reads = undisturbed(scenario).reads;
  return static_cast<std::size_t>(std::count_if(
      reads.begin(), reads.end(), [&](const Call& call) { return call.is_below(scenario.input); }));
}

}  // namespace segmamba::test
