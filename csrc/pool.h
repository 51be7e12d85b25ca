// Threads that wait for work, and a barrier for those that work together.
#pragma once

#include <atomic>
#include <functional>

namespace lstmkit {

// Runs task(0) ... task(count - 1) at the same time, each on a thread of its own, the first on the caller's, and
// returns when all have ended. Safe to call from several threads, and after fork: the child starts its own threads.
void run_together(int count, const std::function<void(int)>& task);

// Run on the threads of this OpenMP library, if the process has loaded it, rather than on our own.
bool share_openmp(const char* library);

// All of `size` threads wait here for each other. They spin: a step of a small network is shorter than a system call.
class Barrier {
public:
    explicit Barrier(int size) : size_(size) {}
    void wait();

private:
    const int size_;
    std::atomic<int> arrived_{0};
    std::atomic<unsigned> round_{0};
};

}  // namespace lstmkit
