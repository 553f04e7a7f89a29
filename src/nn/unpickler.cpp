#include "unpickler.h"

#include <bit>
#include <deque>
#include <iomanip>
#include <limits>
#include <unordered_map>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::nn {
namespace {

constexpr int kMaxDepth = 64;
constexpr std::size_t kMaxDimensions = 64;
// Values that a file may unfold to, and the bytes of its texts: memoized objects can be used again
// and again, and a short pickle could stand for 2^1000 of them.
constexpr std::size_t kMaxValues = 4'000'000;
constexpr std::size_t kMaxTextBytes = 256 << 20;
constexpr std::size_t kMaxNameBytes = 1000;  // of a Python object

// Objects on the pickle machine's stack. They live in one arena and point to one another freely,
// for a list can be memoized before it is filled.
struct Object;
struct Sequence {
  std::vector<Object*> items;
  bool is_tuple = false;
};
struct Mapping {
  std::vector<std::pair<Object*, Object*>> items;
};
struct Global {
  std::string name;  // "module name"
};
struct StorageReference {
  c10::Storage storage;
  torch::ScalarType type;
};
struct Object {
  std::variant<std::monostate, bool, std::int64_t, double, std::string, torch::Tensor, Sequence,
               Mapping, Global, StorageReference>
      data;
};

// "torch FloatStorage" and its like; nothing for any other name.
std::optional<torch::ScalarType> storage_type(const std::string& name) {
  static const std::unordered_map<std::string, torch::ScalarType> types = {
      {"torch DoubleStorage", torch::kFloat64}, {"torch FloatStorage", torch::kFloat32},
      {"torch HalfStorage", torch::kFloat16},   {"torch BFloat16Storage", torch::kBFloat16},
      {"torch LongStorage", torch::kInt64},     {"torch IntStorage", torch::kInt32},
      {"torch ShortStorage", torch::kInt16},    {"torch CharStorage", torch::kInt8},
      {"torch ByteStorage", torch::kUInt8},     {"torch BoolStorage", torch::kBool}};
  const auto found = types.find(name);
  return found == types.end() ? std::nullopt : std::optional(found->second);
}

class Machine {
 public:
  Machine(std::string_view pickle, const StorageReader& read_storage)
      : pickle_(pickle), read_storage_(read_storage) {}

  Value run() {
    while (step()) {
    }
    const auto* result = pop();
    if (!stack_.empty()) fail("objects left over");
    return to_value(*result, 0);
  }

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

