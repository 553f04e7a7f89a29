#include "segmamba/core/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "fail_writing.h"
#include "retry.h"

namespace segmamba {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{1} << 16;

}  // namespace

OutputFile::OutputFile(const std::filesystem::path& path, std::filesystem::path name)
    : name_(std::move(name)), descriptor_(retry_interrupted([&] {
        return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      })) {
  if (descriptor_ < 0) fail_writing(name_, errno);
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void OutputFile::write(std::string_view bytes) {
  if (waiting_.size() + bytes.size() > kPieceBytes) flush();
  if (bytes.size() >= kPieceBytes) {
    write_now(bytes);
  } else {
    waiting_ += bytes;
  }
}

void OutputFile::write(const void* bytes, std::size_t count) {
  write(std::string_view(static_cast<const char*>(bytes), count));
}

void OutputFile::flush() {
  write_now(waiting_);
  waiting_.clear();
}

void OutputFile::write_now(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto count =
        retry_interrupted([&] { return ::write(descriptor_, bytes.data(), bytes.size()); });
    if (count < 0) fail_writing(name_, errno);
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void OutputFile::finish() {
  flush();
  if (retry_interrupted([&] { return ::fsync(descriptor_); }) != 0) fail_writing(name_, errno);
  // Network file systems report a full disk only here. Linux closes a file even where it says that
  // a signal interrupted it.
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) fail_writing(name_, errno);
}

OutputStream::OutputStream(OutputFile& file) : std::ostream(nullptr), buffer_(file) {
  rdbuf(&buffer_);
  exceptions(std::ios::badbit);  // else a stream keeps to itself what its buffer throws
}

OutputStream::Buffer::int_type OutputStream::Buffer::overflow(int_type character) {
  if (!traits_type::eq_int_type(character, traits_type::eof())) {
    const char byte = traits_type::to_char_type(character);
    file_.write(std::string_view(&byte, 1));
  }
  return traits_type::not_eof(character);
}

std::streamsize OutputStream::Buffer::xsputn(const char* bytes, std::streamsize count) {
  file_.write(std::string_view(bytes, static_cast<std::size_t>(count)));
  return count;
}

}  // namespace segmamba
