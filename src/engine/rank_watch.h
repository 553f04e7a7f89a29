#pragma once
// Ends this process when another rank of the run has ended before its time.

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "rank_sockets.h"

namespace segmamba::engine {

// Rank 0 has a connection to every other rank, each of those one to rank 0. A thread on each rank
// sends and awaits beats. A connection that ends without a goodbye, or is silent too long, ends
// rank 0, which first tells all others whom they lost.
class RankWatch {
 public:
  struct Peer {
    std::string name;  // "rank 1 (process 4711 on node7)"
    Socket socket;
  };
  enum class Leave { kDone, kFailed };

  RankWatch(std::vector<Peer> peers, std::chrono::milliseconds silence);
  // Says that this rank has failed unless leave() came first: an error is under way.
  ~RankWatch();

  // Says goodbye, or that this rank has failed, and ends the watch.
  void leave(Leave how);

 private:
  struct Watched {
    Peer peer;
    Deadline heard;
    std::string received;  // the line that is not complete yet
  };

  void watch();
  void send_beats();
  void take(Watched& watched);
  void understand(Watched& watched, const std::string& line);
  [[noreturn]] void end(const std::string& lost);
  void say_last(const std::string& line);

  std::vector<Watched> watched_;
  std::chrono::milliseconds silence_;
  std::atomic<bool> leaving_ = false;
  int wake_;  // eventfd: interrupts the thread's wait
  std::thread thread_;
};

}  // namespace segmamba::engine
