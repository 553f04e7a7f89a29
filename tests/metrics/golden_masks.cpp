#include "golden_masks.h"

#include <algorithm>
#include <cstdio>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::metrics::testing {
namespace {

std::string crc32(const std::vector<std::uint8_t>& bytes) {
  std::uint32_t crc = 0xffffffffu;
  for (const std::uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1u) != 0 ? 0xedb88320u : 0u);
  }
  char text[9];
  std::snprintf(text, sizeof text, "%08x", ~crc);
  return text;
}

// F becomes the sum over offsets -radius..radius along one axis.
void box_sum(std::vector<std::int64_t>& field, const Size& size, int axis, std::int64_t radius) {
  const std::int64_t stride = axis == 0 ? 1 : axis == 1 ? size[0] : size[0] * size[1];
  const std::int64_t length = size[axis];
  std::vector<std::int64_t> line(static_cast<std::size_t>(length));
  for (std::int64_t start = 0; start < voxel_count(size); ++start) {
    if (start / stride % length != 0) continue;
    for (std::int64_t i = 0; i < length; ++i) line[i] = field[start + i * stride];
    for (std::int64_t i = 0; i < length; ++i) {
      std::int64_t sum = 0;
      const std::int64_t high = std::min(length - 1, i + radius);
      for (std::int64_t j = std::max<std::int64_t>(0, i - radius); j <= high; ++j) sum += line[j];
      field[start + i * stride] = sum;
    }
  }
}

class Painter {
 public:
  Painter(const Size& size, const std::vector<std::uint8_t>& reference)
      : size_(size), reference_(reference), canvas_(static_cast<std::size_t>(voxel_count(size))) {}

  std::vector<std::uint8_t> paint(const Json& operations) {
    for (const Json& operation : operations) apply(operation);
    return canvas_;
  }

 private:
  template <class Body>
  void for_each_voxel(Body body) {
    std::size_t i = 0;
    for (std::int64_t z = 0; z < size_[2]; ++z) {
      for (std::int64_t y = 0; y < size_[1]; ++y) {
        for (std::int64_t x = 0; x < size_[0]; ++x) body(Size{x, y, z}, canvas_[i++]);
      }
    }
  }

  void apply(const Json& operation) {
    const auto name = operation.at("op").get<std::string>();
    const auto value = static_cast<std::uint8_t>(operation.value("value", 0));
    if (name == "box") {
      const auto low = operation.at("lo").get<Size>(), high = operation.at("hi").get<Size>();
      for_each_voxel([&](const Size& at, std::uint8_t& voxel) {
        bool inside = true;
        for (int axis = 0; axis < 3; ++axis) {
          inside = inside && low[axis] <= at[axis] && at[axis] < high[axis];
        }
        if (inside) voxel = value;
      });
    } else if (name == "ball") {
      const auto center = operation.at("center").get<Size>();
      const auto weights = operation.value("weights", Size{1, 1, 1});
      const auto r2 = operation.at("r2").get<std::int64_t>();
      for_each_voxel([&](const Size& at, std::uint8_t& voxel) {
        std::int64_t sum = 0;
        for (int axis = 0; axis < 3; ++axis) {
          const std::int64_t offset = at[axis] - center[axis];
          sum += weights[axis] * offset * offset;
        }
        if (sum <= r2) voxel = value;
      });
    } else if (name == "voxels") {
      for (const Json& at : operation.at("at")) {
        const auto [x, y, z] = at.get<Size>();
        canvas_[(z * size_[1] + y) * size_[0] + x] = value;
      }
    } else if (name == "fill") {
      std::fill(canvas_.begin(), canvas_.end(), value);
    } else if (name == "copy") {
      canvas_ = reference_;
    } else if (name == "roll") {
      const int axis = operation.at("axis").get<int>();
      const auto shift = operation.at("shift").get<std::int64_t>();
      const std::vector<std::uint8_t> old = canvas_;
      for_each_voxel([&](Size at, std::uint8_t& voxel) {
        at[axis] = ((at[axis] - shift) % size_[axis] + size_[axis]) % size_[axis];
        voxel = old[(at[2] * size_[1] + at[1]) * size_[0] + at[0]];
      });
    } else if (name == "noise") {
      apply_noise(operation);
    } else {
      throw Error(concat("operation ", name, " is not known"));
    }
  }

  void apply_noise(const Json& operation) {
    std::vector<std::int64_t> sum(canvas_.size());
    for (const Json& term : operation.at("terms")) {
      const auto bytes = lcg_bytes(term.at("seed").get<std::uint32_t>(), canvas_.size());
      std::vector<std::int64_t> field(bytes.begin(), bytes.end());
      for (int pass = 0; pass < operation.at("passes").get<int>(); ++pass) {
        for (int axis = 0; axis < 3; ++axis) {
          box_sum(field, size_, axis, operation.at("radius").get<std::int64_t>());
        }
      }
      const auto weight = term.at("weight").get<std::int64_t>();
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += weight * field[i];
    }
    for (const Json& threshold : operation.at("thresholds")) {
      const auto above = threshold.at("above").get<std::int64_t>();
      const auto value = threshold.at("value").get<std::uint8_t>();
      for (std::size_t i = 0; i < sum.size(); ++i) {
        if (sum[i] > above) canvas_[i] = value;
      }
    }
  }

  Size size_;
  const std::vector<std::uint8_t>& reference_;
  std::vector<std::uint8_t> canvas_;
};

void check(const std::vector<std::uint8_t>& mask, const Json& checks, const std::string& what) {
  std::int64_t voxels = 0, sum = 0;
  for (const std::uint8_t value : mask) {
    voxels += value != 0;
    sum += value;
  }
  if (voxels != checks.at("voxels").get<std::int64_t>() ||
      sum != checks.at("sum").get<std::int64_t>() ||
      crc32(mask) != checks.at("crc32").get<std::string>()) {
    throw Error(concat(what, ": the mask built here is not the one that was measured"));
  }
}

}  // namespace

std::vector<std::uint8_t> lcg_bytes(std::uint32_t seed, std::size_t count) {
  std::vector<std::uint8_t> bytes(count);
  for (std::uint8_t& byte : bytes) {
    seed = 1664525u * seed + 1013904223u;
    byte = static_cast<std::uint8_t>(seed >> 24);
  }
  return bytes;
}

GoldenCase build_case(const Json& item) {
  GoldenCase result;
  result.name = item.at("name").get<std::string>();
  result.has_labels = item.at("kind").get<std::string>() == "labels";
  result.grid = {item.at("shape").get<Size>(), item.at("spacing").get<Spacing>()};
  result.expected = item.at("expected");
  result.reference = Painter(result.grid.size, {}).paint(item.at("gt"));
  result.prediction = Painter(result.grid.size, result.reference).paint(item.at("pred"));
  check(result.reference, item.at("checks").at("gt"), result.name + " gt");
  check(result.prediction, item.at("checks").at("pred"), result.name + " pred");
  if (!result.has_labels) {
    for (auto* mask : {&result.reference, &result.prediction}) {
      for (std::uint8_t& value : *mask) value = value != 0 ? 3 : 0;
    }
  }
  return result;
}

const Json& golden_file() {
  static const Json file = read_json(std::string(SEGMAMBA_TEST_DATA) + "/metrics/cases.json");
  return file;
}

}  // namespace segmamba::metrics::testing
