#include "segmamba/engine/distributed.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "segmamba/core/text.h"
#include "support/error_of.h"
#include "support/temporary_folder.h"

namespace segmamba::engine {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using Variables = std::map<std::string, std::string>;

// --- who this process is -------------------------------------------------------------------------

// Has exactly `variables` of those that rank_from_environment reads.
class Environment {
 public:
  explicit Environment(const Variables& variables) {
    for (const char* name : kRead) {
      if (const char* value = std::getenv(name)) before_[name] = value;
      ::unsetenv(name);
    }
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const char* name : kRead) ::unsetenv(name);
    for (const auto& [name, value] : before_) ::setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  static constexpr std::array kRead = {"RANK",
                                       "LOCAL_RANK",
                                       "WORLD_SIZE",
                                       "LOCAL_WORLD_SIZE",
                                       "MASTER_ADDR",
                                       "MASTER_PORT",
                                       "TORCHELASTIC_USE_AGENT_STORE",
                                       "TORCHELASTIC_RESTART_COUNT",
                                       "SLURM_PROCID",
                                       "SLURM_NTASKS",
                                       "SLURM_LOCALID",
                                       "SLURM_STEP_NUM_TASKS",
                                       "SLURM_STEP_NODELIST",
                                       "SLURM_JOB_ID"};
  Variables before_;
};

RankInfo rank_with(const Variables& variables) {
  const Environment environment(variables);
  return rank_from_environment();
}

std::string error_with(const Variables& variables) {
  return error_of([&] { rank_with(variables); });
}

const Variables kTorchrun = {{"RANK", "5"},
                             {"LOCAL_RANK", "1"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "node1"},
                             {"MASTER_PORT", "29500"},
                             {"SLURM_PROCID", "0"},
                             {"SLURM_STEP_NUM_TASKS", "2"}};

Variables but(Variables variables, const std::string& name, const std::string& value) {
  variables[name] = value;
  return variables;
}

TEST(RankFromEnvironment, ReadsTorchrun) {
  auto info = rank_with(kTorchrun);
  EXPECT_EQ(info.rank, 5);
  EXPECT_EQ(info.local_rank, 1);
  EXPECT_EQ(info.size, 8);
  EXPECT_EQ(info.local_size, 4);
  EXPECT_EQ(info.address, "node1");
  EXPECT_EQ(info.port, 29500);
  EXPECT_FALSE(info.store_is_external);
  auto variables = but(kTorchrun, "TORCHELASTIC_USE_AGENT_STORE", "True");
  info = rank_with(but(variables, "TORCHELASTIC_RESTART_COUNT", "2"));
  EXPECT_TRUE(info.store_is_external);
  EXPECT_EQ(info.attempt, 2);
}

TEST(RankFromEnvironment, ReadsSrun) {
  const Variables srun = {{"SLURM_PROCID", "3"},  {"SLURM_STEP_NUM_TASKS", "4"},
                          {"SLURM_LOCALID", "1"}, {"SLURM_STEP_NODELIST", "gpu[07-08]"},
                          {"SLURM_NTASKS", "9"},  {"SLURM_JOB_ID", "1234567"}};
  const auto info = rank_with(srun);
  EXPECT_EQ(info.rank, 3);
  EXPECT_EQ(info.local_rank, 1);
  EXPECT_EQ(info.size, 4);
  EXPECT_EQ(info.address, "gpu07");
  EXPECT_EQ(info.port, 24567);
  EXPECT_EQ(rank_with(but(srun, "MASTER_PORT", "1234")).port, 1234);
  EXPECT_EQ(rank_with(but(srun, "MASTER_ADDR", "10.0.0.1")).address, "10.0.0.1");
  const std::map<std::string, std::string> first_hosts = {
      {"login,gpu[1-2]", "login"},
      {"gpu[3,5-7],login", "gpu3"},
      {"rack1-[010-012]-ib,x", "rack1-010-ib"},
      {"r[1-2]n[05,07]", "r1n05"},
  };
  for (const auto& [list, host] : first_hosts) {
    EXPECT_EQ(rank_with(but(srun, "SLURM_STEP_NODELIST", list)).address, host);
  }
}

TEST(RankFromEnvironment, IsOneRankElsewhere) {
  const Variables script = {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}, {"SLURM_JOB_ID", "1"}};
  const Variables step = {{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}};
  const Variables torchrun = {{"RANK", "0"}, {"WORLD_SIZE", "1"}};
  for (const auto& variables : {Variables{}, script, step, torchrun}) {
    EXPECT_EQ(rank_with(variables).size, 1);
    EXPECT_EQ(rank_with(variables).rank, 0);
  }
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(rank_with(but(script, "SLURM_NTASKS", "4")).size, 1);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("this SLURM job has 4 tasks, but srun did not start this program"));
}

