#include "segmamba/core/html.h"

#include "segmamba/core/json.h"
#include "segmamba/core/text.h"

namespace segmamba {
namespace {

constexpr char kStyle[] = R"css(
:root {
  color-scheme: light dark;
  --ground: #ffffff; --text: #1c2024; --faint: #667079; --line: #d8dde2; --raised: #f5f7f9;
  --accent: #0b66c3; --alert: #fff3d6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15181b; --text: #e6e9ec; --faint: #98a2ab; --line: #343a41; --raised: #1d2125;
    --accent: #6cb2f7; --alert: #40340f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 24px 20px 60px; max-width: 1180px; background: var(--ground);
  color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif;
}
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 36px 0 10px; }
header p { margin: 0; color: var(--faint); }
.path { color: var(--faint); font-size: 13px; overflow-wrap: anywhere; }
.alert { background: var(--alert); padding: 8px 12px; border-radius: 6px; }
a { color: var(--accent); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: left; }
th { border-bottom: 2px solid var(--line); font-weight: 600; white-space: nowrap; }
th.number, td.number { text-align: right; white-space: nowrap; }
td:first-child { white-space: nowrap; }
tbody tr:hover { background: var(--raised); }
.note, .hint { color: var(--faint); font-size: 13px; margin: 6px 0; max-width: 80ch; }
details { margin: 8px 0; }
summary { cursor: pointer; color: var(--accent); }
pre { overflow-x: auto; background: var(--raised); padding: 10px; border-radius: 6px; font-size: 13px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; color: var(--faint); }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 16px; }
figure { margin: 0; }
figcaption { font-size: 13px; color: var(--faint); margin-bottom: 2px; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 4px 0 12px; }
button, select, input[type="search"] {
  font: inherit; color: inherit; background: var(--raised); border: 1px solid var(--line);
  border-radius: 6px; padding: 3px 10px;
}
button, select { cursor: pointer; }
button:hover, select:hover { border-color: var(--faint); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
th[aria-sort]::after { content: " \25B2"; font-size: 10px; }
th[aria-sort="descending"]::after { content: " \25BC"; }
dialog {
  border: 1px solid var(--line); border-radius: 10px; background: var(--ground); color: inherit;
  max-width: 96vw;
}
dialog::backdrop { background: rgb(0 0 0 / 0.45); }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--faint); font-size: 11px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
@media print {
  body { max-width: none; padding: 0; }
  section { break-inside: avoid; }
}
)css";

}  // namespace

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char letter : utf8_text(text)) {
    switch (letter) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += letter;
    }
  }
  return out;
}

std::string base64(const std::string& bytes) {
  constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    }
    for (std::size_t j = 0; j < 4; ++j) {
      text += i + j <= bytes.size() ? kLetters[group >> (18 - 6 * j) & 63u] : '=';
    }
  }
  return text;
}

std::string html_json(const std::string& id, const Json& data) {
  const std::string json = json_text(data);
  std::string text = concat("<script type=\"application/json\" id=\"", id, "\">");
  text.reserve(text.size() + json.size());
  for (const char letter : json) {
    if (letter == '<') {
      text += "\\u003c";
    } else {
      text += letter;
    }
  }
  return text + "</script>\n";
}

std::string html_page_begin(const std::string& title, const std::string& style) {
  return concat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      // Pages show patients: nothing leaves them.
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
      "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>",
      escape_html(title), "</title>\n<style>", kStyle, style, "</style></head>\n<body>\n");
}

std::string html_page(const std::string& title, const std::string& style, const std::string& body) {
  return concat(html_page_begin(title, style), body, kHtmlPageEnd);
}

std::string html_section(const std::string& id, const std::string& title,
                         const std::string& content) {
  if (content.empty()) return "";
  return concat("<section id=\"", id, "\">\n<h2>", escape_html(title), "</h2>\n", content,
                "</section>\n");
}

std::string to_html(const HtmlTable& table) {
  if (table.rows.empty()) return "";
  const auto row_of = [&](const char* tag, const std::vector<std::string>& cells) {
    std::string text = "<tr>";
    for (std::size_t column = 0; column < cells.size(); ++column) {
      text += concat("<", tag, column < table.text_columns ? "" : " class=\"number\"", ">",
                     escape_html(cells[column]), "</", tag, ">");
    }
    return text + "</tr>\n";
  };
  std::string text = concat("<div class=\"scroll\"><table>\n<thead>", row_of("th", table.header),
                            "</thead>\n<tbody>\n");
  for (const auto& row : table.rows) text += row_of("td", row);
  return text + "</tbody></table></div>\n";
}

}  // namespace segmamba
