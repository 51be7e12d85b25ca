// A pool of large memory blocks. The system maps and clears a new block page by page; for the saved tensors of a long
// sequence, that takes as long as computing them.
#pragma once

#include <cstddef>

namespace lstmkit {

// Uninitialized memory of at least `bytes`; return it with the same number. Both are thread-safe.
void* borrow_pages(std::size_t bytes);
void return_pages(void* data, std::size_t bytes);

}  // namespace lstmkit