TEST(RankFromEnvironment, NamesWhatIsWrong) {
  EXPECT_THAT(error_with(but(kTorchrun, "RANK", "8")), HasSubstr("RANK is '8'"));
  EXPECT_THAT(error_with(but(kTorchrun, "RANK", "one")), HasSubstr("RANK is 'one'"));
  EXPECT_THAT(error_with(but(kTorchrun, "WORLD_SIZE", "0")), HasSubstr("WORLD_SIZE is '0'"));
  EXPECT_THAT(error_with(but(kTorchrun, "MASTER_PORT", "70000")),
              HasSubstr("MASTER_PORT is '70000', not a whole number from 1 to 65535"));
  for (const char* name :
       {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    EXPECT_THAT(error_with(but(kTorchrun, name, "")),
                HasSubstr(concat("variable ", name, " is missing beside those of torchrun")));
  }
  EXPECT_THAT(error_with({{"SLURM_STEP_NUM_TASKS", "2"}}), HasSubstr("SLURM_PROCID is missing"));
}

TEST(DeviceOfRank, IsTheGpuWithItsNumber) {
  RankInfo info;
  EXPECT_EQ(device_of_rank(info, {torch::kCUDA, 1}), torch::Device(torch::kCUDA, 1));
  info.size = info.local_size = 200;
  info.rank = 107;
  info.local_rank = 99;
  EXPECT_EQ(device_of_rank(info, torch::kCPU), torch::Device(torch::kCPU));
  EXPECT_THAT(error_of([&] {
                device_of_rank(info, {torch::kCUDA, 0});
              }),
              HasSubstr("rank 107 takes GPU 99 of its machine, which has only"));
}

TEST(SingleRank, ChangesNothing) {
  const auto ranks = join_ranks({}, torch::kCPU);
  const auto tensor = torch::ones({2});
  EXPECT_TRUE(ranks->is_first());
  EXPECT_EQ(ranks->sum(std::vector<double>{2}), std::vector<double>{2});
  EXPECT_EQ(ranks->gather("a"), std::vector<std::string>{"a"});
  EXPECT_TRUE(ranks->sum(tensor).is_same(tensor));
  const torch::nn::Linear model(2, 2);
  GradientAverager averager(*ranks, *model);
  averager.before_forward();
  averager.before_backward();
  averager.after_backward();
}

// --- real processes ------------------------------------------------------------------------------

std::string text_of(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class Process {
 public:
  // Runs rank_scenarios with what it prints in `output`.
  Process(const std::vector<std::string>& arguments, const Variables& variables, fs::path output)
      : output_(std::move(output)) {
    std::vector<std::string> words = {SEGMAMBA_RANK_SCENARIOS};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<std::string> settings;
    for (const auto& [name, value] : variables) settings.push_back(concat(name, "=", value));
    for (char** next = environ; *next != nullptr; ++next) settings.emplace_back(*next);
    const auto pointers = [](std::vector<std::string>& strings) {
      std::vector<char*> result;
      for (auto& string : strings) result.push_back(string.data());
      result.push_back(nullptr);
      return result;
    };
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output_.c_str(),
                                       O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    // A process group of its own, as a shell gives to what it starts on a terminal.
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    const int status = ::posix_spawn(&id_, words[0].c_str(), &actions, &attributes,
                                     pointers(words).data(), pointers(settings).data());
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (status != 0) throw std::runtime_error("cannot run " + words[0]);
  }
  ~Process() {
    if (!ended_) {
      ::kill(id_, SIGKILL);
      ::waitpid(id_, nullptr, 0);
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t id() const { return id_; }
  std::string output() const { return text_of(output_); }
  // 128 + signal where one killed it; -1 where it runs for more than a minute.
  int wait() {
    for (int i = 0; i < 6000; ++i) {
      int status = 0;
      if (::waitpid(id_, &status, WNOHANG) == id_) {
        ended_ = true;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return -1;
  }

 private:
  pid_t id_ = -1;
  bool ended_ = false;
  fs::path output_;
};

int free_port() {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  socklen_t size = sizeof(address);
  ::bind(descriptor, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(descriptor);
  return ntohs(address.sin_port);
}

class RanksTest : public ::testing::Test {
 protected:
  using Processes = std::vector<std::unique_ptr<Process>>;

  Processes start(int size, const std::string& scenario, const std::vector<int>& started,
                  Variables variables = {}) {
    variables["WORLD_SIZE"] = concat(size);
    variables["MASTER_ADDR"] = "127.0.0.1";
    variables["MASTER_PORT"] = concat(free_port());
    variables["TEST_READY"] = ready_.string();
    Processes processes;
    for (const int rank : started) {
      variables["RANK"] = variables["LOCAL_RANK"] = concat(rank);
      variables["LOCAL_WORLD_SIZE"] = variables["WORLD_SIZE"];
      processes.push_back(
          std::make_unique<Process>(std::vector<std::string>{"--gtest_filter=Scenario." + scenario},
                                    variables, folder_.path() / concat("rank", rank)));
    }
    return processes;
  }

  // All ranks do the scenario, and its expectations hold on each.
  void expect_success(int size, const std::string& scenario, const Variables& variables = {}) {
    std::vector<int> all(size);
    for (int rank = 0; rank < size; ++rank) all[rank] = rank;
    for (const auto& process : start(size, scenario, all, variables)) {
      EXPECT_EQ(process->wait(), 0) << process->output();
      EXPECT_THAT(process->output(), HasSubstr("[  PASSED  ] 1 test."));
    }
  }

  // The ranks but `victim` end within seconds and say `why`.
  void expect_end_of_all(const std::string& scenario, int victim, int victims_code,
                         const std::string& why, Variables variables = {}) {
    variables["TEST_VICTIM"] = concat(victim);
    const auto processes = start(3, scenario, {0, 1, 2}, variables);
    ASSERT_NE(wait_until_ready(), "");  // the victim is about to die
    const auto begin = std::chrono::steady_clock::now();
    for (int rank = 0; rank < 3; ++rank) {
      if (rank == victim) continue;
      EXPECT_EQ(processes[rank]->wait(), kExitOtherRankEnded) << processes[rank]->output();
      const auto line = concat("error: rank ", victim, " \\(process ", processes[victim]->id(),
                               " on [^ ]+\\) ", why, ": this rank ends too\n");
      EXPECT_THAT(processes[rank]->output(), ContainsRegex(line));
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(8));
    if (victims_code < 0) ::kill(processes[victim]->id(), SIGKILL);
    EXPECT_EQ(processes[victim]->wait(), victims_code < 0 ? 128 + SIGKILL : victims_code);
  }

  std::unique_ptr<Process> launch(const std::string& scenario, Variables variables = {}) {
    variables["TEST_READY"] = ready_.string();
    variables["TEST_SILENCE"] = "3000";
    return std::make_unique<Process>(
        std::vector<std::string>{"--launch", "2", "--gtest_filter=Scenario." + scenario}, variables,
        folder_.path() / "launch");
  }
  // Until a rank says so: what it says.
  std::string wait_until_ready() {
    for (int i = 0; i < 6000 && !fs::exists(ready_); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return text_of(ready_);
  }

  test::TemporaryFolder folder_;
  fs::path ready_ = folder_.path() / "ready";
};

TEST_F(RanksTest, SumInTheOrderOfRanks) { expect_success(3, "SumsAreTakenInTheOrderOfRanks"); }
TEST_F(RanksTest, GatherBytes) { expect_success(2, "GathersBytesOfAnyLength"); }
TEST_F(RanksTest, BroadcastTensors) { expect_success(2, "BroadcastsTheFirstRanksTensors"); }
TEST_F(RanksTest, SumDifferentiably) { expect_success(2, "TheSumIsDifferentiable"); }
TEST_F(RanksTest, HaveTheGradientsOfTheWholeBatch) { expect_success(2, "GradientsOfCrossEntropy"); }
TEST_F(RanksTest, AccumulateMicroBatches) {
  expect_success(2, "GradientsAccumulateOverMicroBatches");
}
TEST_F(RanksTest, HaveTheGradientsOfDiceOverTheWholeBatch) {
  expect_success(2, "GradientsOfDiceOverTheWholeBatch");
}
TEST_F(RanksTest, NameAParameterThatTheLossDoesNotReach) {
  expect_success(2, "AnUnreachedParameterIsNamed");
}
TEST_F(RanksTest, RefuseOtherModels) { expect_success(2, "OtherModelsAreRefused"); }
TEST_F(RanksTest, FailOutOfStep) { expect_success(2, "OtherCallsFail"); }
TEST_F(RanksTest, MayLeaveOneByOne) {
  expect_success(2, "OneRankLeavesEarlier", {{"TEST_LEAVER", "1"}, {"TEST_SILENCE", "3000"}});
}
TEST_F(RanksTest, MayLeaveTheFirstBeforeTheOthers) {
  expect_success(2, "OneRankLeavesEarlier", {{"TEST_LEAVER", "0"}, {"TEST_SILENCE", "3000"}});
}

const std::string kWithoutAWord = "ended without a word \\(killed, crashed or exited\\)";

TEST_F(RanksTest, EndWithARankKilledInASum) {
  expect_end_of_all("KilledWhileSumsTravel", 1, 128 + SIGKILL, kWithoutAWord);
}
TEST_F(RanksTest, EndWithTheFirstRankKilledInASum) {
  expect_end_of_all("KilledWhileSumsTravel", 0, 128 + SIGKILL, kWithoutAWord);
}
TEST_F(RanksTest, EndWithARankKilledWhileTheyCompute) {
  expect_end_of_all("KilledWhileOthersCompute", 2, 128 + SIGKILL, kWithoutAWord);
}
TEST_F(RanksTest, EndWithASilentRank) {
  const std::string silent =
      "has been silent for 0:02 \\(its machine or network is down, or it was stopped\\)";
  expect_end_of_all("StoppedWhileOthersWait", 1, -1, silent, {{"TEST_SILENCE", "2000"}});
}
TEST_F(RanksTest, EndWithTheFirstRankSilent) {
  const std::string silent =
      "has been silent for 0:02 \\(its machine or network is down, or it was stopped\\)";
  expect_end_of_all("StoppedWhileOthersWait", 0, -1, silent, {{"TEST_SILENCE", "2000"}});
}
TEST_F(RanksTest, EndWithAFailedRank) {
  expect_end_of_all("FailsWhileOthersWait", 1, 1, "ended with an error, see its own message");
}
TEST_F(RanksTest, EndWithARankThatFailsRightBehindTheMeeting) {
  expect_end_of_all("HasNoSuchGpu", 1, 1, "ended with an error, see its own message");
}

TEST_F(RanksTest, SayWhoIsMissing) {
  const auto processes = start(3, "GathersBytesOfAnyLength", {0, 2}, {{"TEST_MEETING", "10000"}});
  EXPECT_EQ(processes[0]->wait(), 1);
  EXPECT_THAT(processes[0]->output(), ContainsRegex("only 2 of 3 ranks met at 127.0.0.1:[0-9]+ "
                                                    "within 0:10; missing: rank 1. Were they"));
}
TEST_F(RanksTest, SayThatTheFirstRankIsMissing) {
  const auto processes = start(2, "GathersBytesOfAnyLength", {1}, {{"TEST_MEETING", "1500"}});
  EXPECT_EQ(processes[0]->wait(), 1);
  EXPECT_THAT(processes[0]->output(),
              ContainsRegex("rank 1 of 2 did not meet rank 0 at 127.0.0.1:[0-9]+ within 0:02"));
}

TEST_F(RanksTest, AreLaunchedTogether) {
  const auto process = launch("SaysHello");
  EXPECT_EQ(process->wait(), 0) << process->output();
  EXPECT_THAT(process->output(), ContainsRegex("(^|\n)hello from 0\n"));
  EXPECT_THAT(process->output(), ContainsRegex("(^|\n)\\[rank 1\\] hello from 1\n"));
}
TEST_F(RanksTest, LaunchedReturnTheCodeOfTheOneThatFailed) {
  const auto process = launch("ExitsWithSeven");
  EXPECT_EQ(process->wait(), 7) << process->output();
}
TEST_F(RanksTest, LaunchedReturnTheCodeOfAFailureBehindAStop) {
  const auto process = launch("FailsWhenStopped");
  ASSERT_EQ(wait_until_ready(), "ready");
  ::kill(process->id(), SIGINT);
  EXPECT_EQ(process->wait(), 7) << process->output();
}
TEST_F(RanksTest, AreLaunchedByAProcessThatIgnoresItsChildren) {
  const auto process = launch("ExitsWithSeven", {{"TEST_IGNORES_CHILDREN", "1"}});
  EXPECT_EQ(process->wait(), 7) << process->output();
}
TEST_F(RanksTest, LaunchedGetASignalOnceAndEndInTheirOwnTime) {
  const auto process = launch("CountsSignals");
  ASSERT_EQ(wait_until_ready(), "ready");
  ::kill(-process->id(), SIGINT);  // Ctrl-C reaches the whole group
  EXPECT_EQ(process->wait(), 128 + SIGINT) << process->output();
  EXPECT_EQ(text_of(ready_), "saved");
  EXPECT_THAT(process->output(), Not(HasSubstr("ended without a word")));
}
// A zombie that its new parent has not collected yet does not run.
bool runs(pid_t id) {
  const auto status = text_of(concat("/proc/", id, "/stat"));
  return !status.empty() && status.find(") Z ") == std::string::npos;
}

TEST_F(RanksTest, LaunchedStopAndEndWithTheirLauncher) {
  const auto process = launch("WaitsForEver");
  std::vector<pid_t> ids(2);
  std::istringstream(wait_until_ready()) >> ids[0] >> ids[1];
  // Ctrl-Z for longer than the silence that counts as death, then `fg`.
  ::kill(-process->id(), SIGTSTP);
  std::this_thread::sleep_for(std::chrono::milliseconds(3500));
  for (const pid_t id : ids) {
    EXPECT_THAT(text_of(concat("/proc/", id, "/stat")), HasSubstr(") T "));
  }
  ::kill(-process->id(), SIGCONT);
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  for (const pid_t id : ids) EXPECT_TRUE(runs(id)) << process->output();

  ::kill(process->id(), SIGKILL);
  EXPECT_EQ(process->wait(), 128 + SIGKILL);
  for (const pid_t id : ids) {
    for (int i = 0; i < 500 && runs(id); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_FALSE(runs(id)) << id;
  }
}

}  // namespace
}  // namespace segmamba::engine
