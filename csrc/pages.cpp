#include "pages.h"

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lstmkit {
namespace {

constexpr std::size_t large_page = std::size_t(2) << 20;
constexpr std::size_t max_kept = std::size_t(256) << 20;

struct Piece {
    void* data;
    std::size_t size;
};

std::mutex mutex;
std::vector<Piece>& pieces = *new std::vector<Piece>;  // never destroyed, because tensors outlive static variables
std::size_t kept = 0;

std::size_t rounded(std::size_t bytes) { return (bytes + large_page - 1) / large_page * large_page; }

}  // namespace

void* borrow_pages(std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    {
        std::lock_guard lock(mutex);
        for (auto piece = pieces.begin(); piece != pieces.end(); ++piece) {
            if (piece->size != size) continue;
            void* data = piece->data;
            pieces.erase(piece);
            kept -= size;
            return data;
        }
    }
    void* data = std::aligned_alloc(large_page, size);
    if (!data) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(data, size, MADV_HUGEPAGE);  // a hint, which the system may ignore
#endif
    return data;
}

void return_pages(void* data, std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    std::lock_guard lock(mutex);
    if (size > max_kept) return std::free(data);
    // Free the least recently used blocks until there is space.
    while (kept + size > max_kept) {
        std::free(pieces.front().data);
        kept -= pieces.front().size;
        pieces.erase(pieces.begin());
    }
    pieces.push_back({data, size});
    kept += size;
}

}  // namespace lstmkit
