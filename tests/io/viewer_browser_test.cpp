// The page of ViewerReport in a real browser, where there is one: Chromium, headless. A script at
// the end of the page uses it as a person does and writes down what it sees.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <regex>

#include "segmamba/core/files.h"
#include "segmamba/core/json.h"
#include "segmamba/core/text.h"
#include "segmamba/io/viewer_report.h"
#include "support/temporary_folder.h"

namespace segmamba::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// "" where none is installed.
std::string browser() {
  for (const char* name : {"chromium", "chromium-browser", "google-chrome"}) {
    if (std::system(concat("command -v ", name, " >/dev/null 2>&1").c_str()) == 0) return name;
  }
  return "";
}

// Helpers of the scripts, and what runs them when the first case is drawn.
constexpr char kBegin[] = R"js(
const find = selector => document.querySelector(selector);
const frames = async () => {
  for (let i = 0; i < 3; ++i) await new Promise(requestAnimationFrame);
};
const until = async isThere => { while (!isThere()) await new Promise(done => setTimeout(done, 10)); };
const isDrawn = () => !find("#pictures").hidden && find("#pictures").ariaBusy !== "true" &&
  find("#readout").textContent !== "";
// The colour at a place of a plane, in shares of its width and height.
const colour = (plane, across, down) => {
  const canvas = find(`[data-plane=${plane}] canvas`);
  const pixel = canvas.getContext("2d").getImageData(across * canvas.width, down * canvas.height, 1, 1);
  return [...pixel.data.slice(0, 3)];
};
const key = async (name, target = document.body) => {
  target.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
  await frames();
};
const press = async selector => { find(selector).click(); await frames(); };
const place = plane => Number(find(`[data-plane=${plane}] .place`).textContent);
const cases = () => [...document.querySelectorAll("#cases tbody tr")].filter(row => !row.hidden)
  .map(row => row.cells[0].textContent);
const seen = {};
// Chromium prints the page when it is loaded, and so is no page with an open frame.
const open = document.body.appendChild(document.createElement("iframe")).contentDocument;
open.open();
(async () => {
  try {
    await until(isDrawn);
    await frames();
)js";
constexpr char kEnd[] = R"js(
  } catch (error) {
    seen.error = String(error.stack || error);
  }
  // Without what would be escaped in HTML.
  const text = JSON.stringify(seen).replace(/[<>&\u0080-\uffff]/g,
    letter => "\\u" + letter.charCodeAt(0).toString(16).padStart(4, "0"));
  document.body.append(Object.assign(document.createElement("pre"), {id: "seen", textContent: text}));
  open.close();
})();
)js";

// What `script` put into `seen` with the page opened at `address`.
Json look(const ViewerReport& report, const std::string& script, const std::string& address = "") {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "report.html";
  std::ofstream page(path);
  report.print(page);
  page << "<script>" << kBegin << script << kEnd << "</script>\n";
  page.close();
  const std::string command = concat(
      "cd \"", folder.path().string(), "\" && ", browser(),
      " --headless=new --no-sandbox --disable-gpu --window-size=1400,1000"
      " --user-data-dir=profile --dump-dom \"file://",
      std::regex_replace(path.string(), std::regex(" "), "%20"), "#", address, "\" >dom 2>log");
  EXPECT_EQ(std::system(command.c_str()), 0) << read_file(folder.path() / "log");
  const std::string dom = read_file(folder.path() / "dom");
  const std::string begin = "<pre id=\"seen\">";
  const auto first = dom.find(begin);
  if (first == std::string::npos) throw Error("the script did not end: " + dom.substr(0, 2000));
  const auto last = dom.find("</pre>", first);
  return parse_json(dom.substr(first + begin.size(), last - first - begin.size()), "seen");
}

constexpr std::array<std::int64_t, 3> kSize = {20, 16, 12};

// A bright image, an oedema in the middle, and one enhancing voxel at x = 3, y = 4, z = 6. The
// file's x runs to the right, so that it lies on the patient's left.
ViewerReport& add_turned_case(ViewerReport& report, const std::string& name) {
  Image image;
  image.geometry.size = kSize;
  image.geometry.direction = {-1, 0, 0, 0, 1, 0, 0, 0, 1};
  image.voxels.assign(static_cast<std::size_t>(image.geometry.voxel_count()), 100);
  Image other = image;
  std::fill(other.voxels.begin(), other.voxels.end(), 0.5f);
  LabelMap labels;
  labels.geometry = image.geometry;
  labels.voxels.assign(image.voxels.size(), 0);
  const auto at = [](std::int64_t x, std::int64_t y, std::int64_t z) {
    return static_cast<std::size_t>((z * kSize[1] + y) * kSize[0] + x);
  };
  for (std::int64_t z = 5; z < 8; ++z) {
    for (std::int64_t y = 10; y < 13; ++y) {
      for (std::int64_t x = 10; x < 13; ++x) labels.voxels[at(x, y, z)] = 2;
    }
  }
  labels.voxels[at(3, 4, 6)] = 3;
  report.add_case(name, 3, labels, {{"t1c", &image}, {"t2f", &other}});
  return report;
}

