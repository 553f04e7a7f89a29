#include "segmamba/engine/distributed.h"

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <random>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <utility>
#ifdef SEGMAMBA_WITH_CUDA
#include <c10/cuda/CUDAFunctions.h>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include "host_backend.h"
#include "rank_watch.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/engine/device.h"

namespace segmamba::engine {
namespace {

using Group = c10::intrusive_ptr<c10d::ProcessGroup>;
using std::chrono::milliseconds;

class SingleRank final : public Ranks {
 public:
  std::int64_t rank() const override { return 0; }
  std::int64_t size() const override { return 1; }
  std::vector<double> sum(std::vector<double> values) override { return values; }
  std::vector<std::string> gather(const std::string& bytes) override { return {bytes}; }
  void broadcast(const std::vector<torch::Tensor>&) override {}
  torch::Tensor sum(const torch::Tensor& tensor) override { return tensor; }
  c10d::ProcessGroup* process_group() override { return nullptr; }
};

torch::Tensor summed(const torch::Tensor& tensor, c10d::ProcessGroup& group) {
  std::vector<torch::Tensor> sums = {tensor.detach().clone(torch::MemoryFormat::Contiguous)};
  group.allreduce(sums)->wait();
  return sums[0];
}

struct SumOverRanks : torch::autograd::Function<SumOverRanks> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& tensor, const Group& group) {
    context->saved_data["group"] = c10::IValue::make_capsule(group);
    return summed(tensor, *group);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto group = context->saved_data["group"].toCapsule();
    return {summed(gradients[0], static_cast<c10d::ProcessGroup&>(*group)), torch::Tensor()};
  }
};

class ProcessRanks final : public Ranks {
 public:
  // `gpu` is null where the ranks run on the CPU.
  ProcessRanks(Group group, c10::intrusive_ptr<HostBackend> host,
               c10::intrusive_ptr<c10d::Backend> gpu, std::unique_ptr<RankWatch> watch)
      : group_(std::move(group)),
        host_(std::move(host)),
        gpu_(std::move(gpu)),
        watch_(std::move(watch)) {}
  ~ProcessRanks() override;

  std::int64_t rank() const override { return group_->getRank(); }
  std::int64_t size() const override { return group_->getSize(); }
  std::vector<double> sum(std::vector<double> values) override;
  std::vector<std::string> gather(const std::string& bytes) override {
    return host_->gather(bytes);
  }
  void broadcast(const std::vector<torch::Tensor>& tensors) override;
  torch::Tensor sum(const torch::Tensor& tensor) override {
    return SumOverRanks::apply(tensor, group_);
  }
  c10d::ProcessGroup* process_group() override { return group_.get(); }

 private:
  Group group_;
  c10::intrusive_ptr<HostBackend> host_;
  c10::intrusive_ptr<c10d::Backend> gpu_;
  std::unique_ptr<RankWatch> watch_;
  const int exceptions_before_ = std::uncaught_exceptions();
};

// The watch goes first: what the others see of the rest of the end is then no surprise to them.
ProcessRanks::~ProcessRanks() {
  const bool failed = std::uncaught_exceptions() > exceptions_before_;
  watch_->leave(failed ? RankWatch::Leave::kFailed : RankWatch::Leave::kDone);
  if (gpu_) failed ? gpu_->abort() : gpu_->shutdown();
}

std::vector<double> ProcessRanks::sum(std::vector<double> values) {
  const auto size = static_cast<std::int64_t>(values.size());
  std::vector<torch::Tensor> view = {torch::from_blob(values.data(), {size}, torch::kFloat64)};
  host_->allreduce(view, {})->wait();
  return values;
}

void ProcessRanks::broadcast(const std::vector<torch::Tensor>& tensors) {
  if (tensors.empty()) return;
  constexpr std::size_t kBufferBytes = std::size_t{64} << 20;
  const torch::NoGradGuard no_grad;
  c10d::broadcast_coalesced(group_, tensors, kBufferBytes, /*rank=*/0);
}

// "process 4711 on node7"
std::string this_process() {
  char host[256] = "an unknown machine";
  ::gethostname(host, sizeof(host) - 1);
  return concat("process ", ::getpid(), " on ", host);
}

