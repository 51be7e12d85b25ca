// Scratch memory that a thread keeps between calls: new pages from the system cost more than a small layer.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include "pages.h"

namespace lstmkit::LSTMKIT_ISA {

class Arena {
public:
    // The arena of the calling thread, emptied: memory taken from it before is invalid.
    static Arena& fresh() {
        thread_local Arena arena;
        arena.reset();
        return arena;
    }

    ~Arena() { release(); }

    // Uninitialized memory for `count` elements, aligned to a cache line.
    template <class T>
    T* take(int64_t count) {
        const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(T) + line - 1) / line * line;
        if (blocks_.empty() || used_ + bytes > blocks_.back().size) add(bytes);
        void* at = static_cast<char*>(blocks_.back().data) + used_;
        used_ += bytes;
        return static_cast<T*>(at);
    }

    template <class T>
    T* take_zeros(int64_t count) {
        T* at = take<T>(count);
        for (int64_t i = 0; i < count; ++i) at[i] = T(0);
        return at;
    }

private:
    static constexpr std::size_t line = 64, smallest = 1 << 18, large = 2 << 20, kept = 64 << 20;
    struct Block {
        void* data;
        std::size_t size;
    };

    void add(std::size_t bytes) {
#ifdef LSTMKIT_SANITIZE
        const std::size_t size =
            bytes ? bytes : line;  // one block per request, so that the sanitizer sees out-of-bounds accesses
#else
        const std::size_t size = bytes > smallest ? bytes : smallest;
#endif
        void* data = size < large ? std::aligned_alloc(line, size) : borrow_pages(size);
        if (!data) throw std::bad_alloc();
        blocks_.push_back({data, size});
        used_ = 0;
    }

    // Replaces all blocks by one of their total size, for the next call; very large ones are not kept.
    void reset() {
        std::size_t total = 0;
        for (const Block& block : blocks_) total += block.size;
        if (blocks_.size() > 1 || total > kept) {
            release();
#ifndef LSTMKIT_SANITIZE
            if (total <= kept) add(total);
#endif
        }
        used_ = 0;
    }

    void release() {
        for (const Block& block : blocks_) {
            if (block.size < large) {
                std::free(block.data);
            } else {
                return_pages(block.data, block.size);
            }
        }
        blocks_.clear();
    }

    std::vector<Block> blocks_;
    std::size_t used_ = 0;
};

}  // namespace lstmkit::LSTMKIT_ISA
