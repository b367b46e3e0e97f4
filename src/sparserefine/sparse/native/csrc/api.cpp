// The C interface: each call goes to the kernels of the instruction set it names.
#include "api.h"

#include <cstring>

#include "kernels.h"
#include "maps.h"

#ifndef SR_SOURCE
#error "build.py compiles this, and defines SR_SOURCE"
#endif

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

uint64_t sr_source(void) { return SR_SOURCE; }

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

int64_t sr_list_blocks(const int32_t *grid, int32_t batch, int32_t grid_height, int32_t grid_width,
                       int32_t size, int32_t *origins) {
  const auto list = size == 2 ? sparserefine::list_blocks<2> : sparserefine::list_blocks<4>;
  return list(grid, batch, grid_height, grid_width, origins);
}

int32_t sr_build_levels(sr_level *levels, int32_t number, int32_t batch, int32_t start,
                        int32_t reach) {
  if (!sparserefine::number_cells(levels[0], batch)) return -1;
  const auto coarsen = reach == 2 ? sparserefine::coarsen<2> : sparserefine::coarsen<3>;
  for (int32_t i = 1; i < number; ++i) coarsen(levels[i - 1], levels[i], batch, start);
  return 0;
}

void sr_group_by_parity(const int32_t *coords, int64_t count, int32_t grid_height,
                        int32_t grid_width, int32_t *rows, int32_t *parents, int64_t *sizes) {
  sparserefine::group_by_parity(coords, count, grid_height, grid_width, rows, parents, sizes);
}

void sr_score_cells(int32_t isa, const sr_scores *scores, float *entropy, uint8_t *labels,
                    int32_t threads) {
  kTables[isa]->score_cells(*scores, entropy, labels, threads);
}

void sr_sample_scores(int32_t isa, const sr_scores *scores, const sr_sides *sides,
                      const int32_t *coords, int64_t count, float *out, int32_t threads) {
  kTables[isa]->sample_scores(*scores, *sides, coords, count, out, threads);
}

void sr_upsample_labels(int32_t isa, const sr_scores *scores, const sr_sides *sides,
                        const uint8_t *cells, const uint8_t *settled, int32_t height,
                        int32_t width, uint8_t *labels, int32_t threads) {
  kTables[isa]->upsample_labels(*scores, *sides, cells, settled, height, width, labels, threads);
}

void sr_fuse_rows(int32_t isa, const sr_fusion *fusion, const float *dense, const float *sparse,
                  int64_t count, float *out, int32_t threads) {
  kTables[isa]->fuse_rows(*fusion, dense, sparse, count, out, threads);
}

}  // extern "C"
