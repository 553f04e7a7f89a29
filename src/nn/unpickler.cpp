#include "unpickler.h"

#include <algorithm>
#include <bit>
#include <deque>
#include <iomanip>
#include <limits>
#include <optional>
#include <unordered_map>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

constexpr int kMaxDepth = 64;
constexpr std::size_t kMaxDimensions = 64;
// All of the following are some ten times what checkpoints of large networks need, and few enough
// that no pickle of 1 MB takes more than 100 MB.
//
// Values that a file may unfold to, and the bytes of its texts: memoized objects can be used again
// and again, and a short pickle could stand for 2^1000 of them.
constexpr std::size_t kMaxValues = 250'000;
constexpr std::size_t kMaxTextBytes = 16 << 20;
constexpr std::size_t kMaxNameBytes = 1000;  // of a Python object
// Objects while reading, and what is copied: a few bytes of a pickle can ask for a long list again.
constexpr std::size_t kMaxObjects = 800'000;
constexpr std::size_t kMaxCopied = 1'000'000;  // items of lists, or 8 bytes of text
constexpr std::size_t kTensorCost = 16;        // in the same units
// A tensor may show a number of its storage many times, and a storage may serve many tensors. All
// of them together take at most this many times the storages, and these bytes more: nnU-Net's files
// hold each tensor four times, and expanded ones are small.
constexpr std::uint64_t kMaxShownTimes = 16, kMaxShownBytes = 32 << 20;

// Objects on the pickle machine's stack. They live in one arena and point to one another freely,
// for a list can be memoized before it is filled.
struct Object;
struct Sequence {
  std::vector<Object*> items;
  bool is_tuple = false;
};
struct Mapping {
  std::vector<std::pair<Object*, Object*>> items;
  bool is_namespace = false;  // its items are attributes, which BUILD brings
};
struct Global {
  std::string name;  // "module.name"
};
struct StorageReference {
  c10::Storage storage;
  std::optional<torch::ScalarType> type;  // nothing: of bytes
};
struct NumpyType {
  torch::ScalarType type;
  bool is_big_endian = false;
};
struct NumpyArray {};  // until BUILD brings its content and makes it a tensor
struct Object {
  std::variant<std::monostate, bool, std::int64_t, double, std::string, torch::Tensor, Sequence,
               Mapping, Global, StorageReference, NumpyType, NumpyArray>
      data;
};

using TypeTable = std::unordered_map<std::string, torch::ScalarType>;

std::optional<torch::ScalarType> look_up(const TypeTable& types, const std::string& name) {
  const auto found = types.find(name);
  return found == types.end() ? std::nullopt : std::optional(found->second);
}

std::optional<torch::ScalarType> storage_type(const std::string& name) {
  static const TypeTable types = {
      {"torch.DoubleStorage", torch::kFloat64}, {"torch.FloatStorage", torch::kFloat32},
      {"torch.HalfStorage", torch::kFloat16},   {"torch.BFloat16Storage", torch::kBFloat16},
      {"torch.LongStorage", torch::kInt64},     {"torch.IntStorage", torch::kInt32},
      {"torch.ShortStorage", torch::kInt16},    {"torch.CharStorage", torch::kInt8},
      {"torch.ByteStorage", torch::kUInt8},     {"torch.BoolStorage", torch::kBool}};
  return look_up(types, name);
}

bool is_untyped_storage(const std::string& name) {
  return name == "torch.storage.UntypedStorage" || name == "torch.UntypedStorage";
}

std::optional<torch::ScalarType> torch_type(const std::string& name) {
  static const TypeTable types = {{"torch.float64", torch::kFloat64},
                                  {"torch.float32", torch::kFloat32},
                                  {"torch.float16", torch::kFloat16},
                                  {"torch.bfloat16", torch::kBFloat16},
                                  {"torch.int64", torch::kInt64},
                                  {"torch.int32", torch::kInt32},
                                  {"torch.int16", torch::kInt16},
                                  {"torch.int8", torch::kInt8},
                                  {"torch.uint8", torch::kUInt8},
                                  {"torch.bool", torch::kBool},
                                  {"torch.uint16", torch::kUInt16},
                                  {"torch.uint32", torch::kUInt32},
                                  {"torch.uint64", torch::kUInt64},
                                  {"torch.float8_e5m2", torch::kFloat8_e5m2},
                                  {"torch.float8_e4m3fn", torch::kFloat8_e4m3fn}};
  return look_up(types, name);
}

