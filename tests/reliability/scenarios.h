#pragma once
// A command of each kind, with all it can write, on data as small as may be.

#include <string>
#include <vector>

#include "faults.h"
#include "io/dicom_bytes.h"

namespace segmamba::test {

// Everything goes into the folder "out" of the working folder. The same command goes on, or does
// its work again, after a fault.
struct Scenario {
  std::string name;
  std::vector<std::string> words;
  fs::path input;  // the folder that it reads
};

class Scenarios : public FaultyPrograms {
 protected:
  // Beside the cases: a trained model, its labels, a cache, and a DICOM series.
  static void SetUpTestSuite() {
    Programs::SetUpTestSuite();
    const auto& folder = shared_->path();
    must(run_in(folder,
                {"segmamba-train", "--config", "tiny.yaml", "--device", "cpu", "--output", "model",
                 "--set", "data.root=cases", "training.iterations=4", "validation.every=0", "-q"}));
    fs::create_directory(folder / "series");
    for (int z = 0; z < 4; ++z) {
      dicom_slice(z).write(folder / "series" / concat("slice-", z));
    }
    fs::create_directory(folder / "few");
    fs::create_directory(folder / "few-labels");
    for (const auto& name : names(2)) {
      fs::copy(folder / "cases" / name, folder / "few" / name);
      fs::copy_file(folder / "few" / name / (name + "-seg.nii.gz"),
                    folder / "few-labels" / (name + ".nii.gz"));
    }
  }
  static void must(const Outcome& outcome) { ASSERT_EQ(outcome.exit_code, 0) << outcome.err; }

  // Of the first cases.
  static std::vector<std::string> names(std::size_t count) {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(shared_->path() / "cases")) {
      all.push_back(entry.path().filename().string());
    }
    std::sort(all.begin(), all.end());
    all.resize(count);
    return all;
  }
  static std::string shared(const std::string& name) { return (shared_->path() / name).string(); }

  Scenario training(std::vector<std::string> more = {}) const {
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
  static Scenario inference() {
    return {"inference", infer_command(shared("few"), {}), shared("few")};
  }
  static Scenario inference_of_everything() {
    const auto series = shared("series");
    std::vector<std::string> words = {"t1n=" + series};
    for (const char* channel : {"t1c=", "t2w=", "t2f="}) words.push_back(channel + series);
    return {"inference_of_everything",
            infer_command(words, {"--probabilities", "--uncertainty", "--regions", "--pictures"}),
            series};
  }
  static Scenario evaluation() {
    return {"evaluation",
            {"segmamba-eval", "--prediction", shared("few-labels"), "--reference", shared("few"),
             "--convention", "segmamba,brats2023", "--output", "out", "--overwrite", "--threads",
             "1", "-q"},
            shared("few-labels")};
  }
  static Scenario phantoms() {
    return {"phantoms",
            {"segmamba-data", "phantom", "--output", "out", "--cases", "2", "--size", "32",
             "--overwrite", "-q"},
            {}};
  }
  static Scenario preparation() {
    return {"preparation",
            {"segmamba-data", "prepare", "--config", shared("tiny.yaml"), "--set",
             "data.root=" + shared("few"), "--output", "out", "-q"},
            shared("few")};
  }
  static Scenario division() {
    return {"division",
            {"segmamba-data", "split", shared("cases"), "--output", "out/split.yaml", "--overwrite",
             "-q"},
            shared("cases")};
  }
  static Scenario check() {
    return {"check",
            {"segmamba-data", "check", shared("few"), "--json", "out/check.json", "--html",
             "out/check.html", "--threads", "1", "-q"},
            shared("few")};
  }
  static Scenario preview() {
    return {
        "preview",
        {"segmamba-data", "preview", "--config", shared("tiny.yaml"), "--set",
         "data.root=" + shared("cases"), "--output", "out", "--count", "2", "--overwrite", "-q"},
        shared("cases")};
  }
  static Scenario import_of(const std::string& suffix) {
    return {"import",
            {"segmamba-model", "import", "--from", shared("model/checkpoints/last.pt"), "--output",
             "out/weights" + suffix, "-q"},
            shared("model/checkpoints")};
  }
  static Scenario export_of(const std::string& suffix) {
    return {"export",
            {"segmamba-model", "export", "--from", shared("model/checkpoints/last.pt"), "--output",
             "out/weights" + suffix, "-q"},
            shared("model/checkpoints")};
  }
  std::vector<Scenario> all() const {
    return {training(),
            inference(),
            inference_of_everything(),
            evaluation(),
            phantoms(),
            preparation(),
            division(),
            check(),
            preview(),
            import_of(".safetensors"),
            import_of(".pt"),
            export_of(".pt")};
  }

  // A working folder for it.
  fs::path folder_for(const std::string& name) const {
    const auto folder = new_folder(name);
    fs::create_directory(folder / "out");
    return folder;
  }

 private:
  static std::vector<std::string> infer_command(const std::vector<std::string>& input,
                                                const std::vector<std::string>& more) {
    std::vector<std::string> words = {"segmamba-infer",
                                      "--checkpoint",
                                      shared("model/checkpoints/last.pt"),
                                      "--output",
                                      "out",
                                      "--device",
                                      "cpu",
                                      "--threads",
                                      "1",
                                      "--precision",
                                      "fp32",
                                      "--no-tta",
                                      "--skip-existing",
                                      "-q"};
    words.insert(words.end(), more.begin(), more.end());
    words.emplace_back("--input");
    words.insert(words.end(), input.begin(), input.end());
    return words;
  }
  static std::vector<std::string> infer_command(const std::string& input,
                                                const std::vector<std::string>& more) {
    return infer_command(std::vector<std::string>{input}, more);
  }
};

}  // namespace segmamba::test
