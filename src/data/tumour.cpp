#include "tumour.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <queue>
#include <utility>

#include "segmamba/data/dataset.h"

namespace segmamba::data {
namespace {

double log_uniform(Random& random, double low, double high) {
  return low * std::pow(high / low, random.uniform());
}

float radius_of(double voxels, float voxel_edge) {
  return voxel_edge * static_cast<float>(std::cbrt(voxels * 3 / (4 * std::numbers::pi)));
}

// In the hemispheres, beside the midline and outside the fluid. `depth` of the centre: below the
// cortex for large ones.
Vec3 draw_centre(const Brain& brain, float voxel_edge, float depth, Random& random) {
  while (true) {
    const Vec3 centre{uniform(random, -0.6, 0.6), uniform(random, -0.75, 0.75),
                      uniform(random, -0.25, 0.6)};
    const float centre_depth = brain.cerebrum_depth(centre);
    if (centre_depth < depth || centre_depth > 0.45f || std::abs(centre.x) < 0.16f) continue;
    if (brain.at(centre, voxel_edge, 0).share[kCsf] < 0.3f) return centre;
  }
}

Focus make_focus(Vec3 centre, float radius, Random& random) {
  Focus focus;
  focus.centre = centre;
  focus.radius = radius;
  const Vec3 first = random_direction(random);
  Vec3 second = random_direction(random);
  second = second - dot(first, second) * first;
  second = (1 / std::max(length(second), 1e-6f)) * second;
  const Vec3 third{first.y * second.z - first.z * second.y, first.z * second.x - first.x * second.z,
                   first.x * second.y - first.y * second.x};
  focus.axes = {(1 / uniform(random, 0.8, 1.35)) * first, (1 / uniform(random, 0.8, 1.25)) * second,
                (1 / uniform(random, 0.8, 1.25)) * third};
  focus.core_shift = uniform(random, 0, 0.25) * radius * random_direction(random);
  return focus;
}

// How many lesions a case has, at most five and mostly one or two.
std::int64_t draw_count(Random& random) {
  constexpr std::array<double, 4> kMore = {0.48, 0.80, 0.92, 0.97};
  const double u = random.uniform();
  return 1 + std::count_if(kMore.begin(), kMore.end(), [u](double limit) { return u >= limit; });
}

LesionKind draw_satellite_kind(bool enhances, Random& random) {
  const double u = random.uniform();
  if (!enhances) return u < 0.5 ? LesionKind::kNonEnhancing : LesionKind::kOedema;
  if (u < 0.5) return LesionKind::kRingEnhancing;
  if (u < 0.7) return LesionKind::kEnhancingSpot;
  return u < 0.85 ? LesionKind::kNonEnhancing : LesionKind::kOedema;
}

// The `rank`-th smallest of `values` as a level: `rank` values lie below it.
float level(std::vector<float> values, std::int64_t rank) {
  if (rank <= 0) return -std::numeric_limits<float>::infinity();
  if (rank >= std::ssize(values)) return std::numeric_limits<float>::infinity();
  std::nth_element(values.begin(), values.begin() + rank, values.end());
  return values[static_cast<std::size_t>(rank)];
}

}  // namespace

Tumour::Tumour(const Brain& brain, float voxel_edge, Random& random)
    : voxel_edge_(voxel_edge),
      mass_effect_(uniform(random, 0.05, 0.3)),
      main_share_(random.uniform(0.055, 0.098)),
      coarse_(random, 5, 9),
      fine_(random, 12, 40),
      rim_(random, 9, 28) {
  // The brain's volume is near 2 cubic units.
  const double brain_voxels = 2.0 / std::pow(static_cast<double>(voxel_edge), 3);
  const double main_voxels = main_share_ * brain_voxels;
  // About one in seven gliomas does not enhance, and some do so faintly: the whole case, since a
  // satellite is of the same disease.
  const double grade = random.uniform();
  const bool enhances = grade >= 0.15;
  const bool faintly = enhances && grade < 0.25;
  const Focus main_focus = make_focus(draw_centre(brain, voxel_edge, 0.16f, random),
                                      radius_of(main_voxels, voxel_edge), random);
  plans_.push_back({enhances ? LesionKind::kRingEnhancing : LesionKind::kNonEnhancing, main_focus,
                    main_voxels, random.uniform(0.35, 0.6),
                    faintly ? random.uniform(0.9, 0.98) : random.uniform(0.2, 0.55)});

  const auto count = draw_count(random);
  for (std::int64_t i = 1; i < count; ++i) {
    const LesionKind kind = draw_satellite_kind(enhances, random);
    const double largest = (kind == LesionKind::kEnhancingSpot ? 0.02 : 0.2) * main_voxels;
    const double voxels = log_uniform(
        random, kSmallestLesion, std::max(largest, 1.2 * static_cast<double>(kSmallestLesion)));
    const float radius = radius_of(voxels, voxel_edge);
    // Apart from the others, as far as there is room; growth keeps them from touching anyway.
    Vec3 centre;
    constexpr int kTries = 100;
    for (int attempt = 0; attempt < kTries; ++attempt) {
      centre = draw_centre(brain, voxel_edge, std::min(0.16f, 0.08f + radius), random);
      const bool is_apart = std::all_of(plans_.begin(), plans_.end(), [&](const Plan& other) {
        return length(centre - other.focus.centre) > 1.4f * (radius + other.focus.radius);
      });
      if (is_apart) break;
    }
    plans_.push_back({kind, make_focus(centre, radius, random), voxels, random.uniform(0.25, 0.7),
                      random.uniform(0.1, 0.5)});
  }
}

float Tumour::distance(Vec3 p) const {
  float nearest = std::numeric_limits<float>::infinity();
  for (const Plan& plan : plans_) nearest = std::min(nearest, plan.focus.distance(p));
  return nearest;
}

Vec3 Tumour::origin(Vec3 p) const {
  for (const Plan& plan : plans_) {
    const float r = plan.focus.distance(p);
    if (r < 2.5f) p = p - mass_effect_ * std::exp(-r * r) * (p - plan.focus.centre);
  }
  return p;
}

// What the parts of one lesion grow by: their borders are level sets of these fields.
struct Tumour::Fields {
  const Tumour& tumour;
  const Focus& focus;

