#include "viewer_page.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <sstream>

#include "segmamba/core/text.h"

namespace segmamba::test {
namespace {

std::string element_text(const std::string& html, const std::string& id) {
  const auto begin = html.find(concat(" id=\"", id, "\">"));
  if (begin == std::string::npos) throw Error("the page has no element " + id);
  const auto first = html.find('>', begin) + 1;
  return html.substr(first, html.find("</script>", first) - first);
}

std::string from_base64(const std::string& text) {
  static const std::string kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t group = 0;
  int bits = 0;
  for (const char letter : text) {
    if (letter == '=') break;
    group = group << 6 | static_cast<std::uint32_t>(kLetters.find(letter));
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes += static_cast<char>(group >> bits & 255u);
  }
  return bytes;
}

std::int64_t product(const Json& size) {
  return size.at(0).get<std::int64_t>() * size.at(1).get<std::int64_t>() *
         size.at(2).get<std::int64_t>();
}

}  // namespace

ViewerPage::ViewerPage(const io::ViewerReport& report) {
  std::ostringstream out;
  report.print(out);
  html_ = out.str();
  data_ = parse_json(element_text(html_, "data"), "page");
}

std::vector<std::uint8_t> ViewerPage::volume(std::size_t index, std::size_t place) const {
  const std::string packed = from_base64(element_text(html_, concat("volume-", index, "-", place)));
  std::vector<std::uint8_t> voxels(static_cast<std::size_t>(product(grid(index).at("size"))));
  uLongf count = voxels.size();
  EXPECT_EQ(uncompress(voxels.data(), &count, reinterpret_cast<const Bytef*>(packed.data()),
                       packed.size()),
            Z_OK);
  EXPECT_EQ(count, voxels.size());
  return voxels;
}

std::vector<std::uint8_t> ViewerPage::labels(std::size_t index) const { return volume(index, 0); }

// LOCO-I, a slice at a time: an unoptimised second writing of what the page's script does.
std::vector<std::uint8_t> ViewerPage::image(std::size_t index, std::size_t channel) const {
  auto voxels = volume(index, channel + 1);
  const auto width = grid(index).at("size").at(0).get<std::size_t>();
  const auto height = grid(index).at("size").at(1).get<std::size_t>();
  for (std::size_t i = 0; i < voxels.size(); ++i) {
    const std::size_t x = i % width, y = i / width % height;
    const int left = x > 0 ? voxels[i - 1] : 0, above = y > 0 ? voxels[i - width] : 0;
    const int corner = x > 0 && y > 0 ? voxels[i - width - 1] : 0;
    std::array<int, 3> candidates = {left, above, left + above - corner};
    std::sort(candidates.begin(), candidates.end());
    const int expected = x == 0 ? above : y == 0 ? left : candidates[1];
    voxels[i] = static_cast<std::uint8_t>(voxels[i] + expected);
  }
  return voxels;
}

std::vector<double> ViewerPage::values(std::size_t index, std::size_t channel) const {
  const Json& item = data_.at("cases").at(index).at("channels").at(channel);
  const double low = item.at("low"), high = item.at("high");
  std::vector<double> values;
  for (const std::uint8_t byte : image(index, channel)) {
    values.push_back(low + (high - low) * byte / 255);
  }
  return values;
}

}  // namespace segmamba::test
