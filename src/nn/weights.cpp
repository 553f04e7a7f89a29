#include "segmamba/nn/weights.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/json_watcher.h"
#include "segmamba/core/output_file.h"
#include "segmamba/core/random_access_file.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/state_dict.h"

namespace segmamba::nn {
namespace {

// A thousand tensors take about 100 KB. The format allows 100 MB, but JSON of that size can take
// 80 times as much memory.
constexpr std::uint64_t kMaxHeaderBytes = 4 << 20;
constexpr std::size_t kMaxDimensions = 64;

// Json keeps the order of keys, and to find one takes as long as there are keys.
using SortedJson = nlohmann::json;

const std::vector<std::pair<std::string, torch::ScalarType>>& type_names() {
  static const std::vector<std::pair<std::string, torch::ScalarType>> names = {
      {"F64", torch::kFloat64},
      {"F32", torch::kFloat32},
      {"F16", torch::kFloat16},
      {"BF16", torch::kBFloat16},
      {"I64", torch::kInt64},
      {"I32", torch::kInt32},
      {"I16", torch::kInt16},
      {"I8", torch::kInt8},
      {"U8", torch::kUInt8},
      {"BOOL", torch::kBool},
      {"U16", torch::kUInt16},
      {"U32", torch::kUInt32},
      {"U64", torch::kUInt64},
      {"F8_E5M2", torch::kFloat8_e5m2},
      {"F8_E4M3", torch::kFloat8_e4m3fn}};
  return names;
}

std::optional<torch::ScalarType> scalar_type(const std::string& name) {
  for (const auto& [type_name, type] : type_names()) {
    if (type_name == name) return type;
  }
  return std::nullopt;
}

std::string type_name(torch::ScalarType type, const std::string& tensor) {
  for (const auto& [name, candidate] : type_names()) {
    if (candidate == type) return name;
  }
  throw Error(concat("tensor ", tensor, ": safetensors has no type ", torch::toString(type)));
}

// One entry of the header, checked against the data section's length.
struct Entry {
  std::string name;
  torch::ScalarType type = torch::kFloat32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;
};

// Finds a key that stands twice in one object, among entries and what they hold.
class TwoOfAName final : public JsonWatcher<SortedJson> {
 public:
  const std::string& name() const { return name_; }

 private:
  void on_begin(bool) override {
    ++depth_;
    if (depth_ <= keys_.size()) keys_[depth_ - 1].clear();
  }
  void on_end(bool) override { --depth_; }
  void on_key(const std::string& key) override {
    if (depth_ <= keys_.size() && !keys_[depth_ - 1].insert(key).second) name_ = key;
  }

