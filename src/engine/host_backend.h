#pragma once
// Collectives of host memory over sockets to rank 0, as a back end of c10d. (ProcessGroupGloo needs
// headers that LibTorch does not ship.) For tests, small machines and the host values of a run on
// GPUs: all bytes pass through rank 0.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <vector>

#include "rank_sockets.h"

namespace segmamba::engine {

// Collectives run one after the other, in the order of the calls, on a thread of their own, so that
// a backward pass goes on meanwhile. Where ranks make different calls, rank 0 fails with an Error.
// Tensors must be contiguous and on the CPU.
class HostBackend final : public c10d::Backend {
 public:
  // `sockets`: on rank 0 one to each other rank in their order, elsewhere the one to rank 0.
  HostBackend(int rank, int size, std::vector<Socket> sockets);
  // Work that has not ended fails.
  ~HostBackend() override;

  const std::string getBackendName() const override { return "host"; }

  // Sums only, added in the order of ranks: the same bits on every rank.
  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>& tensors,
                                           const c10d::AllreduceOptions& options) override;
  c10::intrusive_ptr<c10d::Work> broadcast(std::vector<at::Tensor>& tensors,
                                           const c10d::BroadcastOptions& options) override;
  c10::intrusive_ptr<c10d::Work> allgather(std::vector<std::vector<at::Tensor>>& outputs,
                                           std::vector<at::Tensor>& inputs,
                                           const c10d::AllgatherOptions& options) override;
  // The bytes of each rank, of any length.
  std::vector<std::string> gather(const std::string& bytes);

 private:
  struct Task {
    std::function<void()> run;
    c10::intrusive_ptr<c10::ivalue::Future> done;  // with `results`
    std::vector<at::Tensor> results;
  };
  enum class Kind : std::uint32_t { kSum, kBroadcast, kGather };

  c10::intrusive_ptr<c10d::Work> submit(std::vector<at::Tensor> results, std::function<void()> run);
  void work();
  void open(Kind kind, std::uint64_t bytes);
  void sum(const at::Tensor& tensor);
  void broadcast_from(std::int64_t root, const at::Tensor& tensor);
  std::vector<std::string> gather_now(const std::string& bytes);
  Socket& hub() { return sockets_[0]; }  // elsewhere than on rank 0

  std::vector<Socket> sockets_;
  std::uint64_t calls_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace segmamba::engine
