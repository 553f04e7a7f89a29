#pragma once
// A page of ViewerReport, read back as its script reads it.

#include <string>
#include <vector>

#include "segmamba/core/json.h"
#include "segmamba/io/viewer_report.h"

namespace segmamba::test {

class ViewerPage {
 public:
  explicit ViewerPage(const io::ViewerReport& report);

  const std::string& html() const { return html_; }
  const Json& data() const { return data_; }
  const Json& grid(std::size_t index) const { return data_.at("cases").at(index).at("grid"); }

  // [S, P, L], L fastest.
  std::vector<std::uint8_t> labels(std::size_t index) const;
  std::vector<std::uint8_t> image(std::size_t index, std::size_t channel) const;
  // The values that its bytes stand for.
  std::vector<double> values(std::size_t index, std::size_t channel) const;

 private:
  std::vector<std::uint8_t> volume(std::size_t index, std::size_t place) const;

  std::string html_;
  Json data_;
};

}  // namespace segmamba::test
