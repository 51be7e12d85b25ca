// A thread pool, and a barrier for threads that work together.
#pragma once

#include <atomic>
#include <functional>

namespace lstmkit {

// Runs task(0) ... task(count - 1) concurrently, each on its own thread, task(0) on the calling thread, and returns
// when all have finished. Can be called from several threads, and after fork: the child starts its own threads.
void run_together(int count, const std::function<void(int)>& task);

// Uses the threads of this OpenMP library instead of the pool's own, if the process has loaded it.
bool share_openmp(const char* library);

// A barrier for `size` threads. They spin: a step of a small network is shorter than a system call.
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
