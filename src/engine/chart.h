#pragma once
// Curves over the iterations of a run, as SVG that needs no script.

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "segmamba/engine/run_history.h"

namespace segmamba::engine {

// At most `points` of them: in each of points / 2 runs of neighbours the least and the greatest, in
// their order, so that no outlier is lost. Values that are not finite are left out.
Series extremes(const Series& series, std::size_t points);
// At most `points` of them: means of runs of neighbours, at the mean of their iterations.
Series means(const Series& series, std::size_t points);

// Where an axis is labelled: 1, 2 or 5 times a power of ten apart (linear), or such numbers
// themselves (logarithmic), with the first at or below `low` and the last at or above `high`.
struct Axis {
  bool logarithmic = false;
  std::vector<double> ticks;  // at least two

  // From 0 at the first tick to 1 at the last.
  double place(double value) const;
};
Axis linear_axis(double low, double high);
Axis logarithmic_axis(double low, double high);  // low > 0
// "0.05", "250k".
std::string tick_label(double value, const Axis& axis);

struct ChartLine {
  enum class Look {
    kPlain,  // with a dot at each value while they are few
    kBold,   // of the mean among others
    kFaint,  // behind what matters
  };
  std::string name;  // in the legend; "": not there
  Series points;
  std::size_t colour = 0;  // of the page's list
  Look look = Look::kPlain;
};

// A value worth a name.
struct ChartMark {
  double iteration = 0, value = 0;
  std::string text;
};

struct Chart {
  std::string title;
  std::string unit = {};  // of the values; "" for none
  std::vector<ChartLine> lines = {};
  std::optional<ChartMark> mark = {};
  // What the axis must show beside the values.
  std::optional<double> include = {};
  bool is_linear = false;  // whatever the values span
};

// A <figure> with caption, curves and legend; "" where there is no finite value. The axis of values
// is logarithmic where all are above 0 and the greatest is 30 times the least, unless `include`
// asks for 0 or `is_linear`. `last_iteration`: where the axis of iterations ends at least.
std::string to_html(const Chart& chart, double last_iteration);

// CSS of these figures.
extern const char* const kChartStyle;

}  // namespace segmamba::engine
