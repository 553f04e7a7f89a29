#pragma once
// TCP connections between the ranks of a run. Errors are LostConnection.

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace segmamba::engine {

using Deadline = std::chrono::steady_clock::time_point;

// The other end is gone, or did not answer in time.
class LostConnection : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }

  // Blocking. SIGPIPE is not raised.
  void send(const void* data, std::size_t bytes);
  void receive(void* data, std::size_t bytes);

  // For short lines, without waiting longer than until `deadline`; the end of line is not part.
  void send_line(const std::string& line);
  std::string receive_line(Deadline deadline);

  // Ends both directions: a thread that is blocked in send or receive gets a LostConnection.
  void shut_down();
  void close();
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_ = -1;
};

// Takes connections on a free port.
class Listener {
 public:
  Listener();
  std::uint16_t port() const { return port_; }
  // Nothing where none came until `deadline`.
  std::optional<Socket> accept(Deadline deadline);

 private:
  Socket socket_;
  std::uint16_t port_ = 0;
};

// Tries until `deadline`.
Socket connect_to(const std::string& address, std::uint16_t port, Deadline deadline);

// Milliseconds until `deadline` for poll(); 0 where it has passed.
int milliseconds_until(Deadline deadline);

}  // namespace segmamba::engine
