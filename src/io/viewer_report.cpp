#include "segmamba/io/viewer_report.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <locale>
#include <numeric>
#include <sstream>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/html.h"
#include "segmamba/core/output_file.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
#include "segmamba/io/picture.h"
#include "viewer_page.h"
#include "viewer_volumes.h"

namespace segmamba::io {
namespace {

constexpr double kManyVoxels = 128;       // of the longest axis, before channels are left out
constexpr double kFewVoxels = 64;         // of the longest axis, where bytes are few
constexpr std::size_t kFewChannels = 2;   // stay until the voxels are few
constexpr std::uint64_t kRowBytes = 600;  // of a case without pictures, about

using VoxelCounts = std::array<std::int64_t, 256>;  // by label

void check(const ViewerOptions& options) {
  if (options.expected_cases < 1 || options.max_bytes < 1 || options.max_voxels < 1) {
    throw Error("viewer: the numbers of cases, of bytes and of voxels must be above 0");
  }
  std::array<bool, 256> used{};
  for (const ViewerLabel& label : options.labels) {
    if (label.value == 0) throw Error(concat("viewer: label 0 (", label.name, ") is background"));
    if (used[label.value]) {
      throw Error(concat("viewer: label ", int{label.value}, " (", label.name, ") is there twice"));
    }
    used[label.value] = true;
  }
}

void check_sizes(const std::string& name, const LabelMap& labels,
                 const std::vector<ViewerChannel>& channels) {
  for (const ViewerChannel& channel : channels) {
    if (channel.image->geometry.size == labels.geometry.size) continue;
    throw Error(concat(name, ": channel ", channel.name, " has ",
                       join(channel.image->geometry.size, "x"), " voxels, the labels ",
                       join(labels.geometry.size, "x")));
  }
}

double voxel_ml(const Geometry& geometry) {
  return geometry.spacing[0] * geometry.spacing[1] * geometry.spacing[2] * 1e-3;
}

std::int64_t region_voxels(const ViewerRegion& region, const VoxelCounts& counts) {
  std::int64_t sum = 0;
  for (const std::uint8_t label : region.labels) sum += counts[label];
  return sum;
}

// The columns of the table: labels where there are no regions.
std::vector<ViewerRegion> table_regions(const ViewerOptions& options) {
  if (!options.regions.empty()) return options.regions;
  std::vector<ViewerRegion> regions;
  for (const ViewerLabel& label : options.labels) regions.push_back({label.name, {label.value}});
  return regions;
}

std::string css_colour(const Colour& colour) {
  return concat("rgb(", int{colour[0]}, ",", int{colour[1]}, ",", int{colour[2]}, ")");
}

// Regions of one label have its colour, the others colours of their own.
std::string region_colour(const ViewerRegion& region, std::size_t place) {
  constexpr std::array<Colour, 4> kColours = {
      Colour{80, 200, 255}, {240, 120, 220}, {245, 245, 245}, {255, 150, 60}};
  return css_colour(region.labels.size() == 1 ? label_colour(region.labels.front())
                                              : kColours[place % kColours.size()]);
}

std::string counted(std::size_t number, const char* one, const char* many) {
  return concat(number, " ", number == 1 ? one : many);
}

// How much of a case's volumes the page holds.
struct Detail {
  std::size_t channels = 0;
  double step = 0;  // of the voxels, mm
};

// What of a case may be shown, and what it takes.
class DetailChoice {
 public:
  DetailChoice(const Geometry& geometry, const IndexBox& box, std::size_t channels,
               std::int64_t max_voxels)
      : geometry_(geometry), box_(box), channels_(channels) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      longest_ =
          std::max(longest_, static_cast<double>(box[axis].length()) * geometry.spacing[axis]);
    }
    const Detail own{1, *std::min_element(geometry.spacing.begin(), geometry.spacing.end())};
    finest_ = step_for(own, static_cast<double>(max_voxels), INFINITY);
  }

  DisplayGrid grid(const Detail& detail) const {
    return display_grid(geometry_, box_, detail.step);
  }
  double voxels(const Detail& detail) const {
    return static_cast<double>(grid(detail).voxel_count()) *
           static_cast<double>(std::max<std::size_t>(1, detail.channels));
  }
  // With at most this many voxels, where that is possible.
  Detail best(double most) const;
  bool is_least(const Detail& detail) const {
    return detail.channels <= 1 && detail.step >= coarsest(kFewVoxels);
  }

 private:
  // As coarse as at most so many voxels ask for, from that of `detail` on; beyond `limit` where
  // that does not suffice.
  double step_for(Detail detail, double most, double limit) const;
  // Of `voxels` along the longest axis.
  double coarsest(double voxels) const { return std::max(finest_, longest_ / voxels); }

  const Geometry& geometry_;
  const IndexBox& box_;
  std::size_t channels_;
  double longest_ = 0, finest_ = 0;  // mm
};

