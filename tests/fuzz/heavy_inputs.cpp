#include "heavy_inputs.h"

#include <cstdint>

#include "nn/hostile_files.h"
#include "readers.h"

namespace segmamba::fuzz {
namespace {

using Inputs = std::vector<Heavy>;
using test::repeated;

void add_yaml(Inputs& all) {
  for (const auto* reader : {"yaml_values", "split", "region_file", "train_config"}) {
    for (const auto* unit :
         {"a#: b\n", "- ", "[", "{a: ", "? ", "\"", "&a ", "a: |\n", "\n", "# "}) {
      all.push_back({reader, "", unit, ""});
    }
    all.push_back({reader, "a: [", "x,", "]"});
    all.push_back({reader, "a: [", "[],", "]"});
    all.push_back({reader, "a: &a [x]\nb: [", "*a,", "]"});
  }
  for (const auto* reader : {"config_bases", "postprocess"}) {
    for (const auto* unit : {"a#: b\n", "- ", "["}) all.push_back({reader, "", unit, ""});
    all.push_back({reader, "a: [", "x,", "]"});
  }
  all.push_back({"split", "train:\n", "- c#\n", ""});
  all.push_back({"split", "", "fold_#: [a#]\n", ""});
  all.push_back({"region_file", "regions:\n", "  r#: [1]\n", ""});
  // Nearly as many values as a text of this length may have, where a reader keeps them.
  all.push_back({"yaml_values", "a: [", "#,a#,", "]"});
  all.push_back({"split", "train: [", "#,a#,", "]"});
  for (const auto* reader : {"train_config", "config_bases"}) {
    all.push_back({reader, "data:\n  label_map: [", "#,a#,", "]"});
  }
  all.push_back({"postprocess", "postprocess:\n  fill_holes: [", "oedema,", "WT]"});
  // The same of three files, of which each may have as many.
  const auto values = repeated("xx,", 115'000) + "]";
  const auto cut = std::string(kCut);
  const auto first = "base: b.yaml\na: [" + values + cut;
  const auto second = "base: c.yaml\nb: [" + values + cut;
  all.push_back({"config_bases", first + second + "c: [", "xx,", "]"});
}

// Arrays in arrays: no other JSON takes as much memory for its length, 24 bytes for each of its
// own. With what stands around it, it is no deeper than JSON may be.
std::string nest() {
  constexpr int kDepth = 57;
  return repeated("[", kDepth) + repeated("]", kDepth);
}

void add_json(Inputs& all) {
  const auto nests = "," + nest();
  for (const auto* reader :
       {"json", "dataset_json", "upstream_config", "safetensors_header", "plans", "prepared_case",
        "cache_folder", "inference_report", "environment"}) {
    for (const auto* unit : {"[", "{\"a\":", "\"", "1"}) all.push_back({reader, "", unit, ""});
    all.push_back({reader, "[0", ",0", "]"});
    all.push_back({reader, "[0", ",[]", "]"});
    all.push_back({reader, "[0", ",{\"\":{}}", "]"});
    all.push_back({reader, "{\"a\":{\"\":0", ",\"#\":[]", "}}"});
    all.push_back({reader, "[0", nests, "]"});
  }
  // What follows is copied more often than once, or becomes more than JSON.
  const auto cut = std::string(kCut);
  all.push_back({"upstream_config", "nnunet" + cut + R"({"kernel_sizes":[0)", nests, "]}"});
  all.push_back({"upstream_config", "nnunet" + cut + R"({"features_per_stage":[1)", ",1#", "]}"});
  all.push_back({"plans",
                 R"({"configurations":{"3d_fullres":{"architecture":{)"
                 R"("network_class_name":"PlainConvUNet",)"
                 R"("arch_kwargs":{"features_per_stage":[1],"kernel_sizes":[0)",
                 nests, "]}}}}}"});
  // Each case of a data set has paths for its channels and its labels; a path has its parts beside
  // its text.
  all.push_back({"dataset_json",
                 R"({"modality":{"0":"t1n","1":"t1c","2":"t2w","3":"t2f"},)"
                 R"("labels":{"0":"background","1":"necrosis","2":"oedema","3":"enhancing"},)"
                 R"("training":[{"image":"a.nii"})",
                 R"(,{"image":"a.nii"})", "]}"});
  all.push_back({"dataset_json", R"({"training":[{"image":"a.nii","label":")", "a/", "\"}]}"});
  const auto settings = R"({"segmamba":"1","settings":""})" + cut;
  all.push_back({"cache_folder",
                 settings + R"({"label_values":[],"cases":[{"name":"a","patient":""})",
                 R"(,{"name":"#","patient":""})", "]}"});
  all.push_back(
      {"cache_folder", settings + R"({"label_values":[],"cases":[],"x":[0)", nests, "]}"});
  const std::string prepared =
      R"({"settings":"","name":"a","geometry":{"size":[2,2,2],"spacing":[1,1,1],)"
      R"("origin":[0,0,0],"direction":[1,0,0,0,1,0,0,0,1]},"axes":[0,1,2],)"
      R"("reversed_axes":[false,false,true],"crop_begin":[0,0,0],"crop_size":[2,2,2],)"
      R"("spacing":[1,1,1],"size":[2,2,2],"channels":1,"classes":4,"class_counts":[],)"
      R"("outside":[0],"hash":"x","has_labels":false,)";
  const auto voxels = cut + std::string(16, '\0') + cut;
  all.push_back({"prepared_case", prepared + R"("sources":[{"bytes":3,"modified":4,"hash":"h"})",
                 R"(,{"bytes":3,"modified":4,"hash":"h"})", "]}" + voxels});
  all.push_back({"prepared_case", prepared + R"("sources":[],"x":[0)", nests, "]}" + voxels});
  all.push_back({"inference_report", R"({"cases":[{"case":"a"})", R"(,{"case":"#"})", "]}"});
  all.push_back({"inference_report", R"({"cases":[{"case":"a","x":[0)", nests, "]}]}"});
  all.push_back({"environment", R"({"starts":[0)", nests, "]}"});
}

void add_tables(Inputs& all) {
  for (const auto* reader : {"csv", "case_table", "run_history", "region_words", "published"}) {
    for (const auto* unit : {",", "a#,", "\n", "\"", "\"\",", "x", "a#\n"}) {
      all.push_back({reader, "", unit, ""});
    }
    all.push_back({reader, "a\n", "b\n", ""});
    all.push_back({reader, "case,labels\n", ",\n", ""});
    all.push_back({reader, "iteration,loss\n", "1,2\n", ""});
  }
  all.push_back({"run_history", "iteration", ",#", "\n"});
  all.push_back({"case_table", "case,t1n,t1c,t2w,t2f,labels\n", "#,a,a,a,a,a\n", ""});
  all.push_back({"case_table", "case,t1n,t1c,t2w,t2f,labels\n", "#,,,,,\n", ""});
  all.push_back({"case_table", "case,labels\nx,", "a/", ""});
  all.push_back({"published", "method\n", "a\n", ""});
  all.push_back({"published", "method", ",# Dice", "\n"});
  all.push_back({"published", "method,a Dice\n", ",\n", ""});
  // Each row has the name of its region.
  all.push_back({"published", "method," + std::string(200, 'a') + " Dice\n", ",\n", ""});
}

void add_words(Inputs& all) {
  for (const auto* unit : {"1", "9\n", "-", " ", ".", "1e", "a"}) {
    all.push_back({"numbers", "", unit, ""});
  }
  all.push_back({"numbers", "1", "0", "KiB"});
  for (const auto* unit : {"-", "a/", "a#\n", "x-seg_"}) {
    all.push_back({"dataset_words", "", unit, ""});
  }
  all.push_back({"dataset_words", "t1n=", "a/", ""});
  for (const auto* unit : {"a/", "a#\n", "a#/a#-t1n.nii\n", "a#_0000.nii\n"}) {
    all.push_back({"folder_names", "", unit, ""});
  }
}

void add_files(Inputs& all) {
  using namespace std::string_literals;
  constexpr std::uint64_t kPrefix = 32;  // bytes before the header of a prepared case
  all.push_back({"prepared_bytes", "", "\0"s, ""});
  all.push_back({"prepared_bytes", "SEGMCASE" + test::u64(Heavy::kBytes - kPrefix), "[", ""});
  const std::string key = "X\1\0\0\0a"s;
  for (const auto& unit :
       {"N"s, "]"s, "}"s, ")"s, "("s, "K\1"s, "\x94"s, "X\0\0\0\0"s, "X\1\0\0\0#"s, "\x8a\0"s,
        "ctorch\nfloat32\n"s, "ccollections\nOrderedDict\n)R"s, "ctorch\nSize\n)R"s}) {
    all.push_back({"pickle", "\x80\2}" + key + "(" + "N"s, unit, "tsq\1."});
    all.push_back({"pickle", "\x80\2}" + key + "]("s, unit, "es."});
  }
  // A text of half the bytes again and again, and items of a dict.
  const std::string long_text = "X\0\0\x08\0"s + std::string(1 << 19, 'a');
  all.push_back({"pickle", "\x80\2}" + key + "(" + long_text + "q\1"s, "h\1", "ts."});
  all.push_back({"pickle", "\x80\2}("s, "M#N", "u."});
  all.push_back({"archive", "PK\3\4"s, "\0"s, ""});
  all.push_back({"safetensors", "\xf0\xff\x0f\0\0\0\0\0{\"a\":{\"\":0"s, ",\"#\":[]", "}}"});
  all.push_back({"safetensors_header",
                 "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                 ",\"#\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", "}"});
}

void add_golden(Inputs& all) {
  using namespace std::string_literals;
  constexpr std::size_t kLength = 8;  // bytes before the header, which tell its length
  // Numbers of one byte, which become numbers of eight. A header may end in blanks.
  constexpr std::size_t kNumbers = 1'000'000;
  for (const std::string name : {"grad_norm", "logits"}) {
    auto header = "{\"golden/" + name + R"(":{"dtype":"F8_E5M2","shape":[1000000],)" +
                  R"("data_offsets":[0,1000000]}})";
    header.resize(Heavy::kBytes - kLength - kNumbers, ' ');
    all.push_back({"golden", test::u64(header.size()) + header, "\0"s, ""});
  }
  // A header with as much JSON of its own as is read.
  const auto header = R"({"__metadata__":{"model":"nnunet","config":"{\"kernel_sizes\":[0)" +
                      repeated("," + nest(), 560) + R"(]}","parameters":"[\"\")" +
                      repeated(R"(,\"\")", 87'000) + R"(]"}})";
  all.push_back({"golden", test::u64(Heavy::kBytes - kLength) + header, " ", ""});
  // Many outputs: nothing but a header, of whatever length it gets.
  Heavy outputs = {"golden", std::string(kLength, '\0') + R"({"__metadata__":{"model":"nnunet"})",
                   R"(,"golden/logits.#":{"dtype":"F16","shape":[0],"data_offsets":[0,0]})", "}"};
  outputs.begin.replace(0, kLength, test::u64(outputs.input().size() - kLength));
  all.push_back(outputs);
}

}  // namespace

std::string in_decimal(std::size_t number) { return std::to_string(number); }

std::string in_six_digits(std::size_t number) {
  const auto digits = std::to_string(number);
  return std::string(6 - digits.size(), '0') + digits;
}

std::string in_four_bytes(std::size_t number) {
  const auto lowest_first = test::u32(number);
  return {lowest_first.rbegin(), lowest_first.rend()};
}

std::string Heavy::input() const {
  std::string text = begin;
  for (std::size_t i = 0; text.size() + end.size() < kBytes; ++i) {
    for (const char letter : unit) {
      if (letter == '#') {
        text += number(i);
      } else {
        text += letter;
      }
    }
  }
  return text + end;
}

const std::vector<Heavy>& heavy_inputs() {
  static const auto kAll = [] {
    auto all = heavy_volumes();
    add_yaml(all);
    add_json(all);
    add_tables(all);
    add_words(all);
    add_files(all);
    add_golden(all);
    return all;
  }();
  return kAll;
}

}  // namespace segmamba::fuzz
