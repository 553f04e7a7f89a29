// segmamba-infer as a process: its files, faults and shares.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <tuple>

#include "programs.h"
#include "segmamba/core/json.h"
#include "segmamba/io/volume.h"

namespace segmamba {
namespace {

namespace fs = std::filesystem;
using test::label_maps;
using test::line_count;
using test::Outcome;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Infer : public test::Programs {
 protected:
  // Two barely trained models: their labels are wrong, but of every class.
  static void SetUpTestSuite() {
    Programs::SetUpTestSuite();
    for (const char* seed : {"1", "2"}) {
      const Outcome trained =
          run_in(shared_->path(),
                 {"segmamba-train", "--config", "tiny.yaml", "--device", "cpu", "--output",
                  std::string("run") + seed, "--set", "data.root=cases", "training.iterations=4",
                  "validation.every=0", std::string("training.seed=") + seed});
      ASSERT_EQ(trained.exit_code, 0) << trained.err;
    }
  }

  static std::string checkpoint(const char* seed = "1") {
    return (shared_->path() / (std::string("run") + seed) / "checkpoints/last.pt").string();
  }
  std::vector<std::string> command(const fs::path& input, const std::string& output,
                                   std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {"segmamba-infer",
                                      "--checkpoint",
                                      checkpoint(),
                                      "--input",
                                      input.string(),
                                      "--output",
                                      output,
                                      "--device",
                                      "cpu",
                                      "--threads",
                                      "1"};
    words.insert(words.end(), more.begin(), more.end());
    if (std::find(more.begin(), more.end(), "--precision") == more.end()) {
      words.insert(words.end(), {"--precision", "fp32"});
    }
    return words;
  }
  std::vector<std::uint8_t> labels(const std::string& folder, const std::string& name) const {
    return io::read_labels(folder_.path() / folder / (name + ".nii.gz")).voxels;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(cases())) {
      if (entry.is_directory()) all.push_back(entry.path().filename().string());
    }
    std::sort(all.begin(), all.end());
    return all;
  }
  // A copy of the cases in which something may be broken.
  fs::path copy_of_cases(const std::string& name) const {
    fs::copy(cases(), folder_.path() / name, fs::copy_options::recursive);
    return folder_.path() / name;
  }
};

// What the page holds for its script.
Json page_data(const fs::path& page) {
  const auto html = read_file(page);
  const std::string begin = "id=\"data\">";
  const auto first = html.find(begin) + begin.size();
  return parse_json(html.substr(first, html.find("</script>", first) - first), page.string());
}

TEST_F(Infer, WritesWhatIsAskedForAndReportsIt) {
  const Outcome outcome =
      run(command(cases(), "out", {"--probabilities", "--uncertainty", "--regions", "--pictures"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto folder = folder_.path() / "out";
  EXPECT_EQ(label_maps(folder), names());
  EXPECT_TRUE(fs::exists(folder / "report.html"));
  EXPECT_FALSE(fs::exists(folder / "dicom"));
  const auto report = read_json(folder / "report.json");
  EXPECT_EQ(report["summary"]["done"], 5);
  EXPECT_EQ(report["summary"]["failed"], 0);
  ASSERT_EQ(report["cases"].size(), 5U);
  std::int64_t rows = 1;
  for (const auto& entry : report["cases"]) {
    const auto name = entry["case"].get<std::string>();
    SCOPED_TRACE(name);
    const auto found = labels("out", name);
    const auto file = name + ".nii.gz";

    const auto maps = io::read_images(folder / "probabilities" / file);
    ASSERT_EQ(maps.size(), 4U);
    const auto entropy = io::read_image(folder / "entropy" / file);
    const auto disagreement = io::read_image(folder / "disagreement" / file);
    std::array<std::int64_t, 4> counts{};
    for (std::size_t i = 0; i < found.size(); ++i) {
      ++counts[found[i]];
      float sum = 0;
      for (const auto& map : maps) {
        sum += map.voxels[i];
        ASSERT_LE(map.voxels[i], maps[found[i]].voxels[i] + 1e-3F);
      }
      ASSERT_NEAR(sum, 1, 2e-3);
      ASSERT_LE(disagreement.voxels[i], entropy.voxels[i] + 2e-3F);
      ASSERT_GE(disagreement.voxels[i], -1e-3F);
    }
    const auto whole = io::read_labels(folder / "regions/WT" / file);
    EXPECT_EQ(std::accumulate(whole.voxels.begin(), whole.voxels.end(), std::int64_t{0}),
              counts[1] + counts[2] + counts[3]);
    const auto enhancing = io::read_labels(folder / "regions/ET" / file);
    for (std::size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(enhancing.voxels[i], found[i] == 3 ? 1 : 0);
    }
    EXPECT_EQ(read_file(folder / "pictures" / (name + ".png")).substr(1, 3), "PNG");
    const auto& spacing = whole.geometry.spacing;
    EXPECT_NEAR(entry["millilitres"]["ET"].get<double>(),
                static_cast<double>(counts[3]) * spacing[0] * spacing[1] * spacing[2] / 1000, 1e-9);
    rows += static_cast<std::int64_t>(entry["millilitres"].size());
  }
  EXPECT_EQ(line_count(read_file(folder / "volumes.csv")), rows);
  const auto page = page_data(folder / "report.html");
  ASSERT_EQ(page["cases"].size(), 5U);
  for (const auto& item : page["cases"]) {
    std::vector<std::string> channels;
    for (const auto& channel : item["channels"]) channels.push_back(channel["name"]);
    EXPECT_THAT(channels, ElementsAre("t1c", "t2f", "t1n", "t2w"));
  }
}

TEST_F(Infer, ABadCaseIsReportedAndTheRestGoOn) {
  const auto bad = copy_of_cases("bad");
  const auto all = names();
  const auto truncated = bad / all[1] / (all[1] + "-t1c.nii.gz");
  write_file_atomically(truncated, read_file(truncated).substr(0, 500));
  fs::remove(bad / all[3] / (all[3] + "-t2f.nii.gz"));
  const Outcome outcome = run(command(bad, "out", {"-q"}));
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(line_count(outcome.err), 2) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr(all[1]), HasSubstr(all[3]), HasSubstr("t2f")));
  EXPECT_THAT(label_maps(folder_.path() / "out"), ElementsAre(all[0], all[2], all[4]));
  const auto report = read_json(folder_.path() / "out/report.json");
  EXPECT_EQ(report["summary"]["done"], 3);
  EXPECT_EQ(report["summary"]["failed"], 2);
  for (const auto& entry : report["cases"]) {
    const bool is_bad = entry["case"] == all[1] || entry["case"] == all[3];
    EXPECT_EQ(entry["state"], is_bad ? "failed" : "done") << entry;
    EXPECT_EQ(entry.contains("error"), is_bad);
  }
  EXPECT_THAT(read_file(folder_.path() / "out/report.html"), HasSubstr(all[1]));
}

TEST_F(Infer, SharesOfSeveralProcessesAreTheWhole) {
  ASSERT_EQ(run(command(cases(), "whole", {"--no-tta"})).exit_code, 0);
  ASSERT_EQ(run(command(cases(), "shared", {"--no-tta", "--shard", "1/2"})).exit_code, 0);
  EXPECT_EQ(label_maps(folder_.path() / "shared").size(), 3U);
  // The second as torchrun would start it.
  const Outcome second = finish(
      folder_.path(), start(folder_.path(), command(cases(), "shared", {"--no-tta"}), [] {
        for (const auto& [name, value] : std::initializer_list<std::pair<const char*, const char*>>{
                 {"RANK", "1"},
                 {"WORLD_SIZE", "2"},
                 {"LOCAL_RANK", "1"},
                 {"LOCAL_WORLD_SIZE", "2"},
                 {"MASTER_ADDR", "localhost"},
                 {"MASTER_PORT", "29500"}}) {
          ::setenv(name, value, 1);
        }
      }));
  ASSERT_EQ(second.exit_code, 0) << second.err;
  EXPECT_EQ(label_maps(folder_.path() / "shared"), names());
  for (const auto& name : names()) EXPECT_EQ(labels("shared", name), labels("whole", name)) << name;
  EXPECT_EQ(read_json(folder_.path() / "shared/report.1-of-2.json")["cases"].size(), 3U);
  EXPECT_EQ(read_json(folder_.path() / "shared/report.2-of-2.json")["cases"].size(), 2U);
}

TEST_F(Infer, AStoppedRunGoesOn) {
  auto words = command(cases(), "out");
  const pid_t child = start(folder_.path(), words);
  const auto folder = folder_.path() / "out";
  for (int i = 0; i < 3000; ++i) {
    if (fs::exists(folder) && !label_maps(folder).empty()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ::kill(child, SIGINT);
  const Outcome stopped = finish(folder_.path(), child);
  EXPECT_EQ(stopped.exit_code, 128 + SIGINT) << stopped.err;
  const auto done = label_maps(folder);
  ASSERT_GE(done.size(), 1U);
  ASSERT_LT(done.size(), 5U);
  const auto first = read_json(folder / "report.json");
  EXPECT_EQ(first["summary"]["interrupted"], true);
  EXPECT_EQ(first["summary"]["done"], done.size());

  EXPECT_EQ(run(words).exit_code, 1);  // neither --overwrite nor --skip-existing
  words.emplace_back("--skip-existing");
  ASSERT_EQ(run(words).exit_code, 0);
  EXPECT_EQ(label_maps(folder), names());
  const auto second = read_json(folder / "report.json");
  EXPECT_EQ(second["summary"]["kept"], done.size());
  EXPECT_EQ(second["summary"]["interrupted"], false);
  for (const auto& entry : second["cases"]) {
    EXPECT_TRUE(entry.contains("millilitres")) << entry;  // of the kept ones, too
  }
  const auto page = page_data(folder / "report.html");
  ASSERT_EQ(page["cases"].size(), 5U);
  for (const auto& item : page["cases"]) EXPECT_EQ(item["channels"].size(), 4U) << item["name"];
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(HasSubstr("tmp")));
  }
}

TEST_F(Infer, ModelsAreNotMixedInAFolder) {
  const auto input = cases() / names().front();
  ASSERT_EQ(run(command(input, "out", {"--no-tta"})).exit_code, 0);
  const auto path = folder_.path() / "out/report.json";
  const auto report = read_file(path);
  auto other = command(input, "out", {"--no-tta", "--skip-existing", "-q"});
  other[2] = checkpoint("2");
  const Outcome outcome = run(other);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(line_count(outcome.err), 1) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr(concat("of label maps of ", checkpoint("1"), ", ")),
                                 HasSubstr(concat("would be of ", checkpoint("2"), ": "))));
  EXPECT_EQ(read_file(path), report);
  // The same content elsewhere.
  fs::copy(checkpoint("1"), folder_.path() / "copy.pt");
  other[2] = "copy.pt";
  EXPECT_EQ(run(other).exit_code, 0);
  EXPECT_EQ(read_json(path)["summary"]["kept"], 1);
}

