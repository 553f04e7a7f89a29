#include "host_backend.h"

#include <ATen/Dispatch.h>

#include <array>
#include <chrono>
#include <exception>
#include <utility>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::engine {
namespace {

// What a rank tells rank 0 before each collective.
struct Call {
  std::uint64_t number, kind, bytes;
  bool operator==(const Call&) const = default;
};

std::string describe(const Call& call) {
  static const std::array<const char*, 3> kNames = {"sum", "broadcast", "gathering"};
  return concat("a ", kNames.at(call.kind), " of ", call.bytes, " bytes (its call number ",
                call.number, ")");
}

const at::Tensor& checked(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_cpu() && tensor.is_contiguous(),
              "a collective of the host back end takes contiguous tensors on the CPU");
  return tensor;
}

// A plain loop: LibTorch's addition would start a second team of threads beside that of training.
void add(const at::Tensor& sum, const std::vector<char>& part) {
  AT_DISPATCH_ALL_TYPES_AND2(at::kHalf, at::kBFloat16, sum.scalar_type(), "sum_over_ranks", [&] {
    auto* to = sum.mutable_data_ptr<scalar_t>();
    const auto* from = reinterpret_cast<const scalar_t*>(part.data());
    for (std::int64_t i = 0; i < sum.numel(); ++i) to[i] += from[i];
  });
}

using Future = c10::intrusive_ptr<c10::ivalue::Future>;

class HostWork final : public c10d::Work {
 public:
  explicit HostWork(Future future) : future_(std::move(future)) {}
  bool isCompleted() override { return future_->completed(); }
  bool isSuccess() const override { return future_->hasValue(); }
  std::exception_ptr exception() const override { return future_->exception_ptr(); }
  // The watch over the ranks ends a wait that cannot end.
  bool wait(std::chrono::milliseconds) override {
    future_->waitAndThrow();
    return true;
  }
  Future getFuture() override { return future_; }

 private:
  Future future_;
};

}  // namespace

HostBackend::HostBackend(int rank, int size, std::vector<Socket> sockets)
    : Backend(rank, size), sockets_(std::move(sockets)), thread_([this] { work(); }) {}

HostBackend::~HostBackend() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  for (auto& socket : sockets_) socket.shut_down();
  thread_.join();
}

c10::intrusive_ptr<c10d::Work> HostBackend::allreduce(std::vector<at::Tensor>& tensors,
                                                      const c10d::AllreduceOptions& options) {
  TORCH_CHECK(options.reduceOp == c10d::ReduceOp::SUM, "the host back end only sums");
  for (const auto& tensor : tensors) checked(tensor);
  return submit(tensors, [this, tensors] {
    for (const auto& tensor : tensors) sum(tensor);
  });
}

c10::intrusive_ptr<c10d::Work> HostBackend::broadcast(std::vector<at::Tensor>& tensors,
                                                      const c10d::BroadcastOptions& options) {
  for (const auto& tensor : tensors) checked(tensor);
  return submit(tensors, [this, tensors, root = options.rootRank] {
    for (const auto& tensor : tensors) broadcast_from(root, tensor);
  });
}

c10::intrusive_ptr<c10d::Work> HostBackend::allgather(std::vector<std::vector<at::Tensor>>& outputs,
                                                      std::vector<at::Tensor>& inputs,
                                                      const c10d::AllgatherOptions&) {
  TORCH_CHECK(inputs.size() == 1 && outputs.size() == 1, "one tensor a rank is gathered at a time");
  checked(inputs[0]);
  for (const auto& output : outputs[0]) checked(output);
  return submit(outputs[0], [this, input = inputs[0], outputs = outputs[0]] {
    const auto parts =
        gather_now({static_cast<const char*>(input.const_data_ptr()), input.nbytes()});
    for (std::size_t r = 0; r < parts.size(); ++r) {
      if (parts[r].size() != outputs.at(r).nbytes()) {
        throw Error(concat("rank ", r, " gathers ", parts[r].size(), " bytes where rank ", rank_,
                           " expects ", outputs[r].nbytes()));
      }
      parts[r].copy(static_cast<char*>(outputs[r].mutable_data_ptr()), parts[r].size());
    }
  });
}

