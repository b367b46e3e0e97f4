// The C interface: each call goes to the kernels of the instruction set it names.
#include "api.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels.h"

using sparserefine::Kernels;

namespace {

const Kernels *const kTables[] = {
#if defined(__x86_64__)
    &sparserefine::kernels_avx512,
    &sparserefine::kernels_avx2,
#endif
    &sparserefine::kernels_portable,
};

}  // namespace

extern "C" {

int32_t sr_isa_count(void) { return int32_t(sizeof(kTables) / sizeof(*kTables)); }

const char *sr_isa_name(int32_t isa) { return kTables[isa]->name; }

int32_t sr_isa_supported(int32_t isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == 0)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  if (isa == 1) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return 1;
}

int64_t sr_packed_floats(int32_t isa, int32_t matrices, int32_t inputs, int32_t outputs) {
  return kTables[isa]->packed_floats(matrices, inputs, outputs);
}

void sr_pack_direct(int32_t isa, const float *weight, int32_t taps, int32_t inputs, int32_t outputs,
                    int32_t transpose, int32_t flip, float *packed) {
  kTables[isa]->pack_direct(weight, taps, inputs, outputs, transpose, flip, packed);
}

void sr_pack_winograd(int32_t isa, const float *weight, int32_t size, int32_t inputs,
                      int32_t outputs, int32_t transpose, int32_t threads, float *packed) {
  const auto pack = size == 2 ? kTables[isa]->pack_winograd2 : kTables[isa]->pack_winograd4;
  pack(weight, inputs, outputs, transpose, threads, packed);
}

uint64_t sr_hash(const float *values, int64_t count) {
  // Lanes of their own keep the multiplier busy; an odd factor loses no bit of what came before.
  constexpr int lanes = 8;
  constexpr uint64_t factor = 0x9e3779b97f4a7c15;
  uint64_t state[lanes], word;
  for (int lane = 0; lane < lanes; ++lane) state[lane] = factor * (lane + 1);
  int64_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes)
    for (int lane = 0; lane < lanes; ++lane) {
      std::memcpy(&word, values + i + 2 * lane, sizeof(word));
      state[lane] = (state[lane] ^ word) * factor;
      state[lane] ^= state[lane] >> 29;
    }
  uint64_t hash = uint64_t(count);
  for (; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof(bits));
    hash = (hash ^ bits) * factor;
    hash ^= hash >> 29;
  }
  for (int lane = 0; lane < lanes; ++lane) {
    hash = (hash ^ state[lane]) * factor;
    hash ^= hash >> 29;
  }
  return hash;
}

int32_t sr_direct(int32_t isa, const sr_convolution *conv, const sr_windows *windows,
                  int32_t threads) {
  return kTables[isa]->direct(*conv, *windows, threads);
}

int32_t sr_winograd(int32_t isa, const sr_convolution *conv, const sr_blocks *blocks,
                    int32_t threads) {
  const auto run = blocks->size == 2 ? kTables[isa]->winograd2 : kTables[isa]->winograd4;
  return run(*conv, *blocks, threads);
}

int32_t sr_direct_weight_gradient(int32_t isa, const sr_convolution *conv,
                                  const sr_windows *windows, const float *grad,
                                  int64_t grad_stride, float *gradient, int32_t threads) {
  return kTables[isa]->direct_weight_gradient(*conv, *windows, grad, grad_stride, gradient, threads);
}

int32_t sr_winograd_weight_gradient(int32_t isa, const sr_convolution *conv,
                                    const sr_blocks *blocks, const float *grad,
                                    int64_t grad_stride, float *gradient, int32_t threads) {
  const auto run = blocks->size == 2 ? kTables[isa]->winograd2_weight_gradient
                                     : kTables[isa]->winograd4_weight_gradient;
  return run(*conv, *blocks, grad, grad_stride, gradient, threads);
}

int64_t sr_count_active(const uint8_t *mask, int64_t pixels) {
  int64_t count = 0;
  for (int64_t i = 0; i < pixels; ++i) count += mask[i] != 0;
  return count;
}

void sr_list_active(const uint8_t *mask, int32_t batch, int32_t height, int32_t width,
                    int32_t *coords, int32_t threads) {
  const int64_t rows = int64_t(batch) * height;
  std::vector<int64_t> first(rows + 1, 0);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < rows; ++row)
    first[row + 1] = sr_count_active(mask + row * width, width);
  for (int64_t row = 0; row < rows; ++row) first[row + 1] += first[row];
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    int32_t *out = coords + 3 * first[row];
    for (int32_t x = 0; x < width; ++x) {
      if (!mask[row * width + x]) continue;
      out[0] = int32_t(row / height);
      out[1] = int32_t(row % height);
      out[2] = x;
      out += 3;
    }
  }
}

void sr_fill_grid(const int32_t *coords, int64_t count, int32_t batch, int32_t grid_height,
                  int32_t grid_width, int32_t *grid, int32_t *base, int32_t threads) {
  const int64_t cells = int64_t(batch) * grid_height * grid_width;
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < cells / std::max(grid_width, 1); ++row)
      std::memset(grid + row * grid_width, 0xff, sizeof(int32_t) * grid_width);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < count; ++n) {
      const int32_t *at = coords + 3 * n;
      base[n] = (at[0] * grid_height + at[1]) * grid_width + at[2];
      grid[base[n] + grid_width + 1] = int32_t(n);
    }
  }
}

int64_t sr_list_blocks(const int32_t *grid, int32_t batch, int32_t grid_height, int32_t grid_width,
                       int32_t size, int32_t *origins) {
  int64_t found = 0;
  const int32_t down = (grid_height - 2) / size, across = (grid_width - 2) / size;
  std::vector<uint8_t> active(across);
  for (int32_t image = 0; image < batch; ++image) {
    for (int32_t block_row = 0; block_row < down; ++block_row) {
      const int32_t first = (image * grid_height + block_row * size) * grid_width;
      std::fill(active.begin(), active.end(), 0);
      for (int32_t i = 1; i <= size; ++i) {
        const int32_t *row = grid + first + i * grid_width + 1;
        for (int32_t x = 0; x < across * size; ++x) active[x / size] |= row[x] >= 0;
      }
      for (int32_t block = 0; block < across; ++block) {
        if (!active[block]) continue;
        if (origins) origins[found] = first + block * size;
        ++found;
      }
    }
  }
  return found;
}

}  // extern "C"