std::optional<torch::ScalarType> numpy_type(const std::string& name) {
  static const TypeTable types = {
      {"f8", torch::kFloat64}, {"f4", torch::kFloat32}, {"f2", torch::kFloat16},
      {"i8", torch::kInt64},   {"i4", torch::kInt32},   {"i2", torch::kInt16},
      {"i1", torch::kInt8},    {"u8", torch::kUInt64},  {"u4", torch::kUInt32},
      {"u2", torch::kUInt16},  {"u1", torch::kUInt8},   {"b1", torch::kBool}};
  return look_up(types, name);
}

class Machine {
 public:
  Machine(std::string_view pickle, const StorageReader& read_storage)
      : pickle_(pickle), read_storage_(read_storage) {}

  // The value, and in position() where the pickle ended.
  Value run() {
    while (step()) {
      if (arena_.size() > kMaxObjects || memo_.size() > kMaxObjects) fail("too many objects");
    }
    const auto* result = pop();
    if (!stack_.empty()) fail("objects left over");
    std::vector<Object*>().swap(stack_);
    return to_value(*result, 0);
  }
  std::size_t position() const { return position_; }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(concat("damaged or unsupported pickle at byte ", position_, ": ", what));
  }

  // The pickle's bytes.

  std::string_view take(std::uint64_t count) {
    if (count > pickle_.size() - position_) fail("it ends too early");
    const auto bytes = pickle_.substr(position_, count);
    position_ += count;
    return bytes;
  }

  template <class Unsigned>
  Unsigned take_little_endian() {
    Unsigned value = 0;
    int shift = 0;
    for (const char byte : take(sizeof(Unsigned))) {
      value |=
          static_cast<Unsigned>(static_cast<Unsigned>(static_cast<unsigned char>(byte)) << shift);
      shift += 8;
    }
    return value;
  }

  double take_big_endian_double() {
    std::uint64_t bits = 0;
    for (const char byte : take(8)) bits = bits << 8 | static_cast<unsigned char>(byte);
    return std::bit_cast<double>(bits);
  }

  std::string take_line() {
    const auto end = pickle_.find('\n', position_);
    if (end == std::string_view::npos) fail("it ends too early");
    std::string line(take(end - position_));
    take(1);
    return line;
  }

  // An integer of any length; of more than 64 bits, the nearest real number.
  void push_long() {
    const auto bytes = take(take_little_endian<std::uint8_t>());
    const bool is_negative = !bytes.empty() && static_cast<signed char>(bytes.back()) < 0;
    if (bytes.size() > 8) {
      double value = is_negative ? -1 : 0;
      for (std::size_t i = bytes.size(); i-- > 0;) {
        value = value * 256 + static_cast<unsigned char>(bytes[i]);
      }
      push(value);
      return;
    }
    std::uint64_t value = is_negative ? ~std::uint64_t{0} : 0;
    for (std::size_t i = bytes.size(); i-- > 0;) {
      value = value << 8 | static_cast<unsigned char>(bytes[i]);
    }
    push(static_cast<std::int64_t>(value));
  }

  // The stack and the memo.

  template <class T>
  void push(T value) {
    arena_.push_back(Object{std::move(value)});
    stack_.push_back(&arena_.back());
  }

  Object* pop() {
    if (stack_.empty() || (!marks_.empty() && stack_.size() <= marks_.back())) {
      fail("an object is missing");
    }
    auto* object = stack_.back();
    stack_.pop_back();
    return object;
  }

  Object* top() {
    auto* object = pop();
    stack_.push_back(object);
    return object;
  }

  std::vector<Object*> pop_to_mark() {
    if (marks_.empty()) fail("a mark is missing");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<Object*> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }

  void push_tuple(std::size_t count) {
    Sequence tuple{std::vector<Object*>(count), true};
    for (std::size_t i = count; i-- > 0;) tuple.items[i] = pop();
    push(std::move(tuple));
  }

  void recall(std::uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) fail("an unknown memo entry");
    stack_.push_back(found->second);
  }

  template <class T>
  T& as(Object* object, const char* wanted) const {
    if (auto* value = std::get_if<T>(&object->data)) return *value;
    fail(concat("expected ", wanted));
  }

  void append(const std::vector<Object*>& items) {
    auto& list = as<Sequence>(top(), "a list");
    if (list.is_tuple) fail("expected a list");
    list.items.insert(list.items.end(), items.begin(), items.end());
  }

  void set_items(const std::vector<Object*>& items) {
    auto& dict = as<Mapping>(top(), "a dict");
    if (items.size() % 2 != 0) fail("a dict key without a value");
    for (std::size_t i = 0; i < items.size(); i += 2) {
      dict.items.emplace_back(items[i], items[i + 1]);
    }
  }

  // One opcode; false at the end. The numbers are those of Python's pickle.py.
  bool step() {
    const auto opcode = take_little_endian<std::uint8_t>();
    switch (opcode) {
      case 0x80:  // PROTO
        if (const auto protocol = take_little_endian<std::uint8_t>(); protocol > 5) {
          fail(concat("protocol ", int{protocol}));
        }
        return true;
      case 0x95:  // FRAME
        take(8);
        return true;
      case '.':  // STOP
        return false;
      case '(':  // MARK
        marks_.push_back(stack_.size());
        return true;
      case 'N':  // NONE
        push(std::monostate{});
        return true;
      case 0x88:  // NEWTRUE
        push(true);
        return true;
      case 0x89:  // NEWFALSE
        push(false);
        return true;
      case 'J':  // BININT
        push<std::int64_t>(static_cast<std::int32_t>(take_little_endian<std::uint32_t>()));
        return true;
      case 'K':  // BININT1
        push<std::int64_t>(take_little_endian<std::uint8_t>());
        return true;
      case 'M':  // BININT2
        push<std::int64_t>(take_little_endian<std::uint16_t>());
        return true;
      case 0x8a:  // LONG1
        push_long();
        return true;
      case 'G':  // BINFLOAT
        push(take_big_endian_double());
        return true;
      case 'U':   // SHORT_BINSTRING
      case 'C':   // SHORT_BINBYTES
      case 0x8c:  // SHORT_BINUNICODE
        push(std::string(take(take_little_endian<std::uint8_t>())));
        return true;
      case 'T':  // BINSTRING
      case 'B':  // BINBYTES
      case 'X':  // BINUNICODE
        push(std::string(take(take_little_endian<std::uint32_t>())));
        return true;
      case 0x8e:  // BINBYTES8
      case 0x8d:  // BINUNICODE8
        push(std::string(take(take_little_endian<std::uint64_t>())));
        return true;
      case '}':  // EMPTY_DICT
        push(Mapping{});
        return true;
      case 0x8f:  // EMPTY_SET
      case ']':   // EMPTY_LIST
        push(Sequence{});
        return true;
      case ')':  // EMPTY_TUPLE
        push_tuple(0);
        return true;
      case 0x85:  // TUPLE1
      case 0x86:  // TUPLE2
      case 0x87:  // TUPLE3
        push_tuple(opcode - 0x84);
        return true;
      case 't':   // TUPLE
      case 0x91:  // FROZENSET
        push(Sequence{pop_to_mark(), true});
        return true;
      case 'a': {  // APPEND
        auto* item = pop();
        append({item});
        return true;
      }
      case 'e':   // APPENDS
      case 0x90:  // ADDITEMS
        append(pop_to_mark());
        return true;
      case 's': {  // SETITEM
        auto* value = pop();
        auto* key = pop();
        set_items({key, value});
        return true;
      }
      case 'u':  // SETITEMS
        set_items(pop_to_mark());
        return true;
      case 'q':  // BINPUT
        memo_[take_little_endian<std::uint8_t>()] = top();
        return true;
      case 'r':  // LONG_BINPUT
        memo_[take_little_endian<std::uint32_t>()] = top();
        return true;
      case 0x94:  // MEMOIZE
        memo_[memo_.size()] = top();
        return true;
      case 'h':  // BINGET
        recall(take_little_endian<std::uint8_t>());
        return true;
      case 'j':  // LONG_BINGET
        recall(take_little_endian<std::uint32_t>());
        return true;
      case 'c': {  // GLOBAL
        const auto module = take_line();
        push_global(module, take_line());
        return true;
      }
      case 0x93: {  // STACK_GLOBAL
        const auto& name = as<std::string>(pop(), "a name");
        push_global(as<std::string>(pop(), "a module"), name);
        return true;
      }
      case 'Q':  // BINPERSID
        push_storage();
        return true;
      case 'R':   // REDUCE
      case 0x81:  // NEWOBJ
        call();
        return true;
      case 'b':  // BUILD
        build();
        return true;
      default:
        fail(concat("opcode 0x", std::hex, int{opcode}));
    }
  }

  void push_global(const std::string& module, const std::string& name) {
    if (module.size() + name.size() > kMaxNameBytes) fail("the name of an object is too long");
    charge((module.size() + name.size()) / 8);
    push(Global{module + "." + name});
  }

  [[noreturn]] void refuse(const std::string& name) const {
    fail("the Python object \"" + name +
         "\" is not plain data (only tensors, dicts, lists, numbers and text are read, and no code "
         "is run; torch.save(model.state_dict(), ...) writes such a file)");
  }

  // Counts what is copied of objects that may be used again and again.
  void charge(std::size_t units) {
    copied_ += units;
    if (copied_ > kMaxCopied) fail("it unfolds to too much");
  }

  // ("storage", type, key, device, number of elements); in files before PyTorch 1.6 also None, or
  // the part of another storage that it shows.
  void push_storage() {
    const auto& id = as<Sequence>(pop(), "a storage").items;
    if (id.empty() || as<std::string>(id[0], "a storage") != "storage") {
      fail("a persistent object that is no storage (a whole Python module?)");
    }
    if (id.size() != 5 && !(id.size() == 6 && id[5]->data.index() == 0)) {
      fail("a storage that is a part of another one");
    }
    const auto& type_name = as<Global>(id[1], "a storage type").name;
    const auto type = storage_type(type_name);
    if (!type && !is_untyped_storage(type_name)) {
      fail("storage type " + type_name + " is not supported");
    }
    const auto& key = as<std::string>(id[2], "a storage key");
    if (key.size() > kMaxNameBytes) fail("the key of a storage is too long");
    StorageRequest request{key, as<std::int64_t>(id[4], "a number of elements")};
    if (request.elements < 0 ||
        __builtin_mul_overflow(static_cast<std::uint64_t>(request.elements),
                               type ? torch::elementSize(*type) : 1, &request.bytes)) {
      fail("bad number of elements");
    }
    auto found = storages_.find(request.key);
    if (found == storages_.end()) {
      found = storages_.emplace(request.key, read_storage_(request)).first;
      stored_bytes_ += found->second.nbytes();
    }
    if (found->second.nbytes() < request.bytes) {
      fail("storage " + request.key + " is too short");
    }
    push(StorageReference{found->second, type});
  }

  // REDUCE and NEWOBJ: what Python makes of plain arguments by a function or a class that is known
  // here. Nothing is ever called.
  void call() {
    auto* arguments = pop();
    const auto& name = as<Global>(pop(), "a function").name;
    const auto& values = as<Sequence>(arguments, "arguments").items;
    charge(values.size());
    if (!make_container(name, values) && !make_tensor(name, values) && !make_number(name, values)) {
      refuse(name);
    }
  }

  bool make_container(const std::string& name, const std::vector<Object*>& values) {
    if (name == "collections.OrderedDict" || name == "collections.Counter" ||
        name == "builtins.dict" || name == "__builtin__.dict") {
      Mapping mapping;
      if (values.size() == 1) fill(mapping, *values[0]);
      if (values.size() > 1) refuse(name);
      push(std::move(mapping));
    } else if (name == "collections.defaultdict") {
      push(Mapping{});  // the type of its default values does not matter
    } else if (name == "argparse.Namespace" || name == "types.SimpleNamespace") {
      if (!values.empty()) refuse(name);
      push(Mapping{{}, /*is_namespace=*/true});
    } else if (name == "builtins.set" || name == "builtins.frozenset" ||
               name == "__builtin__.set" || name == "__builtin__.frozenset" ||
               name == "torch.Size") {
      Sequence copy;
      if (values.size() > 1) refuse(name);
      if (values.size() == 1) {
        const auto& items = as<Sequence>(values[0], "a list").items;
        charge(items.size());
        copy.items = items;
      }
      push(std::move(copy));
    } else if (name == "torch.device" && !values.empty() && values.size() <= 2) {
      const auto& device = as<std::string>(values[0], "a device");
      if (device.size() > kMaxNameBytes) fail("the name of a device is too long");
      charge(device.size() / 8);
      std::string text = device;
      if (values.size() == 2) text += concat(":", as<std::int64_t>(values[1], "an index"));
      push(std::move(text));
    } else if (name == "pathlib.PosixPath" || name == "pathlib.WindowsPath") {
      std::vector<std::string> parts;
      for (auto* part : values) {
        const auto& text = as<std::string>(part, "a part of a path");
        charge(text.size() / 8);
        parts.push_back(text);
      }
      // An absolute path begins with the part "/".
      const bool is_absolute = !parts.empty() && parts.front() == "/";
      if (is_absolute) parts.front().clear();
      push(join(parts, "/"));
    } else {
      return false;
    }
    return true;
  }

  // A dict, or a list of pairs.
  void fill(Mapping& mapping, const Object& from) {
    if (const auto* other = std::get_if<Mapping>(&from.data)) {
      charge(other->items.size());
      mapping.items = other->items;
      return;
    }
    const auto* pairs = std::get_if<Sequence>(&from.data);
    if (pairs == nullptr) fail("expected a dict");
    charge(pairs->items.size());
    for (auto* pair : pairs->items) {
      const auto& items = as<Sequence>(pair, "a pair").items;
      if (items.size() != 2) fail("expected a pair");
      mapping.items.emplace_back(items[0], items[1]);
    }
  }

  bool make_tensor(const std::string& name, const std::vector<Object*>& values) {
    if ((name == "torch._utils._rebuild_tensor_v2" && values.size() >= 6) ||
        (name == "torch._utils._rebuild_tensor" && values.size() == 4)) {
      push(rebuild_tensor(values, std::nullopt));
    } else if (name == "torch._utils._rebuild_tensor_v3" && values.size() >= 7) {
      const auto& type = as<Global>(values[6], "a type").name;
      const auto known = torch_type(type);
      if (!known) fail("type " + type + " is not supported");
      push(rebuild_tensor(values, known));
    } else if ((name == "torch._utils._rebuild_parameter" ||
                name == "torch._utils._rebuild_parameter_with_state") &&
               values.size() >= 2) {
      push(as<torch::Tensor>(values[0], "a tensor"));
    } else {
      return false;
    }
    charge(kTensorCost);
    return true;
  }

  // numpy's scalars and arrays, and the bytes inside of them.
  bool make_number(const std::string& name, const std::vector<Object*>& values) {
    const auto is_numpy = [&name](const std::string& function) {
      return name == "numpy.core.multiarray." + function ||
             name == "numpy._core.multiarray." + function;
    };
    if (name == "_codecs.encode" && values.size() == 2) {
      const auto& encoding = as<std::string>(values[1], "an encoding");
      if (encoding != "latin1" && encoding != "latin-1") fail("bytes in the encoding " + encoding);
      push(latin1(as<std::string>(values[0], "text")));
    } else if ((name == "builtins.bytes" || name == "__builtin__.bytes") && values.empty()) {
      push(std::string());
    } else if (name == "numpy.dtype" && !values.empty()) {
      const auto& type = as<std::string>(values[0], "a type");
      const auto known = numpy_type(type);
      if (!known) fail("numpy's type " + type + " is not plain data");
      push(NumpyType{*known});
    } else if (is_numpy("scalar") && values.size() == 2) {
      push_scalar(numpy_tensor(as<NumpyType>(values[0], "a type"), {},
                               as<std::string>(values[1], "bytes")));
    } else if (is_numpy("_reconstruct") && values.size() == 3 &&
               as<Global>(values[0], "a type").name == "numpy.ndarray") {
      push(NumpyArray{});
    } else {
      return false;
    }
    return true;
  }

  // The bytes of a text whose letters are all below 256.
  std::string latin1(const std::string& text) {
    charge(text.size() / 8);
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto first = static_cast<unsigned char>(text[i]);
      if (first < 0x80) {
        bytes += text[i];
        continue;
      }
      if ((first != 0xc2 && first != 0xc3) || i + 1 == text.size()) fail("bytes that are none");
      ++i;
      bytes += static_cast<char>((first & 3) << 6 | (static_cast<unsigned char>(text[i]) & 0x3f));
    }
    return bytes;
  }

  torch::Tensor numpy_tensor(const NumpyType& type, const std::vector<std::int64_t>& sizes,
                             const std::string& bytes) {
    std::uint64_t wanted = torch::elementSize(type.type);
    for (const auto size : sizes) {
      if (__builtin_mul_overflow(wanted, static_cast<std::uint64_t>(size), &wanted)) {
        fail("an array that is too large");
      }
    }
    if (wanted != bytes.size()) fail("an array whose bytes do not fit its sizes");
    if (type.is_big_endian) fail("an array of a big-endian machine");
    charge(kTensorCost + bytes.size() / 8);
    auto tensor = torch::empty(sizes, type.type);
    std::copy(bytes.begin(), bytes.end(), static_cast<char*>(tensor.data_ptr()));
    stored_bytes_ += bytes.size();
    return tensor;
  }

  void push_scalar(const torch::Tensor& tensor) {
    if (tensor.scalar_type() == torch::kBool) {
      push(tensor.item<bool>());
    } else if (torch::isFloatingType(tensor.scalar_type())) {
      push(tensor.item<double>());
    } else {
      push(tensor.to(torch::kInt64).item<std::int64_t>());
    }
  }

  // BUILD: what Python would hand to __setstate__ or make attributes.
  void build() {
    auto* state = pop();
    auto* object = top();
    if (auto* mapping = std::get_if<Mapping>(&object->data)) {
      if (mapping->is_namespace) {
        charge(as<Mapping>(state, "attributes").items.size());
        const auto items = as<Mapping>(state, "attributes").items;  // may be those of itself
        mapping->items.insert(mapping->items.end(), items.begin(), items.end());
      }
      return;  // attributes of a dict, as OrderedDict's _metadata, do not matter
    }
    const auto& values = as<Sequence>(state, "a state").items;
    if (auto* type = std::get_if<NumpyType>(&object->data)) {
      if (values.size() < 2) fail("a numpy type without its byte order");
      type->is_big_endian = as<std::string>(values[1], "a byte order") == ">";
    } else if (std::holds_alternative<NumpyArray>(object->data)) {
      if (values.size() != 5) fail("a numpy array without its content");
      auto sizes = integers(values[1]);
      const bool is_fortran = as<bool>(values[3], "true or false");
      if (is_fortran) std::reverse(sizes.begin(), sizes.end());
      auto tensor = numpy_tensor(as<NumpyType>(values[2], "a type"), sizes,
                                 as<std::string>(values[4], "bytes"));
      if (is_fortran) tensor = tensor.permute(torch::IntArrayRef(reversed_axes(tensor.dim())));
      object->data = tensor;
    } else {
      fail("attributes of an object that has none");
    }
  }

  static std::vector<std::int64_t> reversed_axes(std::int64_t count) {
    std::vector<std::int64_t> axes;
    while (count-- > 0) axes.push_back(count);
    return axes;
  }

  std::vector<std::int64_t> integers(Object* object) const {
    std::vector<std::int64_t> numbers;
    const auto& items = as<Sequence>(object, "a tuple").items;
    if (items.size() > kMaxDimensions) fail(concat("a tensor of ", items.size(), " dimensions"));
    for (auto* item : items) {
      numbers.push_back(as<std::int64_t>(item, "an integer"));
      if (numbers.back() < 0) fail("a negative size");
    }
    return numbers;
  }

  // (storage, offset, sizes, strides, requires_grad, hooks)
  torch::Tensor rebuild_tensor(const std::vector<Object*>& values,
                               std::optional<torch::ScalarType> type) const {
    const auto& reference = as<StorageReference>(values[0], "a storage");
    if (!type) type = reference.type;
    if (!type) fail("a tensor without a type");
    const auto offset = as<std::int64_t>(values[1], "an offset");
    const auto sizes = integers(values[2]), strides = integers(values[3]);
    if (sizes.size() != strides.size() || offset < 0) {
      fail("a tensor's sizes and strides do not fit");
    }
    // The last element must lie in the storage.
    std::int64_t last = offset, elements = 1;
    std::int64_t extent = 16;  // without the sizes of 0, in bytes of the widest type
    bool overflow = false;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      std::int64_t step = 0;
      overflow |=
          __builtin_mul_overflow(std::max<std::int64_t>(sizes[i] - 1, 0), strides[i], &step);
      overflow |= __builtin_add_overflow(last, step, &last);
      overflow |= __builtin_mul_overflow(elements, sizes[i], &elements);
      overflow |= __builtin_mul_overflow(extent, std::max<std::int64_t>(sizes[i], 1), &extent);
    }
    const auto available =
        static_cast<std::int64_t>(reference.storage.nbytes() / torch::elementSize(*type));
    if (overflow || (elements > 0 && last >= available)) {
      fail("a tensor lies outside its storage");
    }
    return torch::empty({0}, *type)
        .set_(reference.storage, elements > 0 ? offset : 0, sizes, strides);
  }

  Value to_value(const Object& object, int depth) {
    if (depth > kMaxDepth) fail(concat("nested deeper than ", kMaxDepth));
    return std::visit([&](const auto& data) { return convert(data, depth); }, object.data);
  }

  // Values that are about to be made: the same object may be the content of many.
  void claim(std::size_t values) {
    values_ += values;
    if (values_ > kMaxValues) fail("too many values");
  }

  const std::string& count(const std::string& text) {
    text_bytes_ += text.size();
    if (text_bytes_ > kMaxTextBytes) fail("too much text");
    return text;
  }

  template <class Plain>
  Value convert(const Plain& data, int) const {
    return data;
  }
  Value convert(std::monostate, int) const { return {}; }
  Value convert(const torch::Tensor& tensor, int) {
    shown_bytes_ += static_cast<std::uint64_t>(tensor.numel()) * tensor.element_size();
    if (shown_bytes_ > kMaxShownTimes * stored_bytes_ + kMaxShownBytes) {
      fail(concat("its storages hold ", stored_bytes_, " bytes, its tensors at least ",
                  shown_bytes_, ": a number of a storage is shown again and again"));
    }
    return tensor;
  }
  Value convert(const std::string& text, int) { return count(text); }
  Value convert(const Sequence& sequence, int depth) {
    claim(sequence.items.size());
    List list;
    list.reserve(sequence.items.size());
    for (const auto* item : sequence.items) list.push_back(to_value(*item, depth + 1));
    return list;
  }
  Value convert(const Mapping& mapping, int depth) {
    claim(mapping.items.size());
    Dict dict;
    for (const auto& [key, item] : mapping.items) {
      auto value = to_value(*item, depth + 1);
      if (const auto* text = std::get_if<std::string>(&key->data)) {
        dict.set(count(*text), std::move(value));
      } else if (const auto* number = std::get_if<std::int64_t>(&key->data)) {
        dict.set(std::to_string(*number), std::move(value));
      } else {
        fail("a dict key that is neither text nor an integer");
      }
    }
    return dict;
  }
  Value convert(const Global& global, int) const {
    if (torch_type(global.name)) return global.name;
    refuse(global.name);
  }
  Value convert(const NumpyType& type, int) const {
    return std::string(torch::toString(type.type));
  }
  Value convert(const NumpyArray&, int) const { fail("a numpy array without its content"); }
  Value convert(const StorageReference&, int) const { fail("a storage outside a tensor"); }

  std::string_view pickle_;
  std::size_t position_ = 0;
  const StorageReader& read_storage_;
  std::deque<Object> arena_;
  std::vector<Object*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, Object*> memo_;
  std::unordered_map<std::string, c10::Storage> storages_;
  std::size_t values_ = 0, text_bytes_ = 0, copied_ = 0;
  std::uint64_t stored_bytes_ = 0, shown_bytes_ = 0;  // of the storages, and of what shows them
};

}  // namespace

Value unpickle(std::string_view pickle, const StorageReader& read_storage, std::size_t* length) {
  Machine machine(pickle, read_storage);
  auto value = machine.run();
  if (length != nullptr) *length = machine.position();
  return value;
}

}  // namespace segmamba::nn
