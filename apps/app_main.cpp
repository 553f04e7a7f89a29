#include "app_main.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/last_words.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"
#include "segmamba/core/version.h"

namespace segmamba::apps {
namespace {

constexpr int kFailure = 1, kUsage = 2;
int exit_code = 0;

// One line, whatever the exception carries: LibTorch appends a C++ stack to its messages.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string there_is_no(const std::string& kind, const std::string& word,
                        const std::vector<std::string>& known) {
  const std::string near = nearest(word, known);
  return concat("there is no ", kind, " '", word, "'",
                near.empty() ? "" : concat(" (did you mean '", near, "'?)"));
}

// CLI11 says only that a subcommand is required, also where one was given misspelt.
std::string explain_command(const CLI::App& app) {
  std::vector<std::string> known;
  for (const auto* command : app.get_subcommands({})) known.push_back(command->get_name());
  for (const auto& word : app.remaining()) {
    if (starts_with(word, "-")) continue;
    return concat(there_is_no("command", word, known), "; known: ", join(known, ", "));
  }
  return "a command is needed: " + join(known, ", ");
}

// Of a required option that was given misspelt CLI11 says only that it is missing.
std::string explain_unknown(const CLI::App& app, const std::string& otherwise) {
  const auto words = app.remaining(/*recurse=*/true);
  if (words.empty()) return otherwise;
  std::vector<std::string> known;
  const auto add_options = [&](const CLI::App& of) {
    for (const auto* option : of.get_options()) {
      for (const auto& name : option->get_lnames()) known.push_back("--" + name);
    }
  };
  add_options(app);
  for (const auto* command : app.get_subcommands()) add_options(*command);
  for (const auto& word : words) {
    if (starts_with(word, "-")) return there_is_no("option", split(word, '=')[0], known);
  }
  return concat("'", words[0], "' is one argument too many");
}

std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  const bool no_command = !app.get_subcommands({}).empty() && app.get_subcommands().empty();
  if (no_command) return explain_command(app);
  const auto kind = static_cast<CLI::ExitCodes>(error.get_exit_code());
  const bool may_be_unknown =
      kind == CLI::ExitCodes::RequiredError || kind == CLI::ExitCodes::ExtrasError;
  return may_be_unknown ? explain_unknown(app, first_line(error.what())) : first_line(error.what());
}

// What went wrong, in one line.
std::string explain(const std::exception& error) {
  const auto line = first_line(error.what());
  // LibTorch's exception has no type of its own, and tells of its source.
  return line.find("DefaultCPUAllocator: ") == std::string::npos ? line : "out of memory";
}

// The lines of a program's examples that run this command.
std::string examples_of(const std::string& command, const std::string& examples) {
  std::string own;
  for (const auto& line : split(examples, '\n')) {
    if (line.find(concat(" ", command, " ")) != std::string::npos) own += "\n" + line;
  }
  return own.empty() ? "" : "Examples:" + own;
}

// What is printed last may still fail to reach a full disk or a closed pipe.
void flush_output() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw Error("cannot write to the standard output (is the disk full?)");
  }
}

}  // namespace

struct CommandLine::Impl {
  std::unique_ptr<CLI::App> owned;
  CLI::App* app = nullptr;
  std::string name;
  bool verbose = false, quiet = false;
  std::vector<std::unique_ptr<CommandLine>> commands;
  std::function<void()> body;
};

CommandLine::CommandLine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

CommandLine::CommandLine(const std::string& name, const std::string& description,
                         const std::string& examples)
    : impl_(std::make_unique<Impl>()) {
  impl_->owned = std::make_unique<CLI::App>(description, name);
  impl_->app = impl_->owned.get();
  impl_->name = name;
  auto& app = *impl_->app;
  app.set_version_flag("--version", name + " " + version());
  app.get_formatter()->column_width(34);
  if (!examples.empty()) app.footer(examples);
  app.add_flag("--verbose,-v", impl_->verbose, "Print more");
  app.add_flag("--quiet,-q", impl_->quiet, "Print warnings and errors only");
  app.fallthrough();
}

CommandLine::~CommandLine() = default;