  float core(const BrainVoxel& voxel) const {
    const Vec3 q = noise_place(voxel.position);
    return focus.core_distance(voxel.position) + 0.07f * tumour.coarse_(q) +
           0.05f * tumour.fine_(q) + 0.4f * voxel.mixture.share[kCsf];
  }
  // Oedema spreads along the white matter, tarries at grey matter and stops at the fluid.
  float oedema(const BrainVoxel& voxel) const {
    const Vec3 q = noise_place(voxel.position);
    const auto& share = voxel.mixture.share;
    const float barrier = 0.08f * (share[kCortex] + share[kDeepGrey]) + 0.6f * share[kCsf];
    return focus.distance(voxel.position) + 0.12f * tumour.coarse_(q) + 0.02f * tumour.fine_(q) +
           barrier;
  }
  float necrosis(const BrainVoxel& voxel) const {
    const Vec3 q = noise_place(voxel.position);
    return focus.core_distance(voxel.position) + 0.07f * tumour.coarse_(q) + 0.1f * tumour.rim_(q);
  }

 private:
  // Small lesions are as irregular as the large one: their noise is finer, within reason.
  Vec3 noise_place(Vec3 p) const {
    const float zoom = std::clamp(tumour.plans_.front().focus.radius / focus.radius, 1.0f, 3.0f);
    return focus.centre + zoom * (p - focus.centre);
  }
};

// Lesions flood the brain from a seed, the voxel of the lowest field first: like the level sets of
// their fields, but in one piece and of an exact number of voxels.
class Tumour::Growth {
 public:
  Growth(const Tumour& tumour, std::vector<BrainVoxel>& voxels, std::array<std::int64_t, 3> size)
      : tumour_(tumour),
        voxels_(voxels),
        size_(size),
        number_(static_cast<std::size_t>(size[0] * size[1] * size[2]), -1),
        marks_(voxels.size(), 0) {
    for (std::size_t i = 0; i < voxels.size(); ++i) {
      number_[static_cast<std::size_t>(voxels[i].index)] = static_cast<std::int32_t>(i);
    }
  }

  // Nothing where the room left does not hold kSmallestLesion voxels.
  std::optional<Lesion> add(const Plan& plan, std::int64_t whole_voxels,
                            std::vector<std::uint8_t>& labels);

 private:
  struct Item {
    float value;
    std::int32_t voxel;  // its place in voxels_
    // Ties are broken by place, so that the order is the same everywhere.
    bool operator>(const Item& other) const {
      return value != other.value ? value > other.value : voxel > other.voxel;
    }
  };
  struct Part {
    std::vector<Item> members, frontier;
    float level = -std::numeric_limits<float>::infinity();  // the highest value of a member
  };
  enum Mark : std::uint8_t { kFree, kBeside, kLesion };