TEST_F(Infer, KeptCasesAreReportedAsTheirFilesStand) {
  const auto data = copy_of_cases("data");
  const auto all = names();
  auto words = command(data, "out", {"--no-tta"});
  ASSERT_EQ(run(words).exit_code, 0);
  const auto folder = folder_.path() / "out";
  const auto path = [&](int i) { return folder / (all[static_cast<std::size_t>(i)] + ".nii.gz"); };
  const auto before = read_json(folder / "report.json")["cases"];

  auto corrected = io::read_labels(path(0));
  std::fill(corrected.voxels.begin(), corrected.voxels.end(), std::uint8_t{0});
  std::fill_n(corrected.voxels.begin(), 50, std::uint8_t{3});
  io::write_labels(path(0), corrected);
  write_file_atomically(path(1), read_file(path(1)).substr(0, 200));
  const auto image = data / all[2] / (all[2] + "-t2f.nii.gz");
  write_file_atomically(image, read_file(image).substr(0, 500));
  fs::remove(path(3));  // computed last, and yet reported in its place

  words.insert(words.end(), {"--skip-existing", "-q"});
  const Outcome outcome = run(words);
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(line_count(outcome.err), 2) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr(path(1).filename().string()), HasSubstr("remove"),
                                 HasSubstr(image.filename().string())));
  const auto report = read_json(folder / "report.json");
  EXPECT_EQ(report["summary"],
            (Json{{"done", 1}, {"kept", 3}, {"failed", 1}, {"interrupted", false}}));
  const auto& spacing = corrected.geometry.spacing;
  const double volume = 50 * spacing[0] * spacing[1] * spacing[2] / 1000;
  const std::vector<std::string> states = {"kept", "failed", "kept", "done", "kept"};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& entry = report["cases"][i];
    EXPECT_EQ(entry["case"], all[i]);
    EXPECT_EQ(entry["state"], states[i]) << entry;
    if (states[i] == "kept") {
      EXPECT_EQ(entry.at("seconds"), before[i].at("seconds"));
    }
    if (i >= 2) {
      EXPECT_EQ(entry.at("millilitres"), before[i].at("millilitres"));
    }
  }
  EXPECT_NEAR(report["cases"][0]["millilitres"]["ET"].get<double>(), volume, 1e-9);
  EXPECT_THAT(read_file(folder / "volumes.csv"),
              HasSubstr(concat(all[0], ",ET,", format_double(volume), "\n")));

  const auto page = page_data(folder / "report.html")["cases"];
  ASSERT_EQ(page.size(), 5U);
  EXPECT_EQ(page[0]["ml"].size(), 1U);
  EXPECT_NEAR(page[0]["ml"]["3"].get<double>(), volume, 1e-9);
  EXPECT_TRUE(page[1].contains("error"));
  EXPECT_TRUE(page[2]["channels"].empty());
  for (const std::size_t i : {0, 3, 4}) EXPECT_EQ(page[i]["channels"].size(), 4U) << i;
  for (const std::size_t i : {0, 2, 3, 4}) EXPECT_TRUE(page[i].contains("grid")) << i;
}

