#include "chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "segmamba/core/html.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {
namespace {

// As many as the pixels of a chart can show.
constexpr std::size_t kMostPoints = 600;
constexpr std::size_t kMostDots = 60;
constexpr double kLogarithmicSpan = 30;

constexpr double kWidth = 560, kHeight = 260, kLeft = 52, kRight = 548, kTop = 22, kBottom = 226;

// Those of segmamba-eval's report.
constexpr std::array<const char*, 8> kColours = {"#2f7fd1", "#e07b28", "#3a9d5d", "#b3549f",
                                                 "#8a7a2c", "#c44545", "#4aa3a8", "#7a6bd0"};

// Calls reduce(first, last) for each of at most `runs` equal runs of the series.
template <class Reduce>
void for_each_run(const Series& series, std::size_t runs, Reduce reduce) {
  runs = std::min(runs, series.size());
  for (std::size_t run = 0; run < runs; ++run) {
    reduce(run * series.size() / runs, (run + 1) * series.size() / runs);
  }
}

Series finite(const Series& series) {
  Series kept;
  for (std::size_t i = 0; i < series.size(); ++i) {
    if (!std::isfinite(series.values[i])) continue;
    kept.iterations.push_back(series.iterations[i]);
    kept.values.push_back(series.values[i]);
  }
  return kept;
}

// 1, 2, 5, 10, ...: the least that is at or above `value`.
double round_up(double value) {
  const double power = std::pow(10, std::floor(std::log10(value) + 1e-9));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= value * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

std::string path_of(const Series& series, const auto& x, const auto& y) {
  std::string path;
  for (std::size_t i = 0; i < series.size(); ++i) {
    path += concat(i == 0 ? "M" : " ", format_fixed(x(series.iterations[i]), 1), " ",
                   format_fixed(y(series.values[i]), 1));
  }
  return path;
}

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return concat("<text x=\"", format_fixed(x, 1), "\" y=\"", format_fixed(y, 1),
                "\" text-anchor=\"", anchor, "\">", escape_html(text), "</text>");
}

std::string grid_line(double x1, double y1, double x2, double y2) {
  return concat("<line class=\"grid\" x1=\"", format_fixed(x1, 1), "\" y1=\"", format_fixed(y1, 1),
                "\" x2=\"", format_fixed(x2, 1), "\" y2=\"", format_fixed(y2, 1), "\"/>");
}

const char* class_of(ChartLine::Look look) {
  switch (look) {
    case ChartLine::Look::kBold:
      return "line bold";
    case ChartLine::Look::kFaint:
      return "line faint";
    case ChartLine::Look::kPlain:
      break;
  }
  return "line";
}

std::string shown(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

}  // namespace

const char* const kChartStyle = R"css(
figure { background: var(--raised); border-radius: 6px; padding: 10px 12px 8px; break-inside: avoid; }
figcaption { color: var(--text); font-weight: 600; }
.panels { grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.line.bold { stroke-width: 2.8; }
.line.faint { stroke-width: 1; opacity: 0.42; }
.mark { stroke: var(--text); stroke-dasharray: 3 3; }
svg text.mark-text { fill: var(--text); stroke: none; font-weight: 600; }
.ring { fill: none; stroke: var(--text); stroke-width: 1.6; }
.legend i { height: 3px; border-radius: 0; vertical-align: 4px; width: 16px; }
.legend i.bold { height: 5px; vertical-align: 3px; }
.legend i.faint { opacity: 0.42; }
)css";

Series extremes(const Series& series, std::size_t points) {
  Series all = finite(series);
  if (all.size() <= points) return all;
  Series few;
  for_each_run(all, points / 2, [&](std::size_t first, std::size_t last) {
    const auto begin = all.values.begin();
    const auto [least, greatest] = std::minmax_element(begin + static_cast<std::ptrdiff_t>(first),
                                                       begin + static_cast<std::ptrdiff_t>(last));
    for (const auto value : {std::min(least, greatest), std::max(least, greatest)}) {
      few.iterations.push_back(all.iterations[static_cast<std::size_t>(value - begin)]);
      few.values.push_back(*value);
    }
  });
  return few;
}

Series means(const Series& series, std::size_t points) {
  const Series all = finite(series);
  Series few;
  for_each_run(all, points, [&](std::size_t first, std::size_t last) {
    double iterations = 0, values = 0;
    for (std::size_t i = first; i < last; ++i) {
      iterations += all.iterations[i];
      values += all.values[i];
    }
    few.iterations.push_back(iterations / static_cast<double>(last - first));
    few.values.push_back(values / static_cast<double>(last - first));
  });
  return few;
}

double Axis::place(double value) const {
  const auto at = [&](double number) { return logarithmic ? std::log(number) : number; };
  return (at(value) - at(ticks.front())) / (at(ticks.back()) - at(ticks.front()));
}

Axis linear_axis(double low, double high) {
  if (!(high > low)) {  // one value: in the middle
    const double margin = low == 0 ? 1 : std::abs(low) / 10;
    low -= margin;
    high += margin;
  }
  const double step = round_up((high - low) / 5);
  Axis axis;
  const auto first = static_cast<std::int64_t>(std::floor(low / step + 1e-9));
  const auto last = static_cast<std::int64_t>(std::ceil(high / step - 1e-9));
  for (std::int64_t i = first; i <= last; ++i) axis.ticks.push_back(static_cast<double>(i) * step);
  return axis;
}

Axis logarithmic_axis(double low, double high) {
  Axis axis{.logarithmic = true, .ticks = {}};
  const auto first = static_cast<int>(std::floor(std::log10(low) + 1e-9));
  const auto last = static_cast<int>(std::ceil(std::log10(high) - 1e-9));
  // 1, 2, 5, 10, ... where these are few, else powers, or every second or third of them.
  constexpr std::size_t kMostTicks = 8;
  for (int power = first; power <= last; ++power) {
    for (const double factor : {1.0, 2.0, 5.0}) axis.ticks.push_back(factor * std::pow(10, power));
  }
  while (axis.ticks.size() > 2 && axis.ticks[1] <= low) axis.ticks.erase(axis.ticks.begin());
  while (axis.ticks.size() > 2 && axis.ticks.end()[-2] >= high) axis.ticks.pop_back();
  if (axis.ticks.size() <= kMostTicks) return axis;
  axis.ticks.clear();
  const int step = (last - first + 6) / 7;
  for (int power = first; power < last + step; power += step) {
    axis.ticks.push_back(std::pow(10, power));
  }
  return axis;
}

std::string tick_label(double value, const Axis& axis) {
  if (value == 0) return "0";
  const double size = std::abs(value);
  if (axis.logarithmic) {
    const int power = static_cast<int>(std::floor(std::log10(size) + 1e-9));
    if (power >= -3 && power < 4) return format_fixed(value, std::max(0, -power));
    return concat(std::llround(value / std::pow(10, power)), "e", power);
  }
  const double step = axis.ticks[1] - axis.ticks[0];
  const double largest = std::max(std::abs(axis.ticks.front()), std::abs(axis.ticks.back()));
  const auto digits = [](double of) {
    return std::max(0, static_cast<int>(-std::floor(std::log10(of) + 1e-9)));
  };
  for (const auto& [unit, letter] : {std::pair{1e6, "M"}, std::pair{1e3, "k"}}) {
    if (largest >= 10 * unit) return format_fixed(value / unit, digits(step / unit)) + letter;
  }
  if (largest < 1e-3) {
    const int power = static_cast<int>(std::floor(std::log10(largest) + 1e-9));
    const double unit = std::pow(10, power);
    return concat(format_fixed(value / unit, digits(step / unit)), "e", power);
  }
  return format_fixed(value, digits(step));
}

std::string to_html(const Chart& chart, double last_iteration) {
  std::vector<ChartLine> lines;
  std::string legend;
  double low = chart.include.value_or(std::numeric_limits<double>::infinity());
  double high = chart.include.value_or(-std::numeric_limits<double>::infinity());
  for (ChartLine line : chart.lines) {
    line.points = extremes(line.points, kMostPoints);
    if (line.points.empty()) continue;
    const auto [least, greatest] =
        std::minmax_element(line.points.values.begin(), line.points.values.end());
    low = std::min(low, *least);
    high = std::max(high, *greatest);
    last_iteration = std::max(last_iteration, line.points.iterations.back());
    const std::string look = class_of(line.look);
    if (!line.name.empty()) {
      legend += concat("<span><i class=\"", look.substr(std::min(look.size(), sizeof "line")),
                       "\" style=\"background:", kColours[line.colour % kColours.size()], "\"></i>",
                       escape_html(line.name), "</span>");
    }
    lines.push_back(std::move(line));
  }
  if (lines.empty()) return "";

  const bool is_wide = low > 0 && high >= kLogarithmicSpan * low;
  const Axis values =
      is_wide && !chart.is_linear ? logarithmic_axis(low, high) : linear_axis(low, high);
  // It ends where the run does, not at a round number.
  Axis iterations = linear_axis(0, std::max(last_iteration, 1.0));
  const double end = std::max(last_iteration, 1.0);
  const auto x = [&](double iteration) { return kLeft + (kRight - kLeft) * iteration / end; };
  const auto y = [&](double value) { return kBottom - (kBottom - kTop) * values.place(value); };

  std::string svg;
  for (const double tick : values.ticks) {
    svg += grid_line(kLeft, y(tick), kRight, y(tick));
    svg += text_at(kLeft - 6, y(tick) + 4, "end", tick_label(tick, values));
  }
  for (const double tick : iterations.ticks) {
    if (tick > end || tick != std::floor(tick)) continue;
    svg += grid_line(x(tick), kBottom, x(tick), kBottom + 4);
    // The last label stays within the picture.
    svg += text_at(x(tick), kBottom + 16, x(tick) > kRight - 12 ? "end" : "middle",
                   tick_label(tick, iterations));
  }
  svg += text_at((kLeft + kRight) / 2, kHeight - 4, "middle", "iteration");
  const std::string unit = chart.unit + (values.logarithmic ? " (log)" : "");
  svg += text_at(4, kTop - 10, "start", trim(unit));

  // What is faint lies behind.
  std::stable_partition(lines.begin(), lines.end(),
                        [](const ChartLine& line) { return line.look == ChartLine::Look::kFaint; });
  for (const auto& line : lines) {
    const std::string colour = kColours[line.colour % kColours.size()];
    const bool dots = line.look != ChartLine::Look::kFaint && line.points.size() <= kMostDots;
    if (line.points.size() > 1) {
      svg += concat("<path class=\"", class_of(line.look), "\" stroke=\"", colour, "\" d=\"",
                    path_of(line.points, x, y), "\"/>");
    }
    for (std::size_t i = 0; i < line.points.size() && (dots || line.points.size() == 1); ++i) {
      svg += concat("<circle fill=\"", colour, "\" r=\"2.6\" cx=\"",
                    format_fixed(x(line.points.iterations[i]), 1), "\" cy=\"",
                    format_fixed(y(line.points.values[i]), 1), "\"><title>", escape_html(line.name),
                    " ", shown(line.points.values[i]), " at ", line.points.iterations[i],
                    "</title></circle>");
    }
  }
  if (chart.mark) {
    const double at = x(chart.mark->iteration), height = y(chart.mark->value);
    svg += concat("<line class=\"mark\" x1=\"", format_fixed(at, 1), "\" x2=\"",
                  format_fixed(at, 1), "\" y1=\"", kTop, "\" y2=\"", kBottom, "\"/>");
    svg += concat("<circle class=\"ring\" r=\"5\" cx=\"", format_fixed(at, 1), "\" cy=\"",
                  format_fixed(height, 1), "\"/>");
    const bool right = at < (kLeft + kRight) / 2;
    svg += concat("<text class=\"mark-text\" x=\"", format_fixed(at + (right ? 8 : -8), 1),
                  "\" y=\"", kTop - 8, "\" text-anchor=\"", right ? "start" : "end", "\">",
                  escape_html(chart.mark->text), "</text>");
  }
  return concat("<figure><figcaption>", escape_html(chart.title),
                "</figcaption><svg viewBox=\"0 0 ", kWidth, " ", kHeight,
                "\" role=\"img\" aria-label=\"", escape_html(chart.title), "\">", svg,
                "</svg><div class=\"legend\">", legend, "</div></figure>\n");
}

}  // namespace segmamba::engine