// The connections of one rank after the meeting.
struct Connections {
  std::vector<RankWatch::Peer> watch;
  std::vector<Socket> data;
};

// Rank 0 puts its port into the store, with a random word that keeps strangers out. Every other
// rank connects twice and says who it is; once all have come, rank 0 says who it is itself.
class Meeting {
 public:
  Meeting(const RankInfo& info, milliseconds timeout)
      : info_(info), timeout_(timeout), deadline_(std::chrono::steady_clock::now() + timeout) {}

  Connections hold(c10d::Store& store) { return info_.rank == 0 ? receive(store) : visit(store); }
  c10::intrusive_ptr<c10d::Store> open_store() const;

 private:
  std::string place() const { return concat(info_.address, ":", info_.port); }
  std::string wait() const {
    return format_duration(std::chrono::duration<double>(timeout_).count());
  }
  Connections receive(c10d::Store& store) const;
  Connections visit(c10d::Store& store) const;
  [[noreturn]] void fail_alone(const std::string& why) const;

  const RankInfo& info_;
  milliseconds timeout_;
  Deadline deadline_;
};

constexpr const char* kMeetingKey = "meeting";
constexpr const char* kWatch = "watch";
constexpr const char* kData = "data";

// What LibTorch says in the first line; the rest is a C++ stack.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

void Meeting::fail_alone(const std::string& why) const {
  throw Error(concat("rank ", info_.rank, " of ", info_.size, " did not meet rank 0 at ", place(),
                     " within ", wait(), " (", why,
                     "): was rank 0 started, and does no firewall stand between?"));
}

c10::intrusive_ptr<c10d::Store> Meeting::open_store() const {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(info_.port);
  options.isServer = info_.rank == 0 && !info_.store_is_external;
  options.waitWorkers = false;  // the meeting waits, and can say who is missing
  try {
    // LibTorch would log a C++ stack for every try while rank 0 is not there yet.
    if (!options.isServer) {
      connect_to(info_.address, static_cast<std::uint16_t>(info_.port), deadline_);
    }
    options.timeout = milliseconds(std::max(milliseconds_until(deadline_), 1));  // 0: for ever
    return c10::make_intrusive<c10d::PrefixStore>(
        concat("segmamba/", info_.attempt),
        c10::make_intrusive<c10d::TCPStore>(info_.address, options));
  } catch (const std::exception& error) {
    if (options.isServer) {
      throw Error(concat("rank 0 cannot listen on port ", info_.port, " (",
                         first_line(error.what()), "): set MASTER_PORT to a free one"));
    }
    fail_alone(first_line(error.what()));
  }
}

Connections Meeting::receive(c10d::Store& store) const {
  Listener listener;
  std::random_device random;
  const std::string word = concat(random(), random());
  store.set(kMeetingKey, concat(listener.port(), " ", word));

  const auto others = static_cast<std::size_t>(info_.size - 1);
  Connections met{std::vector<RankWatch::Peer>(others), std::vector<Socket>(others)};
  std::size_t open = 2 * others;
  while (open > 0) {
    auto socket = listener.accept(deadline_);
    if (!socket) break;
    std::string said, purpose, who;
    std::int64_t rank = 0;
    try {
      const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(5);
      std::istringstream line(socket->receive_line(patience));
      line >> said >> purpose >> rank;
      std::getline(line >> std::ws, who);
    } catch (const LostConnection&) {
      continue;
    }
    if (said != word || rank < 1 || rank >= info_.size) continue;
    auto& place = purpose == kWatch ? met.watch[rank - 1].socket : met.data[rank - 1];
    if (place.descriptor() >= 0) {
      throw Error(concat("two processes say that they are rank ", rank, "; one is ", who));
    }
    place = std::move(*socket);
    met.watch[rank - 1].name = concat("rank ", rank, " (", who, ")");
    --open;
  }
  std::vector<std::int64_t> missing;
  for (std::size_t i = 0; i < others; ++i) {
    if (met.watch[i].socket.descriptor() < 0 || met.data[i].descriptor() < 0) {
      missing.push_back(static_cast<std::int64_t>(i) + 1);
    }
  }
  if (!missing.empty()) {
    throw Error(concat("only ", info_.size - missing.size(), " of ", info_.size, " ranks met at ",
                       place(), " within ", wait(), "; missing: rank ", join(missing, ", "),
                       ". Were they started, and do they reach that port?"));
  }
  for (auto& peer : met.watch) peer.socket.send_line(this_process());
  return met;
}

