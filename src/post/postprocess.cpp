#include "segmamba/post/postprocess.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::post {
namespace {

using metrics::Box;
using metrics::Parts;
using metrics::Run;
using metrics::Runs;
using metrics::Size;

// Which labels are meant.
using LabelSet = std::array<bool, 256>;

LabelSet labels_of(const metrics::Region& region) {
  LabelSet set{};
  for (const std::uint8_t label : region.labels) set[label] = true;
  return set;
}

LabelSet others(const LabelSet& set) {
  LabelSet rest{};
  std::transform(set.begin(), set.end(), rest.begin(), [](bool is_in) { return !is_in; });
  return rest;
}

Box bounds(const Runs& runs) {
  Box box{runs.size(), {}};
  runs.for_each([&](const Run& run, std::int32_t, std::int64_t y, std::int64_t z) {
    box.low = {std::min<std::int64_t>(box.low[0], run.low), std::min(box.low[1], y),
               std::min(box.low[2], z)};
    box.high = {std::max<std::int64_t>(box.high[0], run.high), std::max(box.high[1], y + 1),
                std::max(box.high[2], z + 1)};
  });
  return box.empty() ? Box{} : box;
}

// The parts that reach the border of the box that holds all runs.
std::vector<bool> parts_on_border(const Runs& runs, const Parts& parts, const Box& box) {
  std::vector<bool> found(parts.voxels.size());
  runs.for_each([&](const Run& run, std::int32_t place, std::int64_t y, std::int64_t z) {
    if (run.low == box.low[0] || run.high == box.high[0] || y == box.low[1] ||
        y + 1 == box.high[1] || z == box.low[2] || z + 1 == box.high[2]) {
      found[parts.of_run[place]] = true;
    }
  });
  return found;
}

struct RowRun {
  Run run;
  std::int64_t y, z;
};

// The runs of one part after another: those of part p are runs[begin[p]] to runs[begin[p + 1]].
struct RunsByPart {
  std::vector<RowRun> runs;
  std::vector<std::size_t> begin;

  // Of the chosen parts; others have none.
  RunsByPart(const Runs& all, const Parts& parts, const std::vector<bool>& is_chosen)
      : begin(parts.voxels.size() + 1) {
    for (const std::int32_t part : parts.of_run) begin[part + 1] += is_chosen[part] ? 1 : 0;
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    runs.resize(begin.back());
    std::vector<std::size_t> next(begin.begin(), begin.end() - 1);
    all.for_each([&](const Run& run, std::int32_t place, std::int64_t y, std::int64_t z) {
      const std::int32_t part = parts.of_run[place];
      if (is_chosen[part]) runs[next[part]++] = {run, y, z};
    });
  }
  std::span<const RowRun> of(std::size_t part) const {
    return std::span(runs).subspan(begin[part], begin[part + 1] - begin[part]);
  }
};

class Editor {
 public:
  Editor(std::span<std::uint8_t> labels, const metrics::Grid& grid)
      : labels_(labels),
        size_(grid.size),
        voxel_ml_(grid.spacing[0] * grid.spacing[1] * grid.spacing[2] / kCubicMillimetres),
        box_(metrics::bounding_box(labels, grid.size)) {}

  Change apply(const Rule& rule) {
    Change change{rule.name, 0, 0, 0};
    const LabelSet region = labels_of(rule.region);
    const Runs runs = runs_within(box_, region);
    if (!runs.all().empty()) {
      if (rule.kind == RuleKind::kFillHoles) {
        fill_holes(rule, region, bounds(runs), change);
      } else {
        const Parts parts = metrics::connected_parts(runs, rule.connectivity);
        repaint(runs, parts, unwanted_parts(rule, parts), region, others(region), rule, change);
      }
    }
    change.millilitres = static_cast<double>(change.voxels) * voxel_ml_;
    return change;
  }

 private:
  static constexpr double kCubicMillimetres = 1000;  // in a millilitre

  std::uint8_t* row(std::int64_t y, std::int64_t z) const {
    return labels_.data() + (z * size_[1] + y) * size_[0];
  }

  Runs runs_within(const Box& box, const LabelSet& wanted) const {
    Runs runs(size_);
    for (std::int64_t z = 0; z < size_[2]; ++z) {
      for (std::int64_t y = 0; y < size_[1]; ++y) {
        const bool is_inside =
            y >= box.low[1] && y < box.high[1] && z >= box.low[2] && z < box.high[2];
        const std::uint8_t* labels = row(y, z);
        const bool is_background =
            is_inside && !metrics::any_set(labels + box.low[0], box.high[0] - box.low[0]);
        if (!is_inside || (is_background && !wanted[0])) {
          runs.add_empty_row();
        } else if (is_background) {
          runs.add_row(box.low[0], box.high[0], [](std::int64_t) { return true; });
        } else {
          runs.add_row(box.low[0], box.high[0], [&](std::int64_t x) { return wanted[labels[x]]; });
        }
      }
    }
    return runs;
  }

