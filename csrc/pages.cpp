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
constexpr std::size_t kept_at_most = std::size_t(256) << 20;

struct Piece {
    void* data;
    std::size_t size;
};

std::mutex mutex;
std::vector<Piece>& pieces = *new std::vector<Piece>;  // never destroyed: tensors outlive static variables
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
    madvise(data, size, MADV_HUGEPAGE);  // a wish: nothing is lost where it is not granted
#endif
    return data;
}

void return_pages(void* data, std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    std::lock_guard lock(mutex);
    if (size > kept_at_most) return std::free(data);
    // Room is made by giving up what has not been asked for the longest.
    while (kept + size > kept_at_most) {
        std::free(pieces.front().data);
        kept -= pieces.front().size;
        pieces.erase(pieces.begin());
    }
    pieces.push_back({data, size});
    kept += size;
}

}  // namespace lstmkit