namespace {

bool has_no_default(const std::string& value) { return value.empty(); }
bool has_no_default(const std::filesystem::path& value) { return value.empty(); }
bool has_no_default(const std::vector<std::string>& value) { return value.empty(); }
template <class Number>
bool has_no_default(Number) {
  return false;
}

// CLI11 takes -1 as 2^64 - 1, and numbers beyond that as the largest.
CLI::Validator unsigned_number() {
  return {[](std::string& text) {
            std::uint64_t value = 0;
            const char* end = text.data() + text.size();
            const auto result = std::from_chars(text.data(), end, value);
            return result.ec == std::errc() && result.ptr == end
                       ? std::string()
                       : concat(text, " is not a whole number from 0 to 2^64 - 1");
          },
          ""};
}

template <class Target>
CLI::Option* add_option(CLI::App& app, const std::string& names, Target& target,
                        const std::string& help, Need need) {
  auto* option = app.add_option(names, target, help);
  if (need == Need::kRequired) {
    option->required();
  } else if (!has_no_default(target)) {
    option->capture_default_str();
  }
  return option;
}

}  // namespace

void CommandLine::option(const std::string& names, std::string& target, const std::string& help,
                         Need need) {
  add_option(*impl_->app, names, target, help, need);
}
void CommandLine::option(const std::string& names, std::filesystem::path& target,
                         const std::string& help, Need need) {
  add_option(*impl_->app, names, target, help, need);
}
void CommandLine::option(const std::string& names, std::int64_t& target, const std::string& help,
                         Need need) {
  add_option(*impl_->app, names, target, help, need);
}
void CommandLine::option(const std::string& names, std::uint64_t& target, const std::string& help,
                         Need need) {
  add_option(*impl_->app, names, target, help, need)->check(unsigned_number());
}
void CommandLine::option(const std::string& names, double& target, const std::string& help,
                         Need need) {
  add_option(*impl_->app, names, target, help, need);
}
void CommandLine::option(const std::string& names, std::vector<std::string>& target,
                         const std::string& help, Need need) {
  add_option(*impl_->app, names, target, help, need);
}
void CommandLine::flag(const std::string& names, bool& target, const std::string& help) {
  impl_->app->add_flag(names, target, help);
}

CommandLine& CommandLine::command(const std::string& name, const std::string& help,
                                  std::function<void()> body) {
  auto impl = std::make_unique<Impl>();
  impl->app = impl_->app->add_subcommand(name, help);
  impl->app->footer(examples_of(name, impl_->app->get_footer()));
  impl->name = name;
  impl->body = std::move(body);
  impl_->commands.push_back(std::unique_ptr<CommandLine>(new CommandLine(std::move(impl))));
  impl_->app->require_subcommand(1);
  return *impl_->commands.back();
}

int CommandLine::run(int argc, char** argv, const std::function<void()>& body) {
  explain_ends(impl_->name);
  std::signal(SIGXFSZ, SIG_IGN);  // a file beyond `ulimit -f` is one that cannot be written
  const auto complain = [&](const std::string& message) {
    std::fprintf(stderr, "%s: %s\n", impl_->name.c_str(), message.c_str());
  };
  try {
    impl_->app->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return impl_->app->exit(error);  // --help, --version
    complain(explain(*impl_->app, error) + "; see --help");
    return kUsage;
  }
  if (impl_->quiet) set_log_level(LogLevel::kWarning);
  if (impl_->verbose) set_log_level(LogLevel::kDebug);
  try {
    for (const auto& command : impl_->commands) {
      if (command->impl_->app->parsed()) command->impl_->body();
    }
    if (body) body();
    flush_output();
    return exit_code;
  } catch (const UsageError& error) {
    complain(error.what());
    return kUsage;
  } catch (const std::bad_alloc&) {
    complain("out of memory");
    return kFailure;
  } catch (const std::filesystem::filesystem_error& error) {
    // As Error does of its own message.
    complain(error.path1().empty()
                 ? error.what()
                 : concat(printable(error.path1().string()), ": ", error.code().message()));
    return kFailure;
  } catch (const std::exception& error) {
    complain(log_level() == LogLevel::kDebug ? error.what() : explain(error));
    return kFailure;
  }
}

void CommandLine::set_exit_code(int code) { exit_code = code; }

}  // namespace segmamba::apps
