// Threads that wait for work, and a barrier for those that work together.
#pragma once

#include <atomic>
#include <functional>

namespace lstmkit {

// Runs task(0) ... task(count - 1) at the same time, each on a thread of its own, the first on the caller's, and
// returns when all have ended. Calls from several threads take turns. Safe after fork: the child starts its own threads.
void run_together(int count, const std::function<void(int)>& task);

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