  std::int64_t take_long() {
    const auto bytes = take(take_little_endian<std::uint8_t>());
    if (bytes.size() > 8) fail("an integer of more than 64 bits");
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      const bool negative = !bytes.empty() && static_cast<signed char>(bytes.back()) < 0;
      const std::uint64_t byte =
          i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : (negative ? 0xff : 0);
      value |= byte << (8 * i);
    }
    return static_cast<std::int64_t>(value);
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
        push(take_long());
        return true;
      case 'G':  // BINFLOAT
        push(take_big_endian_double());
        return true;
      case 0x8c:  // SHORT_BINUNICODE
        push(std::string(take(take_little_endian<std::uint8_t>())));
        return true;
      case 'X':  // BINUNICODE
        push(std::string(take(take_little_endian<std::uint32_t>())));
        return true;
      case 0x8d:  // BINUNICODE8
        push(std::string(take(take_little_endian<std::uint64_t>())));
        return true;
      case '}':  // EMPTY_DICT
        push(Mapping{});
        return true;
      case ']':  // EMPTY_LIST
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
      case 't':  // TUPLE
        push(Sequence{pop_to_mark(), true});
        return true;
      case 'a': {  // APPEND
        auto* item = pop();
        append({item});
        return true;
      }
      case 'e':  // APPENDS
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
      case 'R':  // REDUCE
        reduce();
        return true;
      case 'b':  // BUILD: attributes, of which torch.save writes OrderedDict's _metadata
        pop();
        as<Mapping>(top(), "a dict");
        return true;
      default:
        fail(concat("opcode 0x", std::hex, int{opcode}));
    }
  }

  void push_global(const std::string& module, const std::string& name) {
    if (module.size() + name.size() > kMaxNameBytes) fail("the name of an object is too long");
    push(Global{module + " " + name});
  }

  // ("storage", type, key, device, number of elements)
  void push_storage() {
    const auto& id = as<Sequence>(pop(), "a storage").items;
    if (id.size() != 5 || as<std::string>(id[0], "a storage") != "storage") {
      fail("expected a storage");
    }
    const auto& type_name = as<Global>(id[1], "a storage type").name;
    const auto type = storage_type(type_name);
    if (!type) fail("storage type " + type_name + " is not supported");
    const auto& key = as<std::string>(id[2], "a storage key");
    const auto elements = as<std::int64_t>(id[4], "a number of elements");
    std::uint64_t bytes = 0;
    if (elements < 0 || __builtin_mul_overflow(static_cast<std::uint64_t>(elements),
                                               torch::elementSize(*type), &bytes)) {
      fail("bad number of elements");
    }
    auto found = storages_.find(key);
    if (found == storages_.end()) found = storages_.emplace(key, read_storage_(key, bytes)).first;
    if (found->second.nbytes() < bytes) fail("storage " + key + " is too short");
    push(StorageReference{found->second, *type});
  }

  void reduce() {
    auto* arguments = pop();
    const auto name = as<Global>(pop(), "a function").name;
    const auto& values = as<Sequence>(arguments, "arguments").items;
    if (name == "collections OrderedDict" && values.empty()) {
      push(Mapping{});
    } else if (name == "torch._utils _rebuild_tensor_v2" && values.size() >= 6) {
      push(rebuild_tensor(values));
    } else if (name == "torch._utils _rebuild_parameter" && values.size() >= 2) {
      push(as<torch::Tensor>(values[0], "a tensor"));
    } else {
      fail("the Python object \"" + name + "\" is not plain data");
    }
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
  torch::Tensor rebuild_tensor(const std::vector<Object*>& values) const {
    const auto& reference = as<StorageReference>(values[0], "a storage");
    const auto offset = as<std::int64_t>(values[1], "an offset");
    const auto sizes = integers(values[2]), strides = integers(values[3]);
    if (sizes.size() != strides.size() || offset < 0) {
      fail("a tensor's sizes and strides do not fit");
    }
    // The last element must lie in the storage.
    std::int64_t last = offset, elements = 1;
    bool overflow = false;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      std::int64_t step = 0;
      overflow |=
          __builtin_mul_overflow(std::max<std::int64_t>(sizes[i] - 1, 0), strides[i], &step);
      overflow |= __builtin_add_overflow(last, step, &last);
      overflow |= __builtin_mul_overflow(elements, sizes[i], &elements);
    }
    const auto available =
        static_cast<std::int64_t>(reference.storage.nbytes() / torch::elementSize(reference.type));
    if (overflow || (elements > 0 && last >= available)) {
      fail("a tensor lies outside its storage");
    }
    return torch::empty({0}, reference.type)
        .set_(reference.storage, elements > 0 ? offset : 0, sizes, strides);
  }

  Value to_value(const Object& object, int depth) {
    if (depth > kMaxDepth) fail(concat("nested deeper than ", kMaxDepth));
    if (++values_ > kMaxValues) fail("too many values");
    return std::visit([&](const auto& data) { return convert(data, depth); }, object.data);
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
  Value convert(const std::string& text, int) { return count(text); }
  Value convert(const Sequence& sequence, int depth) {
    List list;
    for (const auto* item : sequence.items) list.push_back(to_value(*item, depth + 1));
    return list;
  }
  Value convert(const Mapping& mapping, int depth) {
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
    fail("the Python object \"" + global.name + "\" is not plain data");
  }
  Value convert(const StorageReference&, int) const { fail("a storage outside a tensor"); }

  std::string_view pickle_;
  std::size_t position_ = 0;
  const StorageReader& read_storage_;
  std::deque<Object> arena_;
  std::vector<Object*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, Object*> memo_;
  std::unordered_map<std::string, c10::Storage> storages_;
  std::size_t values_ = 0, text_bytes_ = 0;
};

}  // namespace

Value unpickle(std::string_view pickle, const StorageReader& read_storage) {
  return Machine(pickle, read_storage).run();
}

}  // namespace segmamba::nn
