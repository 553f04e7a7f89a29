// The page of a check: findings, then the fingerprint as tables and charts.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "segmamba/core/html.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"
#include "segmamba/data/check.h"

namespace segmamba::data {
namespace {

constexpr char kStyle[] = R"css(
h3 { font-size: 16px; margin: 22px 0 8px; }
.verdict { font-size: 17px; padding: 10px 14px; border-radius: 6px; border-left: 5px solid; }
.verdict.good { border-color: #2e9e5b; background: var(--raised); }
.verdict.bad { border-color: #d64545; background: var(--raised); }
h3 .mark { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 8px; }
.mark.error { background: #d64545; }
.mark.warning { background: #e0952b; }
.mark.notice { background: #4d8fd6; }
#findings td:nth-child(2) { white-space: nowrap; }
#findings td:last-child { overflow-wrap: anywhere; }
figure { background: var(--raised); border-radius: 6px; padding: 10px 12px 6px; }
figcaption { color: var(--text); font-weight: 600; margin-bottom: 4px; }
.panels { grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); margin-top: 14px; }
svg .bar { fill: #2f7fd1; }
svg .bar.second { fill: #e07b28; opacity: 0.65; }
.legend { margin: 8px 0; }
)css";

// Four digits are enough to read; whole numbers are shown whole.
std::string shown(double value) {
  const double size = std::abs(value);
  if (size >= 1000 && size < 1e12) return format_fixed(value, 0);
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string percent(double share) { return format_fixed(100 * share, 1) + " %"; }

using Bars = std::vector<double>;

// A chart of one or two histograms over the same axis; heights are shares of their highest bar.
std::string chart(const std::string& title, double low, double high,
                  const std::vector<Bars>& series, const std::string& unit,
                  const std::string& highest) {
  constexpr double kWidth = 320, kHeight = 118, kLeft = 8, kRight = 312, kTop = 14, kBottom = 96;
  std::string svg;
  double top = 0;
  for (const auto& bars : series) {
    for (const double bar : bars) top = std::max(top, bar);
  }
  for (std::size_t s = 0; s < series.size(); ++s) {
    const double width = (kRight - kLeft) / static_cast<double>(series[s].size());
    for (std::size_t i = 0; i < series[s].size(); ++i) {
      if (series[s][i] <= 0 || top <= 0) continue;
      // A single case among many still shows.
      const double height = std::max(series[s][i] / top * (kBottom - kTop), 1.0);
      svg += concat("<rect class=\"bar", s == 0 ? "" : " second", "\" x=\"",
                    format_fixed(kLeft + width * static_cast<double>(i) + 0.5, 1), "\" y=\"",
                    format_fixed(kBottom - height, 1), "\" width=\"",
                    format_fixed(std::max(width - 1, 0.5), 1), "\" height=\"",
                    format_fixed(height, 1), "\"/>");
    }
  }
  const auto label = [&](double x, double y, const char* anchor, const std::string& text) {
    svg += concat("<text x=\"", x, "\" y=\"", y, "\" text-anchor=\"", anchor, "\">",
                  escape_html(text), "</text>");
  };
  svg += concat("<line class=\"grid\" x1=\"", kLeft, "\" x2=\"", kRight, "\" y1=\"", kBottom,
                "\" y2=\"", kBottom, "\"/>");
  label(kLeft, kHeight - 6, "start", shown(low));
  label((kLeft + kRight) / 2, kHeight - 6, "middle", unit);
  label(kRight, kHeight - 6, "end", shown(high));
  if (!highest.empty()) label(kLeft, kTop - 4, "start", highest);
  return concat("<figure><figcaption>", escape_html(title), "</figcaption><svg viewBox=\"0 0 ",
                kWidth, " ", kHeight, "\" role=\"img\" aria-label=\"", escape_html(title), "\">",
                svg, "</svg></figure>\n");
}

// Numbers of cases in equal bins; "" where all are the same, which a table says better.
std::string case_chart(const std::string& title, const std::vector<double>& values,
                       const std::string& unit, double low, double high) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  // Spacings differ by rounding.
  if (values.empty() || *most - *least <= 1e-3 * std::abs(*most)) return "";
  // As many as have something to show.
  const auto bins = static_cast<std::size_t>(
      std::clamp(2 * std::sqrt(static_cast<double>(values.size())), 8.0, 30.0));
  Bars bars(bins, 0);
  for (const double value : values) {
    const double place = (value - low) / (high - low) * static_cast<double>(bins);
    bars[std::min(static_cast<std::size_t>(std::max(place, 0.0)), bins - 1)] += 1;
  }
  const double top = *std::max_element(bars.begin(), bars.end());
  return chart(title, low, high, {bars}, unit,
               concat("up to ", top, top == 1 ? " case" : " cases"));
}

std::string case_chart(const std::string& title, const std::vector<double>& values,
                       const std::string& unit) {
  if (values.empty()) return "";
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return case_chart(title, values, unit, *low, *high);
}

std::string panels(const std::string& charts) {
  return charts.empty() ? "" : concat("<div class=\"panels\">\n", charts, "</div>\n");
}

std::string findings_of(const CheckReport& report, Severity severity, const std::string& title) {
  HtmlTable table;
  table.header = {"kind", "case", "what"};
  table.text_columns = 3;
  std::vector<const Finding*> chosen;
  for (const auto& finding : report.findings) {
    if (finding.severity == severity) chosen.push_back(&finding);
  }
  if (chosen.empty()) return "";
  std::stable_sort(chosen.begin(), chosen.end(), [](const Finding* a, const Finding* b) {
    const auto place = [](const Finding* finding) {
      return std::find(kFindingKinds.begin(), kFindingKinds.end(), finding->kind);
    };
    return place(a) < place(b);
  });
  for (const auto* finding : chosen) {
    table.rows.push_back(
        {finding->kind, finding->case_name.empty() ? "all" : finding->case_name, finding->message});
  }
  constexpr std::size_t kMany = 100;
  const std::string content = table.rows.size() <= kMany
                                  ? to_html(table)
                                  : concat("<details><summary>", table.rows.size(),
                                           " rows</summary>\n", to_html(table), "</details>\n");
  return concat("<h3><span class=\"mark ", to_string(severity), "\"></span>", title, " (",
                chosen.size(), ")</h3>\n", content);
}

std::string findings_html(const CheckReport& report) {
  std::string text = findings_of(report, Severity::kError, "Errors: training does not start") +
                     findings_of(report, Severity::kWarning,
                                 "Warnings: training starts, and its result may be worse") +
                     findings_of(report, Severity::kNotice, "Notices: worth knowing");
  return text.empty() ? "<p>Nothing was found.</p>\n" : text;
}

std::string grid_html(const Fingerprint& fingerprint) {
  HtmlTable table;
  table.header = {"", "min", "median", "mean", "max"};
  const auto add = [&](const std::string& name, const Distribution& d, auto text) {
    table.rows.push_back({name, text(d.minimum), text(d.median), text(d.mean), text(d.maximum)});
  };
  constexpr std::array<const char*, 3> kAxes = {"x", "y", "z"};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    add(concat("size ", kAxes[axis]), fingerprint.size[axis], shown);
  }
  for (std::size_t axis = 0; axis < 3; ++axis) {
    add(concat("spacing ", kAxes[axis], ", mm"), fingerprint.spacing[axis], shown);
  }
  add("share of the grid that is kept", fingerprint.crop_share, percent);

  std::string charts;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    std::vector<double> values;
    for (const auto& item : fingerprint.cases) {
      values.push_back(static_cast<double>(item.size[axis]));
    }
    charts += case_chart(concat("Size ", kAxes[axis]), values, "voxels");
  }
  for (std::size_t axis = 0; axis < 3; ++axis) {
    std::vector<double> values;
    for (const auto& item : fingerprint.cases) values.push_back(item.spacing[axis]);
    charts += case_chart(concat("Spacing ", kAxes[axis]), values, "mm");
  }
  std::vector<double> shares;
  for (const auto& item : fingerprint.cases) shares.push_back(100 * item.crop_share);
  charts += case_chart("Share of the grid that is kept", shares, "%", 0, 100);
  return to_html(table) +
         "<p class=\"note\">Kept is the box of the voxels that are not 0 in some channel. Charts "
         "are "
         "of what differs from case to case.</p>\n" +
         panels(charts);
}

std::string intensity_html(const Fingerprint& fingerprint) {
  HtmlTable table;
  table.header = {"channel", "voxels", "mean",   "std", "min",
                  "0.5 %",   "median", "99.5 %", "max", "count"};
  table.text_columns = 2;
  std::string charts;
  for (const auto& channel : fingerprint.channels) {
    const auto add = [&](const char* voxels, const Distribution& d) {
      table.rows.push_back({channel.name, voxels, shown(d.mean), shown(d.deviation),
                            shown(d.minimum), shown(d.percentile_0_5), shown(d.median),
                            shown(d.percentile_99_5), shown(d.maximum), concat(d.count)});
    };
    add("not 0", channel.nonzero);
    add("labelled", channel.foreground);
    const auto& histogram = channel.nonzero_histogram;
    charts += chart(concat("Intensity of ", channel.name), histogram.low, histogram.high,
                    {histogram.shares, channel.foreground_histogram.shares}, "", "");
  }
  return to_html(table) +
         "<p class=\"legend\"><span><i style=\"background:#2f7fd1\"></i>voxels that are not "
         "0</span>"
         "<span><i style=\"background:#e07b28\"></i>labelled voxels</span>"
         "<span>from the 0.5th to the 99.5th percentile of those not 0</span></p>\n" +
         panels(charts);
}

std::string percentiles_html(const Fingerprint& fingerprint) {
  std::string charts;
  for (std::size_t channel = 0; channel < fingerprint.channels.size(); ++channel) {
    std::vector<double> medians, highs;
    for (const auto& item : fingerprint.cases) {
      medians.push_back(item.nonzero[channel].distribution().median);
      highs.push_back(item.nonzero[channel].distribution().percentile_99_5);
    }
    charts += case_chart(concat("Median of ", fingerprint.channels[channel].name), medians,
                         "of each case");
    charts += case_chart(concat("99.5th percentile of ", fingerprint.channels[channel].name), highs,
                         "of each case");
  }
  return charts.empty()
             ? ""
             : concat("<h3>Intensities of each case, where they are not 0</h3>\n", panels(charts));
}

std::string class_html(const Fingerprint& fingerprint) {
  HtmlTable table;
  table.header = {"class",   "cases",      "voxels",   "share of all voxels",
                  "mL: min", "mL: median", "mL: mean", "mL: max"};
  std::int64_t voxels = 0;
  for (const auto& item : fingerprint.classes) voxels += item.voxels;
  std::string charts;
  for (std::size_t index = 0; index < fingerprint.classes.size(); ++index) {
    const ClassNumbers& item = fingerprint.classes[index];
    const Distribution& volume = item.millilitres;
    table.rows.push_back(
        {item.name, concat(item.cases, " of ", fingerprint.cases.size()), concat(item.voxels),
         voxels > 0 ? format_fixed(
                          100 * static_cast<double>(item.voxels) / static_cast<double>(voxels), 3) +
                          " %"
                    : "",
         shown(volume.minimum), shown(volume.median), shown(volume.mean), shown(volume.maximum)});
    if (index == 0) continue;
    charts +=
        case_chart(concat("Volume of ", item.name), item.case_millilitres, "mL", 0, volume.maximum);
  }
  return to_html(table) + panels(charts);
}

}  // namespace

std::string CheckReport::to_html() const {
  const auto counted = [](std::int64_t number, const char* one, const char* many) {
    return concat(number, " ", number == 1 ? one : many);
  };
  std::string body =
      concat("<header><h1>Check of a data set</h1>\n<p><span class=\"path\">", escape_html(root),
             "</span></p>\n<p>", counted(cases, "case", "cases"), " of ",
             counted(patients, "patient", "patients"), ", layout ", escape_html(layout),
             "; by segmamba-data ", escape_html(version()), "</p></header>\n<p class=\"verdict ",
             can_train() ? "good\">Ready to train: " : "bad\">Training would not start: ",
             counted(count(Severity::kError), "error", "errors"), ", ",
             counted(count(Severity::kWarning), "warning", "warnings"), ", ",
             counted(count(Severity::kNotice), "notice", "notices"), ".</p>\n");
  body += html_section("findings", "Findings", findings_html(*this));
  if (!fingerprint.cases.empty()) {
    body += html_section("grid", "Grids", grid_html(fingerprint));
    body += html_section("intensities", "Intensities",
                         intensity_html(fingerprint) + percentiles_html(fingerprint));
    body += html_section("classes", "Classes", class_html(fingerprint));
    if (std::ssize(fingerprint.cases) < cases) {
      body += concat("<p class=\"note\">Numbers are of the ", fingerprint.cases.size(), " of ",
                     cases, " cases that have no errors.</p>\n");
    }
  }
  return html_page("Check of a data set", kStyle, body);
}

}  // namespace segmamba::data