double DetailChoice::step_for(Detail detail, double most, double limit) const {
  for (double now = voxels(detail); now > most && detail.step <= limit; now = voxels(detail)) {
    detail.step *= std::cbrt(1.02 * now / most);
  }
  return detail.step;
}

Detail DetailChoice::best(double most) const {
  Detail detail{channels_, finest_};
  while (true) {
    const double limit = coarsest(detail.channels > kFewChannels ? kManyVoxels : kFewVoxels);
    detail.step = step_for({detail.channels, finest_}, most, limit);
    if (detail.step <= limit) return detail;
    if (detail.channels <= 1) return {detail.channels, limit};
    --detail.channels;
  }
}

std::string number_cell(const std::string& text) {
  return concat("<td class=\"number\">", text, "</td>");
}

}  // namespace

struct ViewerReport::Case {
  bool failed = false;
  bool lacks_channels = false;
  double seconds = 0;
  VoxelCounts voxels{};
  std::string row;                   // of the table: cells in HTML
  Json data;                         // for the script
  std::vector<std::string> volumes;  // as ViewerVolumes has them; none where the case is not shown

  // In the page.
  std::uint64_t size() const {
    constexpr std::uint64_t kTags = 80;  // around a row or a volume, at most
    std::uint64_t bytes = row.size() + html_json("", data).size() + kTags;
    for (const std::string& volume : volumes) bytes += volume.size() + kTags;
    return bytes;
  }
};

ViewerReport::ViewerReport(ViewerOptions options) : options_(std::move(options)) {
  check(options_);
  std::ostringstream page;
  page.exceptions(std::ios::badbit);
  print(page);
  bytes_ = page.str().size();
}

ViewerReport::~ViewerReport() = default;

void ViewerReport::add_case(const std::string& name, double seconds, const LabelMap& labels,
                            const std::vector<ViewerChannel>& channels, const std::string& result) {
  check_sizes(name, labels, channels);
  Case item;
  item.seconds = seconds;
  for (const std::uint8_t label : labels.voxels) ++item.voxels[label];
  item.data = {{"name", name}, {"ml", Json::object()}};
  const double ml = voxel_ml(labels.geometry);
  for (std::size_t label = 1; label < item.voxels.size(); ++label) {
    if (item.voxels[label] == 0) continue;
    item.data["ml"][std::to_string(label)] = ml * static_cast<double>(item.voxels[label]);
  }
  item.row = concat("<td>", escape_html(name), "</td><td>", escape_html(result), "</td>",
                    number_cell(std::isnan(seconds) ? "" : format_fixed(seconds, 1)));
  for (const ViewerRegion& region : table_regions(options_)) {
    item.row +=
        number_cell(format_fixed(ml * static_cast<double>(region_voxels(region, item.voxels)), 2));
  }
  embed(labels, channels, item);
  bytes_ += item.size();
  cases_.push_back(std::move(item));
}

void ViewerReport::add_failure(const std::string& name, double seconds, const std::string& error) {
  Case item;
  item.failed = true;
  item.seconds = seconds;
  item.data = {{"name", name}, {"error", error}};
  item.row = concat("<td>", escape_html(name), "</td><td class=\"error\">", escape_html(error),
                    "</td>", number_cell(format_fixed(seconds, 1)));
  for (std::size_t i = 0; i < table_regions(options_).size(); ++i) item.row += number_cell("");
  bytes_ += item.size();
  cases_.push_back(std::move(item));
}

void ViewerReport::embed(const LabelMap& labels, const std::vector<ViewerChannel>& channels,
                         Case& item) {
  const auto to_come = static_cast<std::uint64_t>(std::max<std::int64_t>(
      0, options_.expected_cases - static_cast<std::int64_t>(cases_.size()) - 1));
  const std::uint64_t taken = bytes_ + item.size() + (to_come + 1) * kRowBytes;
  if (taken >= options_.max_bytes) return;
  const auto left = static_cast<double>(options_.max_bytes - taken);
  const double share = left / static_cast<double>(to_come + 1);

  std::vector<const Image*> images;
  for (const ViewerChannel& channel : channels) images.push_back(channel.image);
  const IndexBox box = content_box(labels, images);
  const DetailChoice choice(labels.geometry, box, channels.size(), options_.max_voxels);
  std::vector<ViewerChannel> shown = channels;
  ViewerVolumes volumes;
  Detail detail;
  double bytes = 0;
  do {
    // A little less than the guess allows, so that it seldom takes a second one.
    detail = choice.best(0.97 * share / bytes_per_voxel_);
    shown.resize(std::min(shown.size(), detail.channels));
    volumes = viewer_volumes(labels, shown, choice.grid(detail));
    bytes = static_cast<double>(volumes.size());
    bytes_per_voxel_ = bytes / choice.voxels(detail);
  } while (bytes > share && !choice.is_least(detail));
  if (bytes > left) return;
  item.data["grid"] = std::move(volumes.grid);
  item.data["channels"] = std::move(volumes.channels);
  item.volumes = std::move(volumes.packed);
  item.lacks_channels = shown.size() < channels.size();
}

