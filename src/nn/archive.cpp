#include "segmamba/nn/archive.h"

#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/pickler.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <tuple>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/text.h"
#include "unpickler.h"

namespace segmamba::nn {
namespace {

// A state dict of a thousand tensors takes a few hundred KB; every byte can become an object.
constexpr std::size_t kMaxPickleBytes = 16 << 20;

c10::IValue to_ivalue(const Value& value) {
  if (value.is_none()) return {};
  if (value.is_bool()) return value.boolean();
  if (value.is_integer()) return value.integer();
  if (value.is_real()) return value.real();
  if (value.is_text()) return value.text();
  if (value.is_tensor()) {
    // A view would bring its whole storage along.
    auto tensor = value.tensor().detach().cpu().contiguous();
    return tensor.storage().nbytes() == tensor.nbytes() ? tensor : tensor.clone();
  }
  if (value.is_list()) {
    c10::impl::GenericList list(c10::AnyType::get());
    for (const auto& item : value.list()) list.push_back(to_ivalue(item));
    return list;
  }
  c10::impl::GenericDict dict(c10::StringType::get(), c10::AnyType::get());
  for (const auto& [key, item] : value.dict().items()) dict.insert(key, to_ivalue(item));
  return dict;
}

// LibTorch's message without its stack and check location.
std::string first_line(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  return text.substr(0, text.find('\n'));
}

// The records of an archive. torch.save does not compress them, so together they take no more bytes
// than the file; a small file that asks for more memory is refused before it gets any.
class Records {
 public:
  Records(std::istream* stream, std::uint64_t file_bytes) : reader_(stream), left_(file_bytes) {}

  bool has(const std::string& name) { return reader_.hasRecord(name); }
  std::uint64_t size(const std::string& name) { return reader_.getRecordSize(name); }

  std::tuple<c10::DataPtr, std::size_t> read(const std::string& name) {
    const auto bytes = size(name);
    if (bytes > left_) throw Error("the record " + name + " holds more bytes than the file");
    left_ -= bytes;
    return reader_.getRecord(name);
  }

  c10::Storage read_storage(const std::string& key, std::uint64_t bytes) {
    const std::string name = "data/" + key;
    if (!has(name)) throw Error("there is no data of storage " + key);
    if (size(name) < bytes) {
      throw Error(
          concat("storage ", key, " holds ", size(name), " bytes, its tensors need ", bytes));
    }
    auto [data, read_bytes] = read(name);
    return {c10::Storage::use_byte_size_t(), c10::SymInt(static_cast<std::int64_t>(read_bytes)),
            std::move(data),
            /*allocator=*/nullptr, /*resizable=*/false};
  }

