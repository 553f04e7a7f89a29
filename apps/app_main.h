#pragma once
// Command lines, the same for every program: --help, --version, --verbose, --quiet; exit code 0, 1
// (one clear line on standard error) or 2 (usage). The only user of CLI11 is app_main.cpp.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace segmamba::apps {

enum class Need { kOptional, kRequired };

class CommandLine {
 public:
  // `examples` is printed at the end of --help.
  CommandLine(const std::string& name, const std::string& description,
              const std::string& examples = "");
  ~CommandLine();

  // `names` as "--output,-o"; a name without dashes is positional. The value that `target` has when
  // an option is declared is its default, shown in --help.
  void option(const std::string& names, std::string& target, const std::string& help,
              Need need = Need::kOptional);
  void option(const std::string& names, std::filesystem::path& target, const std::string& help,
              Need need = Need::kOptional);
  void option(const std::string& names, std::int64_t& target, const std::string& help,
              Need need = Need::kOptional);
  void option(const std::string& names, std::uint64_t& target, const std::string& help,
              Need need = Need::kOptional);
  void option(const std::string& names, double& target, const std::string& help,
              Need need = Need::kOptional);
  // May be given several times; each takes one or more values.
  void option(const std::string& names, std::vector<std::string>& target, const std::string& help,
              Need need = Need::kOptional);
  void flag(const std::string& names, bool& target, const std::string& help);

  // A subcommand with options of its own; `body` runs when it is chosen. Where a program has
  // subcommands, one is required.
  CommandLine& command(const std::string& name, const std::string& help,
                       std::function<void()> body);

  // Parses and runs `body` (or the chosen subcommand's). Error -> one line, 1; UsageError -> 2;
  // anything else thrown -> one line, 1. Returns the exit code. `body` may call set_exit_code.
  int run(int argc, char** argv, const std::function<void()>& body = {});
  // Exit code of a run that ended without an exception (default 0).
  static void set_exit_code(int code);

 private:
  struct Impl;
  explicit CommandLine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace segmamba::apps
