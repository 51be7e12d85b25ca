#include "pool.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace lstmkit {
namespace {

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Waits until done() holds: spins for a short time, then yields the core.
template <class F>
void spin_until(F&& done) {
    for (int i = 0; i < 4000; ++i) {
        if (done()) return;
        relax();
    }
    while (!done()) sched_yield();
}

struct Work {
    const std::function<void(int)>* task;
    std::atomic<int> unfinished;
};

class Worker {
public:
    explicit Worker(int number) : number_(number), thread_([this] { live(); }) { thread_.detach(); }

    void give(Work* work) {
        work_.store(work);
        if (asleep_.load()) {
            std::lock_guard lock(mutex_);
            wake_.notify_one();
        }
    }

private:
    void live() {
        for (;;) {
            wait_for_work();
            Work* work = work_.load(std::memory_order_acquire);
            work_.store(nullptr, std::memory_order_relaxed);
            (*work->task)(number_);
            work->unfinished.fetch_sub(1, std::memory_order_release);
        }
    }

    // Spin for the time that Python usually needs between two calls; then sleep.
    void wait_for_work() {
        using Clock = std::chrono::steady_clock;
        for (int i = 0; i < 2000; ++i) {
            if (work_.load(std::memory_order_relaxed)) return;
            relax();
        }
        const auto end = Clock::now() + std::chrono::microseconds(200);
        while (Clock::now() < end) {
            if (work_.load(std::memory_order_relaxed)) return;
            sched_yield();
        }
        std::unique_lock lock(mutex_);
        asleep_.store(true);
        wake_.wait(lock, [this] { return work_.load() != nullptr; });
        asleep_.store(false);
    }

    const int number_;
    std::atomic<Work*> work_{nullptr};
    std::atomic<bool> asleep_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
    std::thread thread_;
};

struct Pool {
    std::mutex one_at_a_time;
    std::vector<Worker*> workers;  // never destroyed; they wait until the process ends
};

// The OpenMP runtime of torch, if it is GNU's. Its threads spin for milliseconds after an operation of torch; other
// threads would compete with them for the cores.
struct OpenMP {
    void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
    int (*thread)() = nullptr;
    int (*threads)() = nullptr;
};
OpenMP openmp;

// Whether OpenMP started all requested threads; if not (in a parallel region, or by its settings), nothing ran.
bool run_by_openmp(int count, const std::function<void(int)>& task) {
    struct Region {
        const std::function<void(int)>* task;
        int count;
        bool ran;
    } region{&task, count, false};
    openmp.parallel(
        [](void* data) {
            auto& r = *static_cast<Region*>(data);
            if (openmp.threads() < r.count) return;
            const int id = openmp.thread();
            if (id == 0) r.ran = true;
            (*r.task)(id);
        },
        &region, static_cast<unsigned>(count), 0);
    return region.ran;
}

// Also never destroyed, and created again in a forked child, which has no threads of its parent.
Pool* pool = nullptr;

Pool& the_pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        pool = new Pool;
        pthread_atfork([] { pool->one_at_a_time.lock(); }, [] { pool->one_at_a_time.unlock(); },
                       [] {
                           pool = new Pool;
                           openmp = {};  // its threads are gone too, and it would wait for them forever
                       });
    });
    return *pool;
}

}  // namespace

bool share_openmp(const char* library) {
    void* handle = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
    if (!handle) return false;
    OpenMP runtime;
    const auto find = [&](auto& function, const char* name) {
        function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, name));
        return function != nullptr;
    };
    if (!find(runtime.parallel, "GOMP_parallel") || !find(runtime.thread, "omp_get_thread_num") ||
        !find(runtime.threads, "omp_get_num_threads"))
        return false;
    the_pool();  // registers the fork handler
    openmp = runtime;
    return true;
}

void run_together(int count, const std::function<void(int)>& task) {
    if (count == 1) return task(0);
    if (openmp.parallel && run_by_openmp(count, task)) return;
    Pool& p = the_pool();
    std::lock_guard lock(p.one_at_a_time);
    while (static_cast<int>(p.workers.size()) < count - 1)
        p.workers.push_back(new Worker(static_cast<int>(p.workers.size()) + 1));
    Work work{&task, {count - 1}};
    for (int i = 1; i < count; ++i) p.workers[i - 1]->give(&work);
    task(0);
    spin_until([&] { return work.unfinished.load(std::memory_order_acquire) == 0; });
}

void Barrier::wait() {
    const unsigned round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
        arrived_.store(0, std::memory_order_relaxed);
        round_.store(round + 1, std::memory_order_release);
        return;
    }
    spin_until([&] { return round_.load(std::memory_order_acquire) != round; });
}

}  // namespace lstmkit
