#pragma once
// Locks between processes, which end with the process that holds them however it ends (flock).

#include <filesystem>
#include <string>

namespace segmamba {

// A lock on a file of its own, which is there as long as the lock is held. On file systems that
// have no locks everybody gets it.
class FileLock {
 public:
  enum class Holders { kOne, kManyOfThisKind };

  explicit FileLock(std::filesystem::path path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  // False where another one holds it and `wait` is false. Throws WriteError where the file cannot
  // be made.
  [[nodiscard]] bool acquire(bool wait, Holders holders = Holders::kOne);
  // Puts a text into the file, for others to read. Throws WriteError.
  void write(const std::string& text);
  const std::filesystem::path& path() const { return path_; }

 private:
  bool is_of_path() const;
  bool lock(Holders holders, bool wait);

  std::filesystem::path path_;
  int file_ = -1;
  bool is_held_ = false;
};

// Keeps other processes from writing into a folder at the same time.
class FolderLock {
 public:
  // Makes the folder, and in it the hidden file of the lock. `part`: of a folder that several
  // processes share, each with a part of its own; nobody has the whole folder meanwhile. Throws
  // Error naming the process that holds it, its machine and since when; WriteError where the folder
  // or the file cannot be made.
  explicit FolderLock(const std::filesystem::path& folder, const std::string& part = "");

 private:
  FileLock folder_, part_;
};

}  // namespace segmamba