  // Less by more than rounding.
  bool is_below(std::int64_t voxels, double millilitres) const {
    constexpr double kRounding = 1e-9;
    return static_cast<double>(voxels) * voxel_ml_ < millilitres * (1 - kRounding);
  }

  std::vector<bool> unwanted_parts(const Rule& rule, const Parts& parts) const {
    const auto& voxels = parts.voxels;
    std::vector<bool> unwanted(voxels.size());
    if (rule.kind == RuleKind::kKeepLargest) {
      std::vector<std::size_t> order(voxels.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::stable_sort(order.begin(), order.end(),
                       [&](std::size_t a, std::size_t b) { return voxels[a] > voxels[b]; });
      for (auto i = static_cast<std::size_t>(rule.count); i < order.size(); ++i) {
        unwanted[order[i]] = true;
      }
    } else if (rule.kind == RuleKind::kRemoveBelow) {
      std::transform(voxels.begin(), voxels.end(), unwanted.begin(),
                     [&](std::int64_t count) { return is_below(count, rule.millilitres); });
    } else {
      const std::int64_t total = std::accumulate(voxels.begin(), voxels.end(), std::int64_t{0});
      unwanted.assign(voxels.size(), is_below(total, rule.millilitres));
    }
    return unwanted;
  }

  // What the region encloses lies within its box and does not reach the box's border.
  void fill_holes(const Rule& rule, const LabelSet& region, const Box& box, Change& change) {
    const Runs outside = runs_within(box, others(region));
    const Parts parts = metrics::connected_parts(outside, metrics::Connectivity::kFaces);
    std::vector<bool> is_hole = parts_on_border(outside, parts, box);
    is_hole.flip();
    LabelSet background{};
    background[0] = true;
    repaint(outside, parts, is_hole, background, region, rule, change);
  }

  // The voxels of the chosen parts whose labels are in `from` get the rule's label, or that of
  // `around` which is most common on the part's faces. Parts do not touch each other by faces, so
  // their order does not matter.
  void repaint(const Runs& runs, const Parts& parts, const std::vector<bool>& is_chosen,
               const LabelSet& from, const LabelSet& around, const Rule& rule, Change& change) {
    const RunsByPart by_part(runs, parts, is_chosen);
    for (std::size_t part = 0; part < is_chosen.size(); ++part) {
      if (!is_chosen[part]) continue;
      const auto own = by_part.of(part);
      const std::uint8_t label = rule.becomes ? *rule.becomes : most_common_on_faces(own, around);
      const std::int64_t painted = paint(own, from, label);
      change.voxels += painted;
      change.parts += painted > 0 ? 1 : 0;
    }
  }

  std::int64_t paint(std::span<const RowRun> part, const LabelSet& from, std::uint8_t label) {
    std::int64_t painted = 0;
    for (const auto& [run, y, z] : part) {
      std::uint8_t* labels = row(y, z);
      for (std::int64_t x = run.low; x < run.high; ++x) {
        if (!from[labels[x]]) continue;
        labels[x] = label;
        ++painted;
      }
    }
    return painted;
  }

  // 0 where no label of `around` touches the part.
  std::uint8_t most_common_on_faces(std::span<const RowRun> part, const LabelSet& around) const {
    std::array<std::int64_t, 256> faces{};
    const auto add_row = [&](const Run& run, std::int64_t y, std::int64_t z) {
      if (y < 0 || y >= size_[1] || z < 0 || z >= size_[2]) return;
      const std::uint8_t* labels = row(y, z);
      for (std::int64_t x = run.low; x < run.high; ++x) ++faces[labels[x]];
    };
    for (const auto& [run, y, z] : part) {
      if (run.low > 0) ++faces[row(y, z)[run.low - 1]];
      if (run.high < size_[0]) ++faces[row(y, z)[run.high]];
      for (const std::int64_t step : {-1, 1}) {
        add_row(run, y + step, z);
        add_row(run, y, z + step);
      }
    }
    std::size_t best = 0;
    std::int64_t most = 0;
    for (std::size_t label = 0; label < faces.size(); ++label) {
      if (!around[label] || faces[label] <= most) continue;
      most = faces[label];
      best = label;
    }
    return static_cast<std::uint8_t>(best);
  }

  std::span<std::uint8_t> labels_;
  Size size_;
  double voxel_ml_;
  Box box_;  // holds all labels; no rule paints outside it
};

}  // namespace

std::vector<Change> postprocess(std::span<std::uint8_t> labels, const metrics::Grid& grid,
                                const std::vector<Rule>& rules) {
  const std::int64_t voxels = metrics::voxel_count(grid.size);
  if (std::ssize(labels) != voxels) {
    throw Error(concat("postprocess: a grid of ", join(grid.size, "x"), " has ", voxels,
                       " voxels, got ", labels.size(), " labels"));
  }
  std::vector<Change> changes;
  if (rules.empty()) return changes;
  Editor editor(labels, grid);
  for (const Rule& rule : rules) changes.push_back(editor.apply(rule));
  return changes;
}

}  // namespace segmamba::post