std::vector<std::string> HostBackend::gather(const std::string& bytes) {
  std::vector<std::string> parts;
  submit({}, [&] { parts = gather_now(bytes); })->wait();
  return parts;
}

c10::intrusive_ptr<c10d::Work> HostBackend::submit(std::vector<at::Tensor> results,
                                                   std::function<void()> run) {
  const auto done =
      c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()));
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back({std::move(run), done, std::move(results)});
  }
  changed_.notify_one();
  return c10::make_intrusive<HostWork>(done);
}

void HostBackend::work() {
  while (true) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    try {
      task.run();
      task.done->markCompleted(task.results);
    } catch (const LostConnection& lost) {
      // If the other rank died, the watch sees it as well and ends this process with a better word.
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::seconds(1), [this] { return stopping_; });
      lock.unlock();
      task.done->setError(std::make_exception_ptr(
          Error(concat("rank ", rank_,
                       " still waits for values of the other ranks, but one has "
                       "ended its part of the run (",
                       lost.what(), ")"))));
    } catch (...) {
      task.done->setError(std::current_exception());
    }
  }
}

// Every collective begins with the call itself, so that ranks out of step fail at once.
void HostBackend::open(Kind kind, std::uint64_t bytes) {
  const Call mine{calls_++, static_cast<std::uint64_t>(kind), bytes};
  if (rank_ != 0) {
    hub().send(&mine, sizeof(mine));
    return;
  }
  for (std::size_t i = 0; i < sockets_.size(); ++i) {
    Call theirs{};
    sockets_[i].receive(&theirs, sizeof(theirs));
    if (theirs != mine) {
      throw Error(concat("the ranks are out of step: rank ", i + 1, " wants ", describe(theirs),
                         " where rank 0 wants ", describe(mine)));
    }
  }
}

void HostBackend::sum(const at::Tensor& tensor) {
  auto* data = tensor.mutable_data_ptr();
  open(Kind::kSum, tensor.nbytes());
  if (rank_ != 0) {
    hub().send(data, tensor.nbytes());
    hub().receive(data, tensor.nbytes());
    return;
  }
  std::vector<char> part(tensor.nbytes());
  for (auto& socket : sockets_) {
    socket.receive(part.data(), part.size());
    add(tensor, part);
  }
  for (auto& socket : sockets_) socket.send(data, tensor.nbytes());
}

void HostBackend::broadcast_from(std::int64_t root, const at::Tensor& tensor) {
  auto* data = tensor.mutable_data_ptr();
  open(Kind::kBroadcast, tensor.nbytes());
  if (rank_ != 0) {
    if (rank_ == root) hub().send(data, tensor.nbytes());
    hub().receive(data, tensor.nbytes());
    return;
  }
  if (root != 0) sockets_.at(root - 1).receive(data, tensor.nbytes());
  for (auto& socket : sockets_) socket.send(data, tensor.nbytes());
}

std::vector<std::string> HostBackend::gather_now(const std::string& bytes) {
  open(Kind::kGather, 0);
  std::vector<std::string> parts(size_);
  const auto send = [](Socket& socket, const std::string& part) {
    const std::uint64_t length = part.size();
    socket.send(&length, sizeof(length));
    socket.send(part.data(), part.size());
  };
  const auto receive = [](Socket& socket, std::string& part) {
    std::uint64_t length = 0;
    socket.receive(&length, sizeof(length));
    part.resize(length);
    socket.receive(part.data(), part.size());
  };
  if (rank_ != 0) {
    send(hub(), bytes);
    for (auto& part : parts) receive(hub(), part);
    return parts;
  }
  parts[0] = bytes;
  for (int r = 1; r < size_; ++r) receive(sockets_[r - 1], parts[r]);
  for (auto& socket : sockets_) {
    for (const auto& part : parts) send(socket, part);
  }
  return parts;
}

}  // namespace segmamba::engine
