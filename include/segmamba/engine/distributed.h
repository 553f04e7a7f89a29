#pragma once
// Data-parallel training: each rank is a process with a device of its own and a share of every
// batch. Nothing here is global; a run of one rank needs no network.

#include <torch/torch.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace c10d {
class ProcessGroup;
}

namespace segmamba::engine {

// Which process of a run this is.
struct RankInfo {
  std::int64_t rank = 0, size = 1;
  std::int64_t local_rank = 0;  // on its machine: the GPU that it takes
  // Ranks that share the processors which this one sees: those of its machine with torchrun; 1
  // with srun, which gives each its own.
  std::int64_t local_size = 1;
  std::string address;  // of rank 0's machine; empty where size is 1
  std::int64_t port = 0;
  // With torchrun the store is the agent's: every rank is a client of it.
  bool store_is_external = false;
  std::int64_t attempt = 0;  // how often torchrun has started this run anew
};

// From the variables of torchrun (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR,
// MASTER_PORT) or, where
// RANK and WORLD_SIZE are absent, of a step that srun started (SLURM_PROCID, SLURM_STEP_NUM_TASKS,
// SLURM_LOCALID; the address is the first host of SLURM_STEP_NODELIST, the port follows from
// SLURM_JOB_ID; MASTER_ADDR and MASTER_PORT overrule them). One rank where there are neither, and
// in a batch script of SLURM outside srun. Throws Error naming the variable that is missing or no
// number.
RankInfo rank_from_environment();

// The device that a rank takes where the run was asked for `device`: of several GPUs the one with
// the number of the rank on its machine. Throws Error where the machine has too few.
torch::Device device_of_rank(const RankInfo& info, const torch::Device& device);

// The ranks of a run. All of them must make the same calls in the same order. The destructor says
// goodbye: the others may then still work alone, but not meet this rank again. While an exception
// unwinds the stack it says that instead, and the others end.
class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual std::int64_t rank() const = 0;
  virtual std::int64_t size() const = 0;
  bool is_first() const { return rank() == 0; }

  // Sums of small host vectors over the ranks, in the order of ranks: the same bits on each.
  virtual std::vector<double> sum(std::vector<double> values) = 0;
  // The bytes of each rank, in the order of ranks, on each.
  virtual std::vector<std::string> gather(const std::string& bytes) = 0;
  // Overwrites with rank 0's. Sizes and types must agree.
  virtual void broadcast(const std::vector<torch::Tensor>& tensors) = 0;
  // Sum of a tensor over the ranks. Differentiable: the gradient is summed too, so that the mean
  // over ranks of the parameters' gradients is that of one rank with the whole batch, where every
  // rank computes the same loss from the sum. A loss that is a mean over the rank's own patches
  // needs no sum: the mean over ranks of its gradients is that of the whole batch.
  virtual torch::Tensor sum(const torch::Tensor& tensor) = 0;
  // Returns when every rank has come here.
  void barrier() { gather(""); }

  // What c10d needs; null where there is one rank.
  virtual c10d::ProcessGroup* process_group() = 0;
};

// One rank: nothing to do.
std::unique_ptr<Ranks> single_rank();

// The exit code of a rank that ends only because another one did.
inline constexpr int kExitOtherRankEnded = 3;

struct RankTimeouts {
  std::chrono::milliseconds meeting = std::chrono::minutes(5);
  // A rank from which nothing was heard for so long counts as dead. Its beat comes from a thread of
  // its own, so a rank that computes or waits is never silent.
  std::chrono::milliseconds silence = std::chrono::minutes(1);
};

// Meets the others. Tensors on a GPU travel by NCCL; those of the CPU, and all host values, over
// sockets to rank 0, which is for tests and small machines. From then on a rank that dies, fails or
// falls silent ends this process within seconds, whatever it is doing, with one line that names
// that rank, its process and its machine, and the exit code kExitOtherRankEnded. Throws Error where
// the ranks do not meet in time. `device` is that of device_of_rank.
std::unique_ptr<Ranks> join_ranks(const RankInfo& info, const torch::Device& device,
                                  const RankTimeouts& timeouts = {});

// Averages gradients over the ranks while the backward pass is still running (c10d::Reducer). Does
// nothing where there is one rank. `ranks` must outlive it.
class GradientAverager {
 public:
  // Every rank must have the same parameters (names, sizes), which the constructor checks; equal
  // values are the caller's affair (Ranks::broadcast).
  GradientAverager(Ranks& ranks, const torch::nn::Module& model);
  ~GradientAverager();
  GradientAverager(const GradientAverager&) = delete;
  GradientAverager& operator=(const GradientAverager&) = delete;

  // Around the last micro-batch of an update: its backward pass averages the gradients, those that
  // accumulated before it included. Earlier micro-batches need no call.
  void before_forward();
  void before_backward();
  // Throws Error naming a parameter that the loss did not reach: its gradient, and others that
  // travel with it, would not be averaged.
  void after_backward();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace segmamba::engine