 private:
  caffe2::serialize::PyTorchStreamReader reader_;
  std::uint64_t left_;
};

Value read_content(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  char magic[2] = {};
  if (!stream.read(magic, sizeof magic)) {
    throw Error(concat("cannot be read: ", stream.eof() ? "is empty" : std::strerror(errno)));
  }
  if (magic[0] != 'P' || magic[1] != 'K') {
    throw Error(
        "not a zip archive of torch.save (files of PyTorch before 1.6 must be saved again by a "
        "newer one)");
  }
  stream.seekg(0);
  Records records(&stream, std::filesystem::file_size(path));
  if (!records.has("data.pkl")) throw Error("not a file of torch.save (no data.pkl)");
  if (records.has("constants.pkl")) throw Error("a TorchScript program, not a dict of tensors");
  if (records.has("byteorder")) {
    const auto [data, size] = records.read("byteorder");
    if (std::string_view(static_cast<const char*>(data.get()), size) != "little") {
      throw Error("saved on a big-endian machine");
    }
  }
  if (records.size("data.pkl") > kMaxPickleBytes) throw Error("data.pkl is too large");
  const auto [pickle, size] = records.read("data.pkl");
  return unpickle({static_cast<const char*>(pickle.get()), size},
                  [&records](const std::string& key, std::uint64_t bytes) {
                    return records.read_storage(key, bytes);
                  });
}

}  // namespace

const Value* Dict::find(const std::string& key) const {
  const auto place = places_.find(key);
  return place == places_.end() ? nullptr : &items_[place->second].second;
}

const Value& Dict::at(const std::string& key) const {
  const auto* value = find(key);
  if (value == nullptr) throw Error("there is no key \"" + key + "\"");
  return *value;
}

void Dict::set(const std::string& key, Value value) {
  const auto [place, is_new] = places_.emplace(key, items_.size());
  if (is_new) {
    items_.emplace_back(key, std::move(value));
  } else {
    items_[place->second].second = std::move(value);
  }
}

template <class T>
const T& Value::get(const char* wanted) const {
  static const char* const kKinds[] = {"none", "a bool",   "an integer", "a real number",
                                       "text", "a tensor", "a list",     "a dict"};
  if (const auto* value = std::get_if<T>(&data_)) return *value;
  throw Error(concat("expected ", wanted, ", found ", kKinds[data_.index()]));
}

bool Value::boolean() const { return get<bool>("a bool"); }
std::int64_t Value::integer() const { return get<std::int64_t>("an integer"); }
double Value::real() const {
  return is_integer() ? static_cast<double>(integer()) : get<double>("a real number");
}
const std::string& Value::text() const { return get<std::string>("text"); }
const torch::Tensor& Value::tensor() const { return get<torch::Tensor>("a tensor"); }
const List& Value::list() const { return get<List>("a list"); }
const Dict& Value::dict() const { return get<Dict>("a dict"); }

void write_archive(const std::filesystem::path& path, const Dict& content) {
  std::string pickle;
  torch::jit::Pickler pickler(
      [&pickle](const char* data, std::size_t size) { pickle.append(data, size); },
      /*tensor_table=*/nullptr, /*type_renamer=*/nullptr, /*memoized_class_types=*/nullptr,
      /*get_tensor_id=*/nullptr, /*tag_aggregates=*/false);
  pickler.protocol();
  pickler.pushIValue(to_ivalue(content));
  pickler.stop();

  write_file_atomically(path, [&](const std::filesystem::path& temporary) {
    std::ofstream stream(temporary, std::ios::binary);
    try {
      // A write that fails is seen below: the writer would answer it with an exception, and with
      // another one out of its destructor, which ends the program.
      caffe2::serialize::PyTorchStreamWriter writer([&stream](const void* data, std::size_t size) {
        stream.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
        return size;
      });
      writer.writeRecord("data.pkl", pickle.data(), pickle.size());
      writer.writeRecord("byteorder", "little", 6);
      std::size_t index = 0;
      for (const auto& tensor : pickler.tensorData()) {
        writer.writeRecord(concat("data/", index++), tensor.storage().data(), tensor.nbytes());
      }
      writer.writeEndOfFile();
    } catch (const c10::Error& error) {
      throw Error(path.string() + ": cannot be written: " + first_line(error));
    }
    stream.close();
    if (!stream) throw Error(path.string() + ": cannot be written (is the disk full?)");
  });
}

Value read_archive(const std::filesystem::path& path) {
  try {
    return read_content(path);
  } catch (const c10::Error& error) {
    throw Error(path.string() + ": damaged or not a file of torch.save: " + first_line(error));
  } catch (const Error& error) {
    throw Error(path.string() + ": " + error.what());
  }
}

namespace {

// What a value is, as text without gaps between one meaning and another.
void describe(const Value& value, std::string& text) {
  const auto add = [&text](char kind, const std::string& content) {
    text += concat(kind, content.size(), ":", content);
  };
  if (value.is_tensor()) {
    const auto tensor = value.tensor().detach().cpu().contiguous();
    add('t', concat(tensor.scalar_type(), " ", tensor.sizes(), " ",
                    hash_bytes(tensor.data_ptr(), tensor.nbytes()).to_string()));
  } else if (value.is_dict()) {
    text += concat('d', value.dict().items().size(), ":");
    for (const auto& [key, item] : value.dict().items()) {
      add('k', key);
      describe(item, text);
    }
  } else if (value.is_list()) {
    text += concat('l', value.list().size(), ":");
    for (const auto& item : value.list()) describe(item, text);
  } else if (value.is_text()) {
    add('s', value.text());
  } else if (value.is_real()) {
    const auto bits = std::bit_cast<std::uint64_t>(value.real());
    add('r', concat(bits));
  } else if (value.is_integer()) {
    add('i', concat(value.integer()));
  } else {
    add('b', value.is_bool() ? concat(value.boolean()) : "none");
  }
}

}  // namespace

std::string content_hash(const Dict& content) {
  std::string text;
  describe(content, text);
  return hash_bytes(text.data(), text.size()).to_string();
}

std::map<std::string, torch::Tensor> tensor_map(const Dict& dict) {
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& [key, value] : dict.items()) {
    if (!value.is_tensor()) throw Error("\"" + key + "\" is not a tensor");
    tensors[key] = value.tensor();
  }
  return tensors;
}

Dict tensor_dict(const std::map<std::string, torch::Tensor>& tensors) {
  Dict dict;
  for (const auto& [key, tensor] : tensors) dict.set(key, tensor);
  return dict;
}

}  // namespace segmamba::nn
