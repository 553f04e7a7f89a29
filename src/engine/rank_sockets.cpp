#include "rank_sockets.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "segmamba/core/text.h"

namespace segmamba::engine {
namespace {

// Longer lines come from someone who is no rank.
constexpr std::size_t kLongestLine = 1024;

[[noreturn]] void fail(const std::string& what) {
  throw LostConnection(concat(what, ": ", std::strerror(errno)));
}

// Messages are small and answered at once: waiting to fill a packet would only delay them.
Socket without_delay(Socket socket) {
  const int on = 1;
  ::setsockopt(socket.descriptor(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return socket;
}

bool wait_for(int descriptor, short events, Deadline deadline) {
  pollfd entry{descriptor, events, 0};
  int ready;
  do {
    ready = ::poll(&entry, 1, milliseconds_until(deadline));
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

// Nothing where this address does not answer.
std::optional<Socket> try_address(const addrinfo& address, Deadline deadline) {
  Socket socket(::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.descriptor() < 0) return {};
  if (::connect(socket.descriptor(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS || !wait_for(socket.descriptor(), POLLOUT, deadline)) return {};
    int error = 0;
    socklen_t size = sizeof(error);
    ::getsockopt(socket.descriptor(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return {};
  }
  ::fcntl(socket.descriptor(), F_SETFL, 0);  // blocking again
  return without_delay(std::move(socket));
}

}  // namespace

int milliseconds_until(Deadline deadline) {
  using std::chrono::milliseconds;
  const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(
      std::clamp(left, milliseconds(0), milliseconds(std::chrono::hours(1))).count());
}

void Socket::send(const void* data, std::size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const auto sent = ::send(descriptor_, next, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) fail("cannot send");
    next += sent;
    bytes -= static_cast<std::size_t>(sent);
  }
}

void Socket::receive(void* data, std::size_t bytes) {
  char* next = static_cast<char*>(data);
  while (bytes > 0) {
    const auto got = ::recv(descriptor_, next, bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot receive");
    if (got == 0) throw LostConnection("the other end has closed the connection");
    next += got;
    bytes -= static_cast<std::size_t>(got);
  }
}

void Socket::send_line(const std::string& line) {
  const std::string text = line + "\n";
  send(text.data(), text.size());
}

std::string Socket::receive_line(Deadline deadline) {
  std::string line;
  for (char next = 0; line.size() < kLongestLine; line += next) {
    if (!wait_for(descriptor_, POLLIN, deadline)) throw LostConnection("no answer in time");
    receive(&next, 1);
    if (next == '\n') return line;
  }
  throw LostConnection("an overlong line");
}

void Socket::shut_down() { ::shutdown(descriptor_, SHUT_RDWR); }

void Socket::close() {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

Listener::Listener() : socket_(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_storage address{};
  socklen_t size = 0;
  if (socket_.descriptor() >= 0) {
    auto& any = reinterpret_cast<sockaddr_in6&>(address);
    any.sin6_family = AF_INET6;  // takes IPv4 as well
    const int off = 0;
    ::setsockopt(socket_.descriptor(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    size = sizeof(any);
  } else {  // a machine without IPv6
    socket_ = Socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    reinterpret_cast<sockaddr_in&>(address).sin_family = AF_INET;
    size = sizeof(sockaddr_in);
  }
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  if (::bind(socket_.descriptor(), plain, size) != 0 ||
      ::listen(socket_.descriptor(), SOMAXCONN) != 0 ||
      ::getsockname(socket_.descriptor(), plain, &size) != 0) {
    fail("cannot listen on a port");
  }
  port_ = ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                              : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

std::optional<Socket> Listener::accept(Deadline deadline) {
  while (wait_for(socket_.descriptor(), POLLIN, deadline)) {
    const int descriptor = ::accept4(socket_.descriptor(), nullptr, nullptr, SOCK_CLOEXEC);
    if (descriptor >= 0) return without_delay(Socket(descriptor));
  }
  return {};
}

Socket connect_to(const std::string& address, std::uint16_t port, Deadline deadline) {
  while (true) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int status = ::getaddrinfo(address.c_str(), concat(port).c_str(), &hints, &found);
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);
    for (const auto* next = addresses.get(); next != nullptr; next = next->ai_next) {
      if (auto socket = try_address(*next, deadline)) return std::move(*socket);
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      throw LostConnection(status != 0 ? ::gai_strerror(status) : "no answer");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

}  // namespace segmamba::engine