TEST_F(Infer, NamedFilesAndEnsembles) {
  const auto name = names().front();
  ASSERT_EQ(run(command(cases() / name, "folder")).exit_code, 0);
  // Of two equal models the mean is each.
  std::vector<std::string> named = {
      "segmamba-infer", "--checkpoint", checkpoint(), checkpoint(), "--output",
      "files",          "--device",     "cpu",        "--threads",  "1",
      "--precision",    "fp32",         "--name",     "mine",       "--input"};
  for (const char* channel : {"t2f", "t1n", "t1c", "t2w"}) {
    named.push_back(
        concat(channel, "=", (cases() / name / concat(name, "-", channel, ".nii.gz")).string()));
  }
  const Outcome outcome = run(named);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(labels("files", "mine"), labels("folder", name));
  // Of two others it is neither.
  named[3] = checkpoint("2");
  named.emplace_back("--overwrite");
  ASSERT_EQ(run(named).exit_code, 0);
  EXPECT_NE(labels("files", "mine"), labels("folder", name));
}

TEST_F(Infer, AMemoryLimitChangesNoLabel) {
  const auto name = names().front();
  ASSERT_EQ(run(command(cases() / name, "free")).exit_code, 0);
  ASSERT_EQ(run(command(cases() / name, "limited", {"--max-memory", "1.5GB"})).exit_code, 0);
  EXPECT_EQ(labels("limited", name), labels("free", name));
  const Outcome outcome = run(command(cases() / name, "small", {"--max-memory", "1MB", "-q"}));
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(line_count(outcome.err), 1) << outcome.err;
  EXPECT_TRUE(label_maps(folder_.path() / "small").empty());
}