  const BrainVoxel& at(const Item& item) const {
    return voxels_[static_cast<std::size_t>(item.voxel)];
  }
  float necrosis_level_of(const Plan& plan, const Fields& fields, const Part& core) const;
  // Lays the lesion's tissues into the mixtures.
  void paint(const Fields& fields, const Part& core, const Part& oedema, float necrosis_level);

  std::array<std::int64_t, 3> place(std::int32_t voxel) const {  // [z, y, x]
    const std::int64_t index = voxels_[static_cast<std::size_t>(voxel)].index;
    return {index / (size_[1] * size_[2]), index / size_[2] % size_[1], index % size_[2]};
  }
  std::uint8_t& mark(std::int32_t voxel) { return marks_[static_cast<std::size_t>(voxel)]; }

  // Calls `visit(voxel)` for the neighbours in the brain: 6 (by faces) or 26.
  template <class Visit>
  void for_neighbours(std::int32_t voxel, bool faces_only, const Visit& visit) const {
    const auto from = place(voxel);
    for (std::int64_t dz = -1; dz <= 1; ++dz) {
      for (std::int64_t dy = -1; dy <= 1; ++dy) {
        for (std::int64_t dx = -1; dx <= 1; ++dx) {
          const auto steps = std::abs(dz) + std::abs(dy) + std::abs(dx);
          if (steps == 0 || (faces_only && steps > 1)) continue;
          const std::int64_t z = from[0] + dz, y = from[1] + dy, x = from[2] + dx;
          const bool is_inside =
              z >= 0 && z < size_[0] && y >= 0 && y < size_[1] && x >= 0 && x < size_[2];
          if (!is_inside) continue;
          const auto neighbour =
              number_[static_cast<std::size_t>((z * size_[1] + y) * size_[2] + x)];
          if (neighbour >= 0) visit(neighbour);
        }
      }
    }
  }

  // The free voxel where the core begins, or -1.
  std::int32_t find_seed(const Focus& focus) const {
    std::int32_t seed = -1;
    float nearest = std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < voxels_.size(); ++i) {
      if (marks_[i] != kFree) continue;
      const float distance = focus.core_distance(voxels_[i].position);
      if (distance < nearest) nearest = distance, seed = static_cast<std::int32_t>(i);
    }
    return seed;
  }

  // Takes up to `count` free voxels, those of `start` and then their neighbours.
  template <class Field>
  Part flood(const std::vector<std::int32_t>& start, std::int64_t count, const Field& field) {
    std::priority_queue<Item, std::vector<Item>, std::greater<>> queue;
    const auto push = [&](std::int32_t voxel) {
      if (mark(voxel) != kFree) return;
      mark(voxel) = kLesion;
      queue.push({field(voxels_[static_cast<std::size_t>(voxel)]), voxel});
    };
    for (const auto voxel : start) push(voxel);
    Part part;
    while (std::ssize(part.members) < count && !queue.empty()) {
      const Item item = queue.top();
      queue.pop();
      part.members.push_back(item);
      part.level = std::max(part.level, item.value);
      for_neighbours(item.voxel, /*faces_only=*/true, push);
    }
    for (; !queue.empty(); queue.pop()) {
      part.frontier.push_back(queue.top());
      mark(queue.top().voxel) = kFree;
    }
    return part;
  }

  const Tumour& tumour_;
  std::vector<BrainVoxel>& voxels_;
  std::array<std::int64_t, 3> size_;
  std::vector<std::int32_t> number_;  // by grid index: place in voxels_, or -1
  std::vector<std::uint8_t> marks_;   // Mark, by place in voxels_
};