  std::array<std::set<std::string>, 2> keys_;  // at each depth
  std::size_t depth_ = 0;
  std::string name_;
};

// The JSON of a header. Of two entries of one name it would keep one: that is an error.
SortedJson parse_header(const std::string& text, const std::string& where) {
  SortedJson json;
  try {
    json = SortedJson::parse(text);
  } catch (const SortedJson::exception& error) {
    throw Error(concat(
        where, ": not a safetensors file (its header is no valid JSON: ", error.what(), ")"));
  }
  TwoOfAName twice;
  twice.watch(text);
  if (!twice.name().empty()) {
    throw Error(concat(where, ": the header holds \"", twice.name(), "\" twice"));
  }
  return json;
}

Entry parse_entry(const std::string& name, const SortedJson& json, std::uint64_t data_bytes,
                  const std::string& where) {
  const auto fail = [&](const std::string& what) {
    throw Error(concat(where, ": tensor ", name, ": ", what));
  };
  Entry entry;
  entry.name = name;
  const auto is_unsigned = [](const SortedJson& item) { return item.is_number_unsigned(); };
  if (!json.is_object() || !json.contains("dtype") || !json["dtype"].is_string() ||
      !json.contains("shape") || !json["shape"].is_array() || !json.contains("data_offsets") ||
      !json["data_offsets"].is_array() || json["data_offsets"].size() != 2 ||
      !std::all_of(json["shape"].begin(), json["shape"].end(), is_unsigned) ||
      !std::all_of(json["data_offsets"].begin(), json["data_offsets"].end(), is_unsigned)) {
    fail("the header needs dtype, shape and data_offsets");
  }
  const auto dtype = json["dtype"].get<std::string>();
  const auto type = scalar_type(dtype);
  if (!type) fail("type " + dtype + " is not supported");
  entry.type = *type;
  std::uint64_t bytes = torch::elementSize(entry.type);
  std::int64_t extent = static_cast<std::int64_t>(bytes);  // without the sizes of 0
  if (json["shape"].size() > kMaxDimensions) fail("shape has too many dimensions");
  for (const auto& item : json["shape"]) {
    const auto size = item.get<std::uint64_t>();
    if (size > INT64_MAX || __builtin_mul_overflow(bytes, size, &bytes) ||
        __builtin_mul_overflow(extent, std::max(static_cast<std::int64_t>(size), std::int64_t{1}),
                               &extent)) {
      fail("shape is too large");
    }
    entry.shape.push_back(static_cast<std::int64_t>(size));
  }
  entry.begin = json["data_offsets"][0].get<std::uint64_t>();
  entry.end = json["data_offsets"][1].get<std::uint64_t>();
  if (entry.begin > entry.end || entry.end > data_bytes) {
    fail(concat("data [", entry.begin, ", ", entry.end, ") lies outside the file's ", data_bytes,
                " bytes of data"));
  }
  if (entry.end - entry.begin != bytes) {
    fail(concat("shape [", join(entry.shape, ", "), "] of ", dtype, " takes ", bytes,
                " bytes, data_offsets hold ", entry.end - entry.begin));
  }
  return entry;
}

TensorFile read_content(const std::filesystem::path& path) {
  const std::string where = path.string();
  const RandomAccessFile input(path);
  std::uint64_t header_bytes = 0;
  static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");
  if (!input.read_at(0, &header_bytes, sizeof header_bytes) || header_bytes > kMaxHeaderBytes ||
      header_bytes > input.size() - sizeof header_bytes) {
    throw Error(where + ": not a safetensors file (bad header length)");
  }
  std::string header(header_bytes, '\0');
  if (!input.read_at(sizeof header_bytes, header.data(), header.size())) {
    throw Error(where + ": truncated header");
  }
  const auto json = parse_header(header, where);
  if (!json.is_object()) throw Error(where + ": not a safetensors file (header is no JSON object)");

  const std::uint64_t data_start = sizeof header_bytes + header_bytes;
  const std::uint64_t data_bytes = input.size() - data_start;
  TensorFile file;
  std::vector<Entry> entries;
  for (const auto& [name, value] : json.items()) {
    if (name != "__metadata__") {
      entries.push_back(parse_entry(name, value, data_bytes, where));
      continue;
    }
    if (!value.is_object()) throw Error(where + ": __metadata__ must map strings to strings");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) throw Error(where + ": __metadata__ must map strings to strings");
      file.metadata[key] = text.get<std::string>();
    }
  }
  // The format allows neither overlaps nor holes.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t expected = 0;
  for (const auto& entry : entries) {
    if (entry.begin != expected) {
      throw Error(concat(where, ": tensor ", entry.name, ": data starts at ", entry.begin,
                         ", expected ", expected, " (overlap or hole)"));
    }
    expected = entry.end;
  }
  if (expected != data_bytes) {
    throw Error(concat(where, ": ", data_bytes, " bytes of data, the header describes ", expected));
  }
  for (const auto& entry : entries) {
    auto tensor = torch::empty(entry.shape, entry.type);
    if (!input.read_at(data_start + entry.begin, tensor.data_ptr(), entry.end - entry.begin)) {
      throw Error(concat(where, ": tensor ", entry.name, ": is truncated"));
    }
    file.tensors[entry.name] = tensor;
  }
  return file;
}

}  // namespace

TensorFile read_safetensors(const std::filesystem::path& path) {
  try {
    return read_content(path);
  } catch (const ReadError&) {
    throw;
  } catch (const Error& error) {
    throw Error(printable(error.what()));
  }
}

void write_safetensors(const std::filesystem::path& path, const TensorFile& file) {
  Json header = Json::object();
  if (!file.metadata.empty()) {
    for (const auto& [key, text] : file.metadata) header["__metadata__"][key] = text;
  }
  std::vector<torch::Tensor> tensors;
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : file.tensors) {
    tensors.push_back(tensor.detach().cpu().contiguous());
    const std::uint64_t end = offset + tensors.back().nbytes();
    header[name] = {{"dtype", type_name(tensor.scalar_type(), name)},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = json_text(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data aligned to 8 bytes
  write_file_atomically(path, [&](OutputFile& stream) {
    const std::uint64_t length = text.size();
    stream.write(&length, sizeof length);
    stream.write(text);
    for (const auto& tensor : tensors) stream.write(tensor.data_ptr(), tensor.nbytes());
  });
}

std::map<std::string, torch::Tensor> state_dict(const torch::nn::Module& module) {
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& item : module.named_parameters()) tensors[item.key()] = item.value().detach();
  for (const auto& item : module.named_buffers()) tensors[item.key()] = item.value().detach();
  return tensors;
}

void check_state_dict(const torch::nn::Module& module,
                      const std::map<std::string, torch::Tensor>& tensors) {
  auto report = match_state_dict(module, tensors);
  std::move(report.filled.begin(), report.filled.end(), std::back_inserter(report.missing));
  if (!report.is_complete()) {
    throw Error("weights do not fit the model; " + join(describe_misfits(report), "; "));
  }
}

void load_state_dict(torch::nn::Module& module,
                     const std::map<std::string, torch::Tensor>& tensors) {
  check_state_dict(module, tensors);
  const torch::NoGradGuard no_grad;
  for (auto& [name, tensor] : state_dict(module)) tensor.copy_(tensors.at(name));
}

}  // namespace segmamba::nn