TEST_F(Infer, PostprocessesByTheRulesOfAFile) {
  const auto name = names().front();
  write_file_atomically(folder_.path() / "rules.yaml",
                        std::string("postprocess:\n"
                                    "  replace_below_ml: [\"ET=100000->necrosis\"]\n"));
  ASSERT_EQ(run(command(cases() / name, "plain")).exit_code, 0);
  ASSERT_EQ(run(command(cases() / name, "ruled", {"--postprocess", "rules.yaml"})).exit_code, 0);
  auto expected = labels("plain", name);
  ASSERT_GT(std::count(expected.begin(), expected.end(), 3), 0);
  std::replace(expected.begin(), expected.end(), std::uint8_t{3}, std::uint8_t{1});
  EXPECT_EQ(labels("ruled", name), expected);
  const auto report = read_json(folder_.path() / "ruled/report.json");
  EXPECT_EQ(report["cases"][0]["postprocess"].size(), 1U) << report;
}

TEST_F(Infer, MistakesGetOneClearLine) {
  for (const auto& [more, code] : std::vector<std::pair<std::vector<std::string>, int>>{
           {{"--overwrite", "--skip-existing"}, 2},
           {{"--shard", "3/2"}, 2},
           {{"--shard", "x"}, 2},
           {{"--max-memory", "much"}, 2},
           {{"--checkpoint", "."}, 1},
           {{"--overlap", "0.99"}, 2},
           {{"--overlap", "nan"}, 2},
           {{"--overlap=-inf"}, 2},
           {{"--set", "inference.modus=constant"}, 1},
           {{"--weights", "best"}, 1},
           {{"--precision", "fp8"}, 1},
           {{"--postprocess", "nowhere.yaml"}, 1},
           {{"--input", "x=y", "t1n=z"}, 1}}) {
    const Outcome outcome = run(command(cases(), "out", more));
    EXPECT_EQ(outcome.exit_code, code) << join(more, " ") << "\n" << outcome.err;
    EXPECT_EQ(line_count(outcome.err), 1) << outcome.err;
    EXPECT_FALSE(fs::exists(folder_.path() / "out")) << join(more, " ");
  }
}

