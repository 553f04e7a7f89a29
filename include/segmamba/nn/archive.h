#pragma once
// PyTorch's .pt files as plain data: what Python's torch.save writes of dicts, lists, numbers,
// texts and tensors. Reading runs no code, whatever the file asks for.

#include <torch/torch.h>

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace segmamba::nn {

class Value;
using List = std::vector<Value>;

// A dict with string keys in the order of insertion.
class Dict {
 public:
  // Null where there is no such key.
  const Value* find(const std::string& key) const;
  bool contains(const std::string& key) const { return find(key) != nullptr; }
  // Throws Error naming the key.
  const Value& at(const std::string& key) const;
  // Sets or replaces.
  void set(const std::string& key, Value value);
  const std::vector<std::pair<std::string, Value>>& items() const { return items_; }

 private:
  std::vector<std::pair<std::string, Value>> items_;
  std::unordered_map<std::string, std::size_t> places_;  // of the keys in items_
};

// None, bool, int, float, str, tensor, list (tuples too) or dict. The accessors throw Error where
// the value is of another kind.
class Value {
 public:
  Value() = default;
  Value(bool value) : data_(value) {}
  template <std::integral Integer>
  Value(Integer value) : data_(static_cast<std::int64_t>(value)) {}
  Value(double value) : data_(value) {}
  Value(std::string value) : data_(std::move(value)) {}
  Value(const char* value) : data_(std::string(value)) {}
  Value(torch::Tensor value) : data_(std::move(value)) {}
  Value(List value) : data_(std::move(value)) {}
  Value(Dict value) : data_(std::make_shared<const Dict>(std::move(value))) {}

  bool is_none() const { return holds<std::monostate>(); }
  bool is_bool() const { return holds<bool>(); }
  bool is_integer() const { return holds<std::int64_t>(); }
  bool is_real() const { return holds<double>(); }
  bool is_text() const { return holds<std::string>(); }
  bool is_tensor() const { return holds<torch::Tensor>(); }
  bool is_list() const { return holds<List>(); }
  bool is_dict() const { return holds<SharedDict>(); }

  bool boolean() const;
  std::int64_t integer() const;
  double real() const;  // of an integer too
  const std::string& text() const;
  const torch::Tensor& tensor() const;
  const List& list() const;
  const Dict& dict() const;

 private:
  // Shared, which nobody sees as it never changes, so that a number takes no more than a text does.
  using SharedDict = std::shared_ptr<const Dict>;

  template <class T>
  bool holds() const {
    return std::holds_alternative<T>(data_);
  }
  template <class T>
  const T& get(const char* wanted) const;

  std::variant<std::monostate, bool, std::int64_t, double, std::string, torch::Tensor, List,
               SharedDict>
      data_;
};

// Tensors are stored on the CPU, contiguous. Atomic. Throws Error.
void write_archive(const std::filesystem::path& path, const Dict& content);

// Reads zip archives and what PyTorch wrote before 1.6. Tensors come back on the CPU; integer keys
// of dicts as decimal text; OrderedDict, defaultdict, Counter and Namespace as dict, sets and
// torch.Size as list, Parameter as tensor, numpy's scalars as numbers and its arrays as tensors,
// devices, types and paths as text. Throws ReadError where the file cannot be read, and Error where
// it is damaged or holds another Python object.
Value read_archive(const std::filesystem::path& path);

// A hash of everything in a dict: keys and values in their order, the type, shape and bytes of
// tensors. Equal before writing and after reading. 32 hexadecimal digits.
std::string content_hash(const Dict& content);

// Between a dict of tensors and the map that load_state_dict takes. Throws Error naming the key
// where a value is no tensor.
std::map<std::string, torch::Tensor> tensor_map(const Dict& dict);
Dict tensor_dict(const std::map<std::string, torch::Tensor>& tensors);

}  // namespace segmamba::nn
