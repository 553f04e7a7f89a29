#pragma once
// Pages for people that need nothing but themselves: one file, light and dark, printable.

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace segmamba {

// With &, <, >, " and ' escaped, and bytes that are not UTF-8 replaced.
std::string escape_html(const std::string& text);

// RFC 4648, with padding: for pictures in a page, as "data:image/png;base64,...".
std::string base64(const std::string& bytes);

// A script element that holds `data` for a page's script; no text in it can end the element.
std::string html_json(const std::string& id, const nlohmann::ordered_json& data);

// A whole page, which loads nothing from elsewhere. `style` is CSS beside that of every page;
// `body` and `style` are HTML and CSS as they are, `title` is text.
std::string html_page(const std::string& title, const std::string& style, const std::string& body);

// What stands before and behind the body, for pages that are too large to be put together in
// memory.
std::string html_page_begin(const std::string& title, const std::string& style);
inline constexpr std::string_view kHtmlPageEnd = "</body></html>\n";

// A section with a heading and a name to link to; "" where `content` (HTML) is empty.
std::string html_section(const std::string& id, const std::string& title,
                         const std::string& content);

// Cells are text. The first `text_columns` are flush left, the others hold numbers.
struct HtmlTable {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
  std::size_t text_columns = 1;
};
// "" where there are no rows.
std::string to_html(const HtmlTable& table);

}  // namespace segmamba