std::optional<Lesion> Tumour::Growth::add(const Plan& plan, std::int64_t whole_voxels,
                                          std::vector<std::uint8_t>& labels) {
  const std::int32_t seed = find_seed(plan.focus);
  if (seed < 0) return std::nullopt;
  std::int64_t core_voxels = std::llround(plan.core_share * static_cast<double>(whole_voxels));
  if (plan.kind == LesionKind::kOedema) core_voxels = 0;
  if (plan.kind == LesionKind::kEnhancingSpot) core_voxels = whole_voxels;

  const Fields fields{tumour_, plan.focus};
  Part core;
  std::vector<std::int32_t> shore = {seed};
  if (core_voxels > 0) {
    core = flood(shore, core_voxels, [&](const BrainVoxel& voxel) { return fields.core(voxel); });
    shore.clear();
    for (const Item& item : core.frontier) shore.push_back(item.voxel);
  }
  const Part oedema = flood(shore, whole_voxels - std::ssize(core.members),
                            [&](const BrainVoxel& voxel) { return fields.oedema(voxel); });

  const bool has_room = std::ssize(core.members) + std::ssize(oedema.members) >= kSmallestLesion;
  for (const Part* part : {&std::as_const(core), &oedema}) {
    for (const Item& item : part->members) {
      if (!has_room) {
        mark(item.voxel) = kFree;
        continue;
      }
      for_neighbours(item.voxel, /*faces_only=*/false, [&](std::int32_t neighbour) {
        if (mark(neighbour) == kFree) mark(neighbour) = kBeside;
      });
    }
  }
  if (!has_room) return std::nullopt;

  Lesion lesion;
  lesion.kind = plan.kind;
  lesion.centre = place(seed);
  const float necrosis_level = necrosis_level_of(plan, fields, core);
  paint(fields, core, oedema, necrosis_level);
  for (const Item& item : oedema.members) {
    labels[static_cast<std::size_t>(at(item).index)] = kOedema;
  }
  lesion.oedema = std::ssize(oedema.members);
  for (const Item& item : core.members) {
    const bool is_necrosis = fields.necrosis(at(item)) < necrosis_level;
    labels[static_cast<std::size_t>(at(item).index)] = is_necrosis ? kNecrosis : kEnhancing;
    ++(is_necrosis ? lesion.necrosis : lesion.enhancing);
  }
  return lesion;
}

// Necrosis is the inner part of the core, up to all of it.
float Tumour::Growth::necrosis_level_of(const Plan& plan, const Fields& fields,
                                        const Part& core) const {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (plan.kind == LesionKind::kNonEnhancing) return kInfinity;
  if (plan.kind != LesionKind::kRingEnhancing) return -kInfinity;
  std::vector<float> values;
  values.reserve(core.members.size());
  for (const Item& item : core.members) values.push_back(fields.necrosis(at(item)));
  const std::int64_t count = std::ssize(values);
  const std::int64_t rank = std::llround(plan.necrosis_share * static_cast<double>(count));
  return level(std::move(values),
               std::clamp(rank, std::int64_t{1}, std::max<std::int64_t>(count - 1, 1)));
}

// Voxels at a border belong to a part by a share, as the field tells how far the border is.
void Tumour::Growth::paint(const Fields& fields, const Part& core, const Part& oedema,
                           float necrosis_level) {
  const float scale = fields.focus.radius / tumour_.voxel_edge_;
  const auto coverage = [scale](float inside) {
    return std::clamp(0.5f + inside * scale, 0.0f, 1.0f);
  };
  const auto mixture = [&](const Item& item) -> Mixture& {
    return voxels_[static_cast<std::size_t>(item.voxel)].mixture;
  };
  // What oedema covers of the core; none where the lesion has no oedema. Fields come before paint:
  // they depend on the tissue.
  std::vector<float> oedema_in_core;
  oedema_in_core.reserve(core.members.size());
  for (const Item& item : core.members) {
    oedema_in_core.push_back(coverage(oedema.level - fields.oedema(at(item))));
  }
  for (std::size_t i = 0; i < core.members.size(); ++i) {
    mixture(core.members[i]).lay(kOedematousTissue, oedema_in_core[i]);
  }
  for (const Item& item : oedema.members) {
    mixture(item).lay(kOedematousTissue, coverage(oedema.level - item.value));
  }
  // A basin beyond the border may be lower than the border; it is not part of the lesion.
  for (const Item& item : oedema.frontier) {
    mixture(item).lay(kOedematousTissue, coverage(std::min(0.0f, oedema.level - item.value)));
  }
  const auto lay_core = [&](const Item& item, float share) {
    mixture(item).lay(kEnhancingTissue, share);
    mixture(item).lay(kNecroticTissue,
                      share * coverage(necrosis_level - fields.necrosis(at(item))));
  };
  for (const Item& item : core.members) lay_core(item, coverage(core.level - item.value));
  for (const Item& item : core.frontier) {
    lay_core(item, coverage(std::min(0.0f, core.level - item.value)));
  }
}

std::vector<Lesion> Tumour::grow(std::vector<BrainVoxel>& voxels, std::array<std::int64_t, 3> size,
                                 std::vector<std::uint8_t>& labels) const {
  Growth growth(*this, voxels, size);
  std::vector<Lesion> lesions;
  for (const Plan& plan : plans_) {
    // The first has its share of the brain exactly.
    const bool is_main = &plan == &plans_.front();
    const double count = is_main ? main_share_ * static_cast<double>(voxels.size()) : plan.voxels;
    if (const auto lesion = growth.add(plan, std::llround(count), labels)) {
      lesions.push_back(*lesion);
    }
  }
  return lesions;
}

}  // namespace segmamba::data