Connections Meeting::visit(c10d::Store& store) const {
  try {
    std::istringstream invitation(store.get_to_str(kMeetingKey));
    std::uint16_t port = 0;
    std::string word;
    invitation >> port >> word;
    Connections met{std::vector<RankWatch::Peer>(1), std::vector<Socket>(1)};
    const auto call = [&](const char* purpose) {
      auto socket = connect_to(info_.address, port, deadline_);
      socket.send_line(concat(word, " ", purpose, " ", info_.rank, " ", this_process()));
      return socket;
    };
    met.watch[0].socket = call(kWatch);
    met.data[0] = call(kData);
    met.watch[0].name = concat("rank 0 (", met.watch[0].socket.receive_line(deadline_), ")");
    return met;
  } catch (const std::exception& error) {
    fail_alone(first_line(error.what()));
  }
}

c10::intrusive_ptr<c10d::Backend> gpu_backend(
    [[maybe_unused]] const c10::intrusive_ptr<c10d::Store>& store,
    [[maybe_unused]] const RankInfo& info, [[maybe_unused]] const torch::Device& device) {
#ifdef SEGMAMBA_WITH_CUDA
  c10::cuda::set_device(device.index());
  auto options = c10d::ProcessGroupNCCL::Options::create();
  // The watch finds a rank that is gone, so this is the time for which one may be busy alone.
  options->timeout = std::chrono::hours(1);
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, static_cast<int>(info.rank),
                                                     static_cast<int>(info.size), options);
#else
  throw Error("this build has no CUDA: run the ranks on the CPU (--device cpu)");
#endif
}

}  // namespace

torch::Device device_of_rank(const RankInfo& info, const torch::Device& device) {
  if (!device.is_cuda() || info.size == 1) return device;
  const auto count = gpu_count();
  // SLURM may show every task only the GPU that it was given (--gpus-per-task).
  if (count == 1 && info.local_size == 1) return {torch::kCUDA, 0};
  if (info.local_rank >= count) {
    throw Error(concat("rank ", info.rank, " takes GPU ", info.local_rank,
                       " of its machine, which "
                       "has only ",
                       count, ": start at most ", count, " ranks there"));
  }
  return {torch::kCUDA, static_cast<c10::DeviceIndex>(info.local_rank)};
}

std::unique_ptr<Ranks> single_rank() { return std::make_unique<SingleRank>(); }

std::unique_ptr<Ranks> join_ranks(const RankInfo& info, const torch::Device& device,
                                  const RankTimeouts& timeouts) {
  if (info.size == 1) return single_rank();
  Meeting meeting(info, timeouts.meeting);
  const auto store = meeting.open_store();
  auto met = meeting.hold(*store);
  auto watch = std::make_unique<RankWatch>(std::move(met.watch), timeouts.silence);

  const auto rank = static_cast<int>(info.rank), size = static_cast<int>(info.size);
  const auto host = c10::make_intrusive<HostBackend>(rank, size, std::move(met.data));
  const auto group = c10::make_intrusive<c10d::ProcessGroup>(store, rank, size);
  group->setBackend(torch::kCPU, c10d::ProcessGroup::CUSTOM, host);
  group->setDefaultBackend(c10d::ProcessGroup::CUSTOM);
  c10::intrusive_ptr<c10d::Backend> gpu;
  if (device.is_cuda()) {
    gpu = gpu_backend(store, info, device);
    group->setBackend(torch::kCUDA, c10d::ProcessGroup::NCCL, gpu);
    group->setDefaultBackend(c10d::ProcessGroup::NCCL);
  }
  return std::make_unique<ProcessRanks>(group, host, gpu, std::move(watch));
}

}  // namespace segmamba::engine
