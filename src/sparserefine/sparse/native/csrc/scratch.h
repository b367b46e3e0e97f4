// Working memory of a thread, kept between calls: the kernels are called for every layer of every
// image, and fresh pages cost more than what they hold.
#pragma once
#include <cstddef>
#include <cstdlib>

namespace sparserefine {

class Scratch {
 public:
  ~Scratch() { std::free(data_); }

  // `count` floats, aligned to a cache line; null where memory ran out.
  float *floats(size_t count) {
    const size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
    if (bytes > size_) {
      std::free(data_);
      data_ = std::aligned_alloc(64, bytes);
      size_ = data_ ? bytes : 0;
    }
    return static_cast<float *>(data_);
  }

 private:
  void *data_ = nullptr;
  size_t size_ = 0;
};

inline Scratch &thread_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

}  // namespace sparserefine