ViewerOptions options() {
  ViewerOptions result;
  result.labels = {{1, "necrosis"}, {2, "oedema"}, {3, "enhancing"}};
  result.regions = {{"WT", {1, 2, 3}}, {"ET", {3}}};
  result.expected_cases = 3;
  return result;
}

class ViewerBrowserTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (browser().empty()) GTEST_SKIP() << "no Chromium here";
  }
};

TEST_F(ViewerBrowserTest, ShowsVoxelsWhereThePatientHasThem) {
  ViewerReport report(options());
  add_turned_case(report, "a");
  const Json seen = look(report, R"js(
    await key("x");  // no cross over the voxels
    seen.voxel = colour("axial", 16.5 / 20, 4.5 / 16);
    seen.mirrored = colour("axial", 3.5 / 20, 4.5 / 16);
    seen.coronal = colour("coronal", 16.5 / 20, 5.5 / 12);
    seen.sagittal = colour("sagittal", 4.5 / 16, 5.5 / 12);
    seen.marks = [...document.querySelectorAll("[data-plane=axial] .mark")].map(mark => mark.textContent);
    seen.readout = find("#readout").textContent;
    await press("#labels .chip:nth-child(3)");
    seen.hidden = colour("axial", 16.5 / 20, 4.5 / 16);
)js",
                         "case=a&at=3,4,6&opacity=100");
  const auto enhancing = ElementsAre(250, 220, 60);
  EXPECT_FALSE(seen.contains("error")) << seen;
  EXPECT_THAT(seen.at("voxel"), enhancing);
  EXPECT_THAT(seen.at("mirrored"), ElementsAre(255, 255, 255));
  EXPECT_THAT(seen.at("coronal"), enhancing);
  EXPECT_THAT(seen.at("sagittal"), enhancing);
  EXPECT_THAT(seen.at("hidden"), ElementsAre(255, 255, 255));
  EXPECT_THAT(seen.at("marks"), ElementsAre("R", "L", "A", "P"));
  EXPECT_EQ(seen.at("readout"),
            "voxel 3, 4, 6 \xc2\xb7 3.0R 4.0P 6.0S mm \xc2\xb7 t1c 100 \xc2\xb7 enhancing");
}

TEST_F(ViewerBrowserTest, IsUsedByMouseAndKeys) {
  ViewerReport report(options());
  add_turned_case(report, "b");
  report.add_failure("a </pre> bad", 60, "t1c.nii.gz: <truncated>");
  add_turned_case(report, "c");
  const Json seen = look(report, R"js(
    seen.first = [place("axial"), place("coronal"), place("sagittal")];
    const axial = find("[data-plane=axial] canvas");
    axial.dispatchEvent(new WheelEvent("wheel", {deltaY: 120, cancelable: true}));
    await frames();
    seen.wheel = place("axial");
    axial.focus();
    await key("PageUp", axial);
    seen.page = place("axial");
    await key("Home", axial);
    await key("ArrowUp", axial);
    seen.arrow = place("axial");
    const box = axial.getBoundingClientRect();
    axial.dispatchEvent(new MouseEvent("click", {
      clientX: box.left + box.width * 16.5 / 20, clientY: box.top + box.height * 4.5 / 16, bubbles: true}));
    await frames();
    seen.cross = [place("sagittal"), place("coronal")];
    await key("ArrowRight", axial);
    seen.channel = find("#channels [aria-pressed=true]").textContent;
    await key("o");
    await key("2");
    seen.lead = find("#planes.enlarged .lead").dataset.plane;
    await press("#labels .chip:nth-child(2)");
    await press("#regions .chip:nth-child(1)");
    await new Promise(done => setTimeout(done, 300));
    seen.address = location.hash;

    await press("#cases th:nth-child(3)");
    await press("#cases th:nth-child(3)");
    seen.slowest = cases();
    await press("#cases th:nth-child(1)");
    seen.byName = cases();
    await press("#cases tbody tr");
    seen.message = find("#message").textContent;
    seen.isHidden = find("#pictures").hidden;
    await key("n");
    await until(isDrawn);
    seen.next = find("#case").textContent;
    find("#find").value = "TRUNC bad";
    find("#find").dispatchEvent(new Event("input"));
    seen.found = cases();
    seen.count = find("#count").textContent;

    location.hash = "#case=c&at=10,11,7&plane=sagittal&labels=2&style=outlined";
    await until(() => find("#case").textContent === "c" && isDrawn());
    await frames();
    seen.linked = [place("axial"), find("#planes .lead").dataset.plane,
      ...[...document.querySelectorAll("#labels .chip")].map(chip => chip.ariaPressed)];
)js");
  EXPECT_FALSE(seen.contains("error")) << seen;
  EXPECT_THAT(seen.at("first"), ElementsAre(6, 10, 12));
  EXPECT_EQ(seen.at("wheel"), 5);
  EXPECT_EQ(seen.at("page"), 11);  // the last
  EXPECT_EQ(seen.at("arrow"), 1);
  EXPECT_THAT(seen.at("cross"), ElementsAre(3, 4));
  EXPECT_EQ(seen.at("channel"), "t2f");
  EXPECT_EQ(seen.at("lead"), "coronal");
  EXPECT_EQ(seen.at("address"),
            "#case=b&at=3,4,1&channel=t2f&labels=1,3&region=WT&style=outlined&plane=coronal");
  EXPECT_THAT(seen.at("slowest"), ElementsAre("a </pre> bad", "b", "c"));
  EXPECT_THAT(seen.at("byName"), ElementsAre("a </pre> bad", "b", "c"));
  EXPECT_EQ(seen.at("message"), "No result: t1c.nii.gz: <truncated>");
  EXPECT_EQ(seen.at("isHidden"), true);
  EXPECT_EQ(seen.at("next"), "b");
  EXPECT_THAT(seen.at("found"), ElementsAre("a </pre> bad"));
  EXPECT_EQ(seen.at("count"), "1 of 3");
  EXPECT_THAT(seen.at("linked"), ElementsAre(7, "sagittal", "false", "true", "false"));
}

