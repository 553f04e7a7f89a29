// The rules on random maps, against the same rules voxel by voxel.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <map>

#include "label_map.h"
#include "segmamba/core/random.h"

namespace segmamba::post {
namespace {

using metrics::Connectivity;
using metrics::Region;
using metrics::Size;

class Naive {
 public:
  Naive(Map& map, const Rule& rule) : map_(map), rule_(rule) {}

  void apply() {
    if (rule_.kind == RuleKind::kFillHoles) return fill();
    auto parts = parts_of([&](std::uint8_t label) { return in_region(label); }, rule_.connectivity);
    double total = 0;
    for (const auto& part : parts) total += static_cast<double>(part.size());
    if (rule_.kind == RuleKind::kKeepLargest) {
      std::stable_sort(parts.begin(), parts.end(),
                       [](const auto& a, const auto& b) { return a.size() > b.size(); });
      parts.erase(parts.begin(), parts.begin() + std::min(std::ssize(parts), rule_.count));
    }
    const Map before = map_;
    for (const auto& part : parts) {
      const double voxels =
          rule_.kind == RuleKind::kReplaceBelow ? total : static_cast<double>(part.size());
      if (rule_.kind != RuleKind::kKeepLargest && voxels > rule_.millilitres * 1000 - 0.5) continue;
      const std::uint8_t label = around(before, part, false);
      for (const Size& place : part) map_.at(place) = rule_.becomes.value_or(label);
    }
  }

 private:
  using Part = std::vector<Size>;

  bool in_region(std::uint8_t label) const {
    return std::find(rule_.region.labels.begin(), rule_.region.labels.end(), label) !=
           rule_.region.labels.end();
  }
  bool is_inside(const Size& place) const {
    for (int axis = 0; axis < 3; ++axis) {
      if (place[axis] < 0 || place[axis] >= map_.grid.size[axis]) return false;
    }
    return true;
  }

  void fill() {
    const Map before = map_;
    for (const Part& part :
         parts_of([&](std::uint8_t label) { return !in_region(label); }, Connectivity::kFaces)) {
      const bool touches_border = std::any_of(part.begin(), part.end(), [&](const Size& place) {
        for (int axis = 0; axis < 3; ++axis) {
          if (place[axis] == 0 || place[axis] + 1 == map_.grid.size[axis]) return true;
        }
        return false;
      });
      if (touches_border) continue;
      const std::uint8_t label = rule_.becomes.value_or(around(before, part, true));
      for (const Size& place : part) {
        if (map_.at(place) == 0) map_.at(place) = label;
      }
    }
  }

  static void for_each_neighbour(Connectivity connectivity, const Size& at,
                                 const std::function<void(const Size&)>& body) {
    const int most = connectivity == Connectivity::kFaces   ? 1
                     : connectivity == Connectivity::kEdges ? 2
                                                            : 3;
    for (int dz = -1; dz <= 1; ++dz) {
      for (int dy = -1; dy <= 1; ++dy) {
        for (int dx = -1; dx <= 1; ++dx) {
          const int steps = std::abs(dx) + std::abs(dy) + std::abs(dz);
          if (steps > 0 && steps <= most) body({at[0] + dx, at[1] + dy, at[2] + dz});
        }
      }
    }
  }

  std::vector<Part> parts_of(const std::function<bool(std::uint8_t)>& is_member,
                             Connectivity connectivity) {
    std::vector<Part> parts;
    Map seen(map_.grid.size);
    const auto [nx, ny, nz] = map_.grid.size;
    for (std::int64_t z = 0; z < nz; ++z) {
      for (std::int64_t y = 0; y < ny; ++y) {
        for (std::int64_t x = 0; x < nx; ++x) {
          if (!is_member(map_.at(x, y, z)) || seen.at(x, y, z) != 0) continue;
          seen.at(x, y, z) = 1;
          Part part = {{x, y, z}};
          for (std::size_t i = 0; i < part.size(); ++i) {
            for_each_neighbour(connectivity, Size(part[i]), [&](const Size& next) {
              if (!is_inside(next) || seen.at(next) != 0 || !is_member(map_.at(next))) return;
              seen.at(next) = 1;
              part.push_back(next);
            });
          }
          parts.push_back(std::move(part));
        }
      }
    }
    return parts;
  }

  std::uint8_t around(Map before, const Part& part, bool of_region) const {
    std::map<std::uint8_t, int> faces;
    for (const Size& place : part) {
      for_each_neighbour(Connectivity::kFaces, place, [&](const Size& next) {
        if (is_inside(next) && in_region(before.at(next)) == of_region) ++faces[before.at(next)];
      });
    }
    std::uint8_t best = 0;
    int most = 0;
    for (const auto& [label, count] : faces) {
      if (count > most) {
        most = count;
        best = label;
      }
    }
    return best;
  }

  Map& map_;
  const Rule& rule_;
};

// Mostly background or mostly tumour, so that there are both parts and holes.
Map random_map(const Size& size, double background, std::uint64_t seed) {
  Map map(size);
  Random random(seed);
  for (std::uint8_t& label : map.labels) {
    label = random.chance(background) ? 0 : static_cast<std::uint8_t>(1 + random.integer(4));
  }
  return map;
}

std::vector<Rule> all_rules() {
  std::vector<Rule> rules;
  for (const Region& region : {kWhole, kEnhancing, Region{"TC", {1, 3}}}) {
    for (const auto connectivity :
         {Connectivity::kFaces, Connectivity::kEdges, Connectivity::kCorners}) {
      for (const auto kind : {RuleKind::kFillHoles, RuleKind::kKeepLargest, RuleKind::kRemoveBelow,
                              RuleKind::kReplaceBelow}) {
        for (const std::optional<std::uint8_t> becomes :
             {std::optional<std::uint8_t>{}, std::optional<std::uint8_t>{4}}) {
          if (kind == RuleKind::kReplaceBelow && !becomes) continue;
          rules.push_back({kind, "", region, kind == RuleKind::kReplaceBelow ? 0.05 : 0.003, 2,
                           becomes, connectivity});
        }
      }
    }
  }
  return rules;
}

TEST(Postprocess, EqualsTheRulesVoxelByVoxelAndIsIdempotent) {
  std::uint64_t seed = 0;
  std::int64_t changed = 0;
  for (const Rule& rule : all_rules()) {
    for (const double background : {0.95, 0.7, 0.3, 0.05}) {
      for (const Size& size : {Size{7, 6, 5}, Size{1, 9, 8}, Size{5, 5, 5}}) {
        const Map map = random_map(size, background, seed++);
        Map expected = map, found = map;
        Naive(expected, rule).apply();
        const Change change = found.apply(rule);
        ASSERT_EQ(found.labels, expected.labels)
            << static_cast<int>(rule.kind) << " of " << rule.region.name << ", "
            << static_cast<int>(rule.connectivity) << ", " << background;
        std::int64_t differing = 0;
        for (std::size_t i = 0; i < map.labels.size(); ++i) {
          differing += map.labels[i] != found.labels[i] ? 1 : 0;
        }
        EXPECT_EQ(change.voxels, differing);
        EXPECT_EQ(change.parts > 0, differing > 0);
        changed += differing;
        EXPECT_EQ(found.apply(rule).voxels, 0);
        EXPECT_EQ(found.labels, expected.labels);
      }
    }
  }
  EXPECT_GT(changed, 1000);
}

}  // namespace
}  // namespace segmamba::post
