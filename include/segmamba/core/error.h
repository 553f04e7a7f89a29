#pragma once
// Errors for people: what was wrong, where (file, line, case), what to do.

#include <stdexcept>
#include <string>

namespace segmamba {

// Anything a user can mend: a bad file, a bad value, a full disk. Programs print what() as one line
// and exit with 1. Messages quote names of files and what stands in them, which may hold anything:
// what() is printable (core/text.h) whatever the message.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message);
};

// What could not be written: a full disk, a read-only folder. It is no fault of the case at hand,
// so that going on with the next one would be in vain.
class WriteError : public Error {
 public:
  explicit WriteError(const std::string& message) : Error(message) {}
};

// What the system does not let us read: a failing disk, missing rights, no such file. It tells
// nothing of the content: nobody may take such a file for a damaged one.
class ReadError : public Error {
 public:
  explicit ReadError(const std::string& message) : Error(message) {}
};

// A command line that asks for something that does not exist. Programs exit with 2.
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& message) : Error(message) {}
};

}  // namespace segmamba