std::string ViewerReport::header() const {
  const auto total = static_cast<std::size_t>(options_.expected_cases);
  const auto failed = static_cast<std::size_t>(
      std::count_if(cases_.begin(), cases_.end(), [](const Case& item) { return item.failed; }));
  double seconds = 0;
  for (const Case& item : cases_) seconds += std::isnan(item.seconds) ? 0 : item.seconds;
  std::string line = counted(cases_.size() - failed, "case segmented", "cases segmented");
  if (failed > 0) line += concat(", ", failed, " failed");
  if (cases_.size() < total) line += concat("; ", total - cases_.size(), " to come");
  return concat("<header><h1>", escape_html(options_.title), "</h1>\n<p>", line, "; ",
                format_duration(seconds), " of work; by segmamba ", escape_html(version()),
                "</p>\n<p class=\"path\">", escape_html(options_.description), "</p></header>\n");
}

std::string ViewerReport::table() const {
  const char* const heading = "<th scope=\"col\">";
  const char* const number = "<th scope=\"col\" class=\"number\">";
  std::string text = concat("<div class=\"scroll cases\"><table id=\"cases\">\n<thead><tr>",
                            heading, "case</th>", heading, "result</th>", number, "seconds</th>");
  for (const ViewerRegion& region : table_regions(options_)) {
    text += concat(number, escape_html(region.name), ", mL</th>");
  }
  text += "</tr></thead>\n<tbody>\n";
  for (std::size_t i = 0; i < cases_.size(); ++i) {
    text += concat("<tr data-case=\"", i, "\"", cases_[i].failed ? " class=\"failed\"" : "", ">",
                   cases_[i].row, "</tr>\n");
  }
  text += "</tbody></table></div>\n";
  const auto note = [&](auto concerns, const char* one, const char* many) {
    const auto cases =
        static_cast<std::size_t>(std::count_if(cases_.begin(), cases_.end(), concerns));
    if (cases == 0) return;
    text += concat("<p class=\"note\">", counted(cases, one, many),
                   ", which would make the page larger than ", format_bytes(options_.max_bytes),
                   ".</p>\n");
  };
  note([](const Case& item) { return item.lacks_channels; }, "case is shown without some channels",
       "cases are shown without some channels");
  note([](const Case& item) { return !item.failed && item.volumes.empty(); },
       "case has no pictures here", "cases have no pictures here");
  return text;
}

Json ViewerReport::page_data() const {
  std::array<std::string, 256> names;
  for (const ViewerLabel& label : options_.labels) names[label.value] = label.name;
  Json labels = Json::array(), regions = Json::array(), cases = Json::array();
  for (std::size_t value = 1; value < names.size(); ++value) {
    const bool occurs = std::any_of(cases_.begin(), cases_.end(),
                                    [value](const Case& item) { return item.voxels[value] > 0; });
    if (names[value].empty() && !occurs) continue;
    labels.push_back({{"value", value},
                      {"name", names[value].empty() ? concat("label ", value) : names[value]},
                      {"colour", css_colour(label_colour(static_cast<std::uint8_t>(value)))}});
  }
  for (const ViewerRegion& region : options_.regions) {
    regions.push_back({{"name", region.name},
                       {"labels", region.labels},
                       {"colour", region_colour(region, regions.size())}});
  }
  for (const Case& item : cases_) cases.push_back(item.data);
  return {{"labels", labels}, {"regions", regions}, {"cases", cases}};
}

void ViewerReport::print(std::ostream& out) const {
  out.imbue(std::locale::classic());  // numbers of scripts, whatever the host program has set
  out << html_page_begin(options_.title, embedded::kViewerStyle) << "<div class=\"heading\">"
      << header() << embedded::kViewerFind << "</div>\n"
      << table() << embedded::kViewerSlices << html_json("data", page_data())
      << "<script>\n\"use strict\";\n(() => {\n"
      << embedded::kViewerScript << "})();\n</script>\n";
  // Behind the script, which can show the table before a large page is read.
  for (std::size_t i = 0; i < cases_.size(); ++i) {
    for (std::size_t k = 0; k < cases_[i].volumes.size(); ++k) {
      out << "<script type=\"text/plain\" id=\"volume-" << i << "-" << k << "\">"
          << cases_[i].volumes[k] << "</script>\n";
    }
  }
  out << kHtmlPageEnd;
}

void ViewerReport::write(const std::filesystem::path& path) const {
  write_file_atomically(path, [&](OutputFile& file) {
    OutputStream stream(file);
    print(stream);
  });
}

}  // namespace segmamba::io