// CT: air, and a ramp up to 1000 HU.
Image one_slice_of_ct() {
  Image image;
  image.geometry.size = {24, 16, 1};
  image.voxels.assign(24 * 16, -1000);
  for (std::size_t i = 100; i < 300; ++i) image.voxels[i] = 5.0f * static_cast<float>(i - 99);
  return image;
}

TEST_F(ViewerBrowserTest, SuitsCtSingleSlicesAndCoarseVolumes) {
  ViewerOptions coarse = options();
  coarse.max_voxels = 10 * 8 * 6;
  ViewerReport report(coarse);
  const Image image = one_slice_of_ct();
  LabelMap labels;
  labels.geometry = image.geometry;
  labels.voxels.assign(image.voxels.size(), 2);
  report.add_case("slice", 1, labels, {{"CT", &image}});
  add_turned_case(report, "volume");
  const Json seen = look(report, R"js(
    const planes = () => [...document.querySelectorAll("[data-plane]")].filter(plane => !plane.hidden)
      .map(plane => plane.dataset.plane);
    const levelAndWidth = () => [find("#level-value").textContent, find("#width-value").textContent];
    seen.slice = planes();
    seen.first = levelAndWidth();
    await press("#presets button:nth-child(2)");
    seen.lung = levelAndWidth();
    find("#opacity").focus();
    await key("o", find("#opacity"));  // a slider does not swallow the keys
    seen.outlined = find("#outlined").ariaPressed;
    await key("ArrowDown", find("#cases tr.chosen"));
    await until(() => find("#case").textContent === "volume" && isDrawn());
    await frames();
    seen.focus = document.activeElement.cells[0].textContent;
    seen.volume = planes();
    seen.isMr = find("#presets").hidden;
    seen.readout = find("#readout").textContent;
)js");
  EXPECT_FALSE(seen.contains("error")) << seen;
  EXPECT_THAT(seen.at("slice"), ElementsAre("axial"));
  EXPECT_NEAR(std::stod(seen.at("first").at(0).get<std::string>()), 40, 8);
  EXPECT_NEAR(std::stod(seen.at("first").at(1).get<std::string>()), 400, 8);
  EXPECT_THAT(seen.at("lung"), ElementsAre("-600", "1500"));
  EXPECT_EQ(seen.at("outlined"), "true");
  EXPECT_EQ(seen.at("focus"), "volume");
  EXPECT_THAT(seen.at("volume"), ElementsAre("axial", "coronal", "sagittal"));
  EXPECT_EQ(seen.at("isMr"), true);
  EXPECT_THAT(seen.at("readout").get<std::string>(),
              HasSubstr("shown in voxels of 2 mm, the file has 1 mm"));
}

}  // namespace
}  // namespace segmamba::io
