#include "segmamba/core/html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace segmamba {
namespace {

using ::testing::HasSubstr;

TEST(HtmlTest, EscapesText) {
  EXPECT_EQ(escape_html("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
  EXPECT_EQ(escape_html("\xff"), "\xef\xbf\xbd");
}

TEST(HtmlTest, TablesHoldTextAndNumbers) {
  EXPECT_EQ(to_html(HtmlTable{{"a"}, {}, 1}), "");
  EXPECT_EQ(to_html(HtmlTable{{"a", "b"}, {{"<x>", "1"}}, 1}),
            "<div class=\"scroll\"><table>\n<thead><tr><th>a</th><th class=\"number\">b</th></tr>\n"
            "</thead>\n<tbody>\n<tr><td>&lt;x&gt;</td><td class=\"number\">1</td></tr>\n"
            "</tbody></table></div>\n");
}

TEST(HtmlTest, PagesAreWhole) {
  const std::string page =
      html_page("A & B", "p { color: red }", html_section("s", "T", "<p>x</p>"));
  EXPECT_TRUE(page.starts_with("<!DOCTYPE html>"));
  EXPECT_THAT(page, HasSubstr("<title>A &amp; B</title>"));
  EXPECT_THAT(page, HasSubstr("p { color: red }</style>"));
  EXPECT_THAT(page, HasSubstr("<section id=\"s\">\n<h2>T</h2>\n<p>x</p></section>"));
  EXPECT_TRUE(page.ends_with("</body></html>\n"));
  EXPECT_EQ(html_section("s", "T", ""), "");
}

}  // namespace
}  // namespace segmamba
