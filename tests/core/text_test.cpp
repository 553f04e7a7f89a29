#include "segmamba/core/text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <locale>

#include "segmamba/core/error.h"

namespace segmamba {
namespace {

TEST(Text, SplitJoinTrim) {
  EXPECT_EQ(split("a,,b", ','), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(split("", ','), (std::vector<std::string>{""}));
  EXPECT_EQ(join(std::vector<int>{1, 2, 3}, "x"), "1x2x3");
  EXPECT_EQ(trim(" \t a b\n"), "a b");
  EXPECT_EQ(trim("  "), "");
}

// Those of a program that the library is a guest in.
TEST(Text, NumbersDoNotDependOnTheLocale) {
  struct Continental : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  const auto before = std::locale::global(std::locale(std::locale::classic(), new Continental));
  EXPECT_EQ(concat(1234567, " ", 0.5), "1234567 0.5");
  EXPECT_EQ(join(std::vector{1024.5, 2048.0}, "x"), "1024.5x2048");
  std::locale::global(before);
}

TEST(Text, NumbersForPeopleAndMachines) {
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(format_double(0.1), "0.1");
  EXPECT_EQ(std::stod(format_double(1.0 / 3)), 1.0 / 3);
  EXPECT_EQ(format_double(std::nan("")), "nan");
  EXPECT_EQ(format_double(-inf), "-inf");
  EXPECT_EQ(format_fixed(0.12345, 3), "0.123");
  EXPECT_EQ(format_fixed(inf, 3), "inf");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(17), "17 B");
  EXPECT_EQ(to_bytes("6GB"), 6'000'000'000);
  EXPECT_EQ(to_bytes("1.5 GiB"), 1'610'612'736);
  EXPECT_EQ(to_bytes("512m"), 512 * 1024 * 1024);
  EXPECT_EQ(to_bytes("4096"), 4096);
  for (const char* text :
       {"", "GB", "-1GB", "0", "nan", "1e300", "6 GBs", "6X", "6 G B", "0.4", "1e-10 GB"}) {
    EXPECT_EQ(to_bytes(text), std::nullopt) << text;
  }
  EXPECT_EQ(format_duration(95), "1:35");
  EXPECT_EQ(format_duration(3700), "1:01:40");
}

TEST(Text, AWholeNumberIsNothingElse) {
  EXPECT_EQ(to_integer("-42"), -42);
  EXPECT_EQ(to_integer("9223372036854775807"), std::numeric_limits<std::int64_t>::max());
  for (const char* text : {"", "4x", " 4", "4.0", "9223372036854775808"}) {
    EXPECT_EQ(to_integer(text), std::nullopt) << text;
  }
}

TEST(Text, WhatIsPrintedDoesNotControlTheTerminal) {
  EXPECT_EQ(printable("a\x1b[2J\r\nb\t\x7f"), "a?[2J??b??");
  EXPECT_EQ(printable("\xc2\x9b"
                      "2J caf\xc3\xa9"),
            "?2J caf\xc3\xa9");
  EXPECT_EQ(printable("\xc2"
                      "a \xc2\xc2\x80"),
            "\xc2"
            "a \xc2?");
  EXPECT_EQ(printable("12345", 5), "12345");
  EXPECT_EQ(printable("123456", 5), "12345...");
  EXPECT_EQ(printable("123\xc3\xa9", 4), "123...");
}

TEST(Text, AnErrorIsOneLineWhateverItQuotes) {
  EXPECT_STREQ(Error("key '\x1b[31m\n' stands twice").what(), "key '?[31m?' stands twice");
  EXPECT_EQ(std::string(UsageError(std::string(1'000'000, 'x')).what()),
            std::string(4000, 'x') + "...");
}

TEST(Text, NearestFindsTyposOnly) {
  const std::vector<std::string> keys = {"learning_rate", "momentum", "nesterov"};
  EXPECT_EQ(nearest("learnig_rate", keys), "learning_rate");
  EXPECT_EQ(nearest("momentun", keys), "momentum");
  EXPECT_EQ(nearest("batch", keys), "");
}

}  // namespace
}  // namespace segmamba
