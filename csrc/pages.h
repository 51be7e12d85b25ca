// Large pieces of memory that are used again: new ones come from the system page by page, each emptied first, which for
// what training keeps of a long sequence takes as long as computing it.
#pragma once

#include <cstddef>

namespace lstmkit {

// Memory of at least `bytes`, holding anything; to be given back with the same number. Any thread may do either.
void* borrow_pages(std::size_t bytes);
void return_pages(void* data, std::size_t bytes);

}  // namespace lstmkit
