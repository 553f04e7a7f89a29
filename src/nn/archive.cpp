#include "segmamba/nn/archive.h"

#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/pickler.h>

#include <algorithm>
#include <bit>
#include <exception>
#include <new>
#include <set>
#include <unordered_map>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/hash.h"
#include "segmamba/core/output_file.h"
#include "segmamba/core/random_access_file.h"
#include "segmamba/core/text.h"
#include "unpickler.h"
#include "zip_reader.h"

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
    const auto type = value.tensor().scalar_type();
    static const std::set<torch::ScalarType> kTypes = {
        torch::kFloat64, torch::kFloat32, torch::kFloat16, torch::kBFloat16, torch::kInt64,
        torch::kInt32,   torch::kInt16,   torch::kInt8,    torch::kUInt8,    torch::kBool};
    if (!kTypes.contains(type)) {
      throw Error(concat("a tensor of type ", type, " cannot be written for torch.load"));
    }
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

// Memory for a storage that a file holds `bytes` of.
c10::Storage allocate(std::uint64_t bytes) {
  return {c10::Storage::use_byte_size_t(), c10::SymInt(static_cast<std::int64_t>(bytes)),
          c10::GetAllocator(c10::kCPU)->allocate(bytes), /*allocator=*/nullptr,
          /*resizable=*/false};
}

Value read_zip(const RandomAccessFile& file) {
  const ZipReader zip(file);
  if (!zip.has("data.pkl")) throw Error("not a file of torch.save (no data.pkl)");
  if (zip.has("constants.pkl")) throw Error("a TorchScript program, not a dict of tensors");
  if (zip.has("byteorder") && zip.size("byteorder") < 16 && zip.read("byteorder") != "little") {
    throw Error("saved on a big-endian machine");
  }
  if (zip.size("data.pkl") > kMaxPickleBytes) throw Error("data.pkl is too large");
  return unpickle(zip.read("data.pkl"), [&zip](const StorageRequest& wanted) {
    const std::string name = "data/" + wanted.key;
    if (!zip.has(name)) throw Error("there is no data of storage " + wanted.key);
    if (zip.size(name) < wanted.bytes) {
      throw Error(concat("storage ", wanted.key, " holds ", zip.size(name),
                         " bytes, its tensors need ", wanted.bytes));
    }
    auto storage = allocate(zip.size(name));
    zip.read(name, storage.mutable_data());
    return storage;
  });
}

// What torch.save wrote before PyTorch 1.6: pickles of a magic number, a version, facts on the
// machine, the content, and the keys of its storages, whose bytes follow in that order, each after
// its number of elements.
constexpr std::string_view kLegacyStart =
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

Value read_legacy(const RandomAccessFile& file) {
  std::string start(std::min<std::uint64_t>(file.size(), kMaxPickleBytes), '\0');
  if (!file.read_at(0, start.data(), start.size())) throw Error("ends too early");
  std::string_view rest(start);
  rest.remove_prefix(kLegacyStart.size());
  const auto next = [&rest](const StorageReader& read_storage) {
    std::size_t length = 0;
    auto value = unpickle(rest, read_storage, &length);
    rest.remove_prefix(length);
    return value;
  };
  const StorageReader none = [](const StorageRequest&) -> c10::Storage {
    throw Error("a storage where none belongs");
  };
  if (const auto version = next(none); !version.is_integer() || version.integer() != 1001) {
    throw Error("of an unknown version of torch.save");
  }
  const auto machine = next(none);
  const auto* little = machine.is_dict() ? machine.dict().find("little_endian") : nullptr;
  if (little != nullptr && little->is_bool() && !little->boolean()) {
    throw Error("saved on a big-endian machine");
  }

  // The storages' bytes come last: until then their memory is there, but empty.
  struct Pending {
    c10::Storage storage;
    std::int64_t elements;
    bool filled = false;
  };
  std::unordered_map<std::string, Pending> pending;
  std::uint64_t left = file.size();
  auto content = next([&](const StorageRequest& wanted) {
    if (wanted.bytes > left) {
      throw Error(
          concat("its storages need more bytes than the file has, at storage ", wanted.key));
    }
    left -= wanted.bytes;
    return pending.emplace(wanted.key, Pending{allocate(wanted.bytes), wanted.elements})
        .first->second.storage;
  });
  const auto keys = next(none);
  std::uint64_t place = start.size() - rest.size();
  for (const auto& key : keys.list()) {
    const auto found = pending.find(key.text());
    if (found == pending.end()) throw Error("holds a storage " + key.text() + " of no tensor");
    auto& [storage, elements, filled] = found->second;
    std::int64_t stored = 0;
    if (!file.read_at(place, &stored, sizeof stored)) {
      throw Error("truncated before storage " + key.text());
    }
    place += sizeof stored;
    if (stored != elements || filled) {
      throw Error(concat("storage ", key.text(), " has ", stored, " elements, its tensors need ",
                         elements));
    }
    if (!file.read_at(place, storage.mutable_data(), storage.nbytes())) {
      throw Error("truncated in storage " + key.text());
    }
    place += storage.nbytes();
    filled = true;
  }
  for (const auto& [key, entry] : pending) {
    if (!entry.filled) throw Error("there is no data of storage " + key);
  }
  return content;
}

Value read_content(const std::filesystem::path& path) {
  const RandomAccessFile file(path);
  if (file.size() == 0) throw Error("is empty");
  std::string start(std::min<std::uint64_t>(file.size(), kLegacyStart.size()), '\0');
  if (!file.read_at(0, start.data(), start.size())) throw Error("ends too early");
  if (starts_with(start, "PK")) return read_zip(file);
  if (start == kLegacyStart) return read_legacy(file);
  throw Error("not a file of torch.save");
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
const Dict& Value::dict() const { return *get<SharedDict>("a dict"); }

void write_archive(const std::filesystem::path& path, const Dict& content) {
  std::string pickle;
  torch::jit::Pickler pickler(
      [&pickle](const char* data, std::size_t size) { pickle.append(data, size); },
      /*tensor_table=*/nullptr, /*type_renamer=*/nullptr, /*memoized_class_types=*/nullptr,
      /*get_tensor_id=*/nullptr, /*tag_aggregates=*/false);
  pickler.protocol();
  pickler.pushIValue(to_ivalue(content));
  pickler.stop();

  write_file_atomically(path, [&](OutputFile& file) {
    // A write that fails is told below: the writer would answer it with an exception, and with
    // another one out of its destructor, which ends the program.
    std::exception_ptr failure;
    try {
      caffe2::serialize::PyTorchStreamWriter writer([&](const void* data, std::size_t size) {
        try {
          if (!failure) file.write(data, size);
        } catch (...) {
          failure = std::current_exception();
        }
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
    if (failure) std::rethrow_exception(failure);
  });
}

Value read_archive(const std::filesystem::path& path) {
  try {
    return read_content(path);
  } catch (const c10::Error& error) {
    // No damage of the file; LibTorch's allocator has no type of its own for it.
    if (first_line(error).find("DefaultCPUAllocator: ") != std::string::npos)
      throw std::bad_alloc();
    throw Error(path.string() + ": damaged or not a file of torch.save: " + first_line(error));
  } catch (const ReadError&) {
    throw;  // it names the file, and is no damage
  } catch (const Error& error) {
    throw Error(path.string() + ": " + printable(error.what()));
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