TEST_F(Infer, SaysWhatItNeedsInstead) {
  write_file_atomically(folder_.path() / "scan.nii.gz", std::string("x"));
  write_file_atomically(folder_.path() / "empty.yaml",
                        concat("train: [", names().front(), "]\nvalidation: []\ntest: []\n"));
  ASSERT_EQ(::mkfifo((folder_.path() / "pipe").c_str(), 0600), 0);
  fs::create_symlink("loop", folder_.path() / "loop");
  for (const auto& [words, code, message] :
       std::vector<std::tuple<std::vector<std::string>, int, std::string>>{
           {{"-i", "scan.nii.gz"}, 2, "t1n=FILE t1c=FILE t2w=FILE t2f=FILE"},
           {{"-i", "nowhere"}, 1, "nowhere: No such file"},
           {{"-i", "t1n=nowhere", "t1c=pipe"}, 1, "channel t1c: pipe is no file but a pipe, "},
           {{"-i", "t1n=loop"}, 1, "channel t1n: loop is no file but a loop of symbolic links: "},
           {{"-i", "t1n=nowhere"}, 1, "channel t1n: nowhere does not exist"},
           {{"-i", cases().string(), "--split", "empty.yaml"},
            1,
            "empty.yaml: part test has no cases"},
           {{"-i", cases().string(), "--threads", "-1"}, 2, "--threads"}}) {
    std::vector<std::string> line = {"segmamba-infer", "-m", checkpoint(), "-o", "out"};
    line.insert(line.end(), words.begin(), words.end());
    const Outcome outcome = run(line);
    EXPECT_EQ(outcome.exit_code, code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_EQ(line_count(outcome.err), 1) << outcome.err;
  }
}

}  // namespace
}  // namespace segmamba
