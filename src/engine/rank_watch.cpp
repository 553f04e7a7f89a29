#include "rank_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/log.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/distributed.h"

namespace segmamba::engine {
namespace {

using Clock = std::chrono::steady_clock;

// The lines of the watch.
const std::string kBeat = "beat", kDone = "done", kFailed = "failed", kLost = "lost ";

// Never waits: a peer that does not read is about to count as silent, and one that is gone is seen
// when its connection is read.
void send_now(const Socket& socket, const std::string& line) {
  const std::string text = line + "\n";
  ::send(socket.descriptor(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace

RankWatch::RankWatch(std::vector<Peer> peers, std::chrono::milliseconds silence)
    : silence_(silence), wake_(::eventfd(0, EFD_CLOEXEC)) {
  if (wake_ < 0) throw Error("cannot watch the other ranks: too many open files");
  for (auto& peer : peers) watched_.push_back({std::move(peer), Clock::now(), ""});
  thread_ = std::thread([this] { watch(); });
}

RankWatch::~RankWatch() {
  leave(Leave::kFailed);
  ::close(wake_);
}

void RankWatch::leave(Leave how) {
  if (!thread_.joinable()) return;
  leaving_ = true;
  ::eventfd_write(wake_, 1);
  thread_.join();
  say_last(how == Leave::kDone ? kDone : kFailed);
}

void RankWatch::watch() {
  const auto interval = silence_ / 4;
  for (auto next_beat = Clock::now(); !leaving_;) {
    if (Clock::now() >= next_beat) {
      send_beats();
      next_beat = Clock::now() + interval;
    }
    std::vector<pollfd> waiting = {{wake_, POLLIN, 0}};
    for (const auto& watched : watched_) {
      waiting.push_back({watched.peer.socket.descriptor(), POLLIN, 0});  // -1 is left out by poll
    }
    ::poll(waiting.data(), waiting.size(), milliseconds_until(next_beat));
    // This process itself was stopped (Ctrl-Z, a suspended machine): the others may have been too.
    if (Clock::now() > next_beat + interval) {
      for (auto& watched : watched_) watched.heard = Clock::now();
    }
    for (std::size_t i = 0; i < watched_.size() && !leaving_; ++i) {
      auto& watched = watched_[i];
      if (watched.peer.socket.descriptor() < 0) continue;
      if (waiting[i + 1].revents != 0) take(watched);
      if (watched.peer.socket.descriptor() >= 0 && Clock::now() - watched.heard > silence_) {
        end(concat(watched.peer.name, " has been silent for ",
                   format_duration(std::chrono::duration<double>(silence_).count()),
                   " (its machine or network is down, or it was stopped)"));
      }
    }
  }
}

void RankWatch::send_beats() {
  for (const auto& watched : watched_) {
    if (watched.peer.socket.descriptor() >= 0) send_now(watched.peer.socket, kBeat);
  }
}

void RankWatch::take(Watched& watched) {
  char buffer[512];
  const auto got = ::recv(watched.peer.socket.descriptor(), buffer, sizeof(buffer), MSG_DONTWAIT);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) end(watched.peer.name + " ended without a word (killed, crashed or exited)");
  watched.heard = Clock::now();
  watched.received.append(buffer, static_cast<std::size_t>(got));
  for (std::size_t stop; (stop = watched.received.find('\n')) != std::string::npos;) {
    const std::string line = watched.received.substr(0, stop);
    watched.received.erase(0, stop + 1);
    understand(watched, line);
  }
}

void RankWatch::understand(Watched& watched, const std::string& line) {
  if (line == kDone) watched.peer.socket.close();
  if (line == kFailed) end(watched.peer.name + " ended with an error, see its own message");
  if (starts_with(line, kLost)) end(line.substr(kLost.size()));
}

void RankWatch::end(const std::string& lost) {
  log_error(lost + ": this rank ends too");
  say_last(kLost + lost);
  ::_exit(kExitOtherRankEnded);  // the other threads may be blocked for good
}

// Closing a connection that holds unread beats would discard what was just sent, so the other side
// closes first; a second is ample for one that is alive.
void RankWatch::say_last(const std::string& line) {
  for (const auto& watched : watched_) {
    if (watched.peer.socket.descriptor() < 0) continue;
    send_now(watched.peer.socket, line);
    ::shutdown(watched.peer.socket.descriptor(), SHUT_WR);
  }
  const auto deadline = Clock::now() + std::chrono::seconds(1);
  for (auto& watched : watched_) {
    pollfd entry{watched.peer.socket.descriptor(), POLLIN, 0};
    char ignored[512];
    while (entry.fd >= 0 && ::poll(&entry, 1, milliseconds_until(deadline)) > 0 &&
           ::recv(entry.fd, ignored, sizeof(ignored), MSG_DONTWAIT) > 0) {
    }
    watched.peer.socket.close();
  }
}

}  // namespace segmamba::engine
