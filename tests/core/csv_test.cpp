#include "segmamba/core/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segmamba/core/error.h"
#include "segmamba/core/files.h"
#include "segmamba/core/text.h"
#include "support/temporary_folder.h"

namespace segmamba {
namespace {

using ::testing::ElementsAre;

std::string error_of(const std::string& text) {
  try {
    parse_csv(text, "t.csv");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(CsvTest, ReadsRowsWithTheirLines) {
  const CsvTable table = parse_csv("a,b\n1,2\n\n3,\n", "t.csv");
  EXPECT_THAT(table.header.fields, ElementsAre("a", "b"));
  ASSERT_EQ(table.rows.size(), 2);
  EXPECT_THAT(table.rows[0].fields, ElementsAre("1", "2"));
  EXPECT_THAT(table.rows[1].fields, ElementsAre("3", ""));
  EXPECT_EQ(table.place(table.rows[1]), "t.csv:4");
}

TEST(CsvTest, ReadsQuotedFields) {
  const CsvTable table = parse_csv(
      "a,b\n\"x, \"\"y\"\"\",\"two\nlines\" \n \" kept \" , dropped \nlast,\"\"", "t.csv");
  ASSERT_EQ(table.rows.size(), 3);
  EXPECT_THAT(table.rows[0].fields, ElementsAre("x, \"y\"", "two\nlines"));
  EXPECT_THAT(table.rows[1].fields, ElementsAre(" kept ", "dropped"));
  EXPECT_EQ(table.rows[1].line, 4);
  EXPECT_THAT(table.rows[2].fields, ElementsAre("last", ""));
}

TEST(CsvTest, WhatIsWrittenReadsBack) {
  EXPECT_EQ(csv_line({"case", "1.5", ""}), "case,1.5,\n");
  const std::vector<std::string> fields = {"a, b", "say \"no\"", "two\nlines", " blanks ", "plain"};
  EXPECT_EQ(csv_line(fields), "\"a, b\",\"say \"\"no\"\"\",\"two\nlines\",\" blanks \",plain\n");
  // What begins a file as a byte order mark would be passed over.
  EXPECT_EQ(parse_csv(csv_line({"\xef\xbb\xbfname"}), "t.csv").header.fields.at(0),
            "\xef\xbb\xbfname");
  const CsvTable table = parse_csv("a,b,c,d,e\n" + csv_line(fields), "t.csv");
  EXPECT_EQ(table.rows.at(0).fields, fields);
}

TEST(CsvTest, TakesWhatSpreadsheetsWrite) {
  test::TemporaryFolder folder;
  write_file_atomically(folder.path() / "t.csv",
                        "\xef\xbb\xbf"
                        "a,\"b\"\r\n1,\"2\"\r\n  \r\n3,4");
  const CsvTable table = read_csv(folder.path() / "t.csv");
  EXPECT_THAT(table.header.fields, ElementsAre("a", "b"));
  ASSERT_EQ(table.rows.size(), 2);
  EXPECT_THAT(table.rows[0].fields, ElementsAre("1", "2"));
  EXPECT_THAT(table.rows[1].fields, ElementsAre("3", "4"));
  EXPECT_EQ(table.rows[1].line, 4);
}

TEST(CsvTest, SaysWhereATableIsMalformed) {
  EXPECT_EQ(error_of(""), "t.csv: is empty; a header row is needed");
  EXPECT_EQ(error_of("\n\n"), "t.csv: is empty; a header row is needed");
  EXPECT_EQ(error_of("a;b\n1;2"), "t.csv:1: columns must be separated by commas");
  EXPECT_EQ(error_of("a,,b"), "t.csv:1: a column has no name");
  EXPECT_EQ(error_of("a,b,a"), "t.csv:1: there are two columns 'a'");
  EXPECT_EQ(error_of("a,b\n1,2\n1,2,3"), "t.csv:3: has 3 fields where the header has 2");
  EXPECT_EQ(error_of("a,b\n1,2\"3"),
            "t.csv:2: a quote within a field that is not quoted as a whole");
  EXPECT_EQ(error_of("a,b\n\"1\"x,2"), "t.csv:2: a quoted field goes on after its closing quote");
  EXPECT_EQ(error_of("a,b\n\"1,2\n3,4"), "t.csv:2: a quoted field has no end");
}

TEST(CsvTest, TakesManyColumns) {
  std::string header = "c0";
  for (int i = 1; i < 200'000; ++i) header += concat(",c", i);
  EXPECT_EQ(parse_csv(header, "t.csv").header.fields.size(), 200'000U);
  EXPECT_EQ(error_of(header + ",c7"), "t.csv:1: there are two columns 'c7'");
}

}  // namespace
}  // namespace segmamba
