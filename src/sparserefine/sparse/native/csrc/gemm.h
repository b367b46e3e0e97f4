// Products of small matrices: the arithmetic under every kernel.
#pragma once
#include "vectors.h"

namespace sparserefine {
namespace SR_ISA {

// How the left matrix of a product lies in memory.
enum class Layout { rows, columns };

// c[M, NV·kWidth] (+)= sum over segments and k of a · b.
//
// Segment s of the left matrix starts at a + s·inner (Layout::rows) and meets the rows of b from
// b + segment[s]·inner·ldb on. The sums stay in registers for the whole length. Meanwhile, memory
// from `fetch` on is brought into the cache, a line for every kFetchEvery columns; null for none.
constexpr int kFetchEvery = 4, kLine = 16;  // 16 floats are a line of the cache
template <int M, int NV, Layout layout>
inline void tile(int segments, const int32_t *segment, int inner, const float *__restrict a,
                 int64_t lda, const float *__restrict b, int64_t ldb, float *__restrict c,
                 int64_t ldc, bool accumulate, const float *fetch = nullptr) {
  Vec sum[M][NV];
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < NV; ++j)
      sum[i][j] = accumulate ? load(c + i * ldc + j * kWidth) : Vec{};
  for (int s = 0; s < segments; ++s) {
    const float *right = b + int64_t(segment ? segment[s] : s) * inner * ldb;
    for (int k = 0; k < inner; ++k) {
      if (fetch && k % kFetchEvery == 0) __builtin_prefetch(fetch + k / kFetchEvery * kLine, 0, 2);
      Vec columns[NV];
      for (int j = 0; j < NV; ++j) columns[j] = load(right + j * kWidth);
      right += ldb;
      for (int i = 0; i < M; ++i) {
        const float left = layout == Layout::rows ? a[i * lda + k] : a[k * lda + i];
        for (int j = 0; j < NV; ++j) sum[i][j] += left * columns[j];
      }
    }
    a += layout == Layout::rows ? inner : inner * lda;
  }
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < NV; ++j) store(c + i * ldc + j * kWidth, sum[i][j]);
}

// The same for a number of rows known only at run time, at most kTileRows.
template <int NV, Layout layout, int M = kTileRows>
inline void tile_of(int rows, int segments, const int32_t *segment, int inner, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc,
                    bool accumulate, const float *fetch = nullptr) {
  if (rows == M) {
    tile<M, NV, layout>(segments, segment, inner, a, lda, b, ldb, c, ldc, accumulate, fetch);
  } else if constexpr (M > 1) {
    tile_of<NV, layout, M - 1>(rows, segments, segment, inner, a, lda, b, ldb, c, ldc, accumulate,
                               fetch);
  }
}

// c[rows, outputs] = a[rows, inner] · b, with b packed in panels (see pack.h).
//
// While a panel is multiplied, the next one is fetched; the panels of all points lie one after the
// other. Weights of many channels do not fit any cache, and waiting for them took a third of the
// time at 512 channels.
inline void multiply(int rows, int inner, int outputs, const float *a, int64_t lda,
                     const float *packed, float *c, int64_t ldc) {
  for (int column = 0; column < outputs; column += kPanel) {
    const float *panel = packed + int64_t(column) * inner;
    const bool full = outputs - column > kWidth;
    const float *end = panel + int64_t(inner) * 2 * kPanel;  // of the next panel
    const float *next = int64_t(inner) * outputs >= 1 << 15 ? panel + int64_t(inner) * kPanel : end;
    for (int row = 0; row < rows; row += kTileRows) {
      const int count = rows - row < kTileRows ? rows - row : kTileRows;
      const float *left = a + row * lda;
      float *result = c + row * ldc + column;
      const float *fetch = next < end ? next : nullptr;
      if (full) {
        tile_of<2, Layout::rows>(count, 1, nullptr, inner, left, lda, panel, kPanel, result, ldc,
                                 false, fetch);
      } else {
        tile_of<1, Layout::rows>(count, 1, nullptr, inner, left, lda, panel, kWidth, result, ldc,
                                 false, fetch);
      }
      next += inner / kFetchEvery * kLine;
    }
  }
}

// c[left, right] += aᵀ · b: outer products of `rows` rows, summed. Columns of c and of b are
// padded to kWidth, those of a to any number.
inline void multiply_transposed(int rows, int left, int right, const float *a, int64_t lda,
                                const float *b, int64_t ldb, float *c, int64_t ldc) {
  for (int row = 0; row < left; row += kTileRows) {
    const int count = left - row < kTileRows ? left - row : kTileRows;
    for (int column = 0; column < right; column += kPanel) {
      float *result = c + row * ldc + column;
      if (right - column > kWidth) {
        tile_of<2, Layout::columns>(count, 1, nullptr, rows, a + row, lda, b + column, ldb, result,
                                    ldc, true);
      } else {
        tile_of<1, Layout::columns>(count, 1, nullptr, rows, a + row, lda, b + column, ldb, result,
                                    ldc, true);
      }
    }
  }
}

// Floats of `matrices` matrices [inputs, outputs], packed.
inline int64_t packed_floats(int matrices, int inputs, int outputs) {
  return int64_t(matrices) * inputs * round_up(outputs, kWidth);
}

// Where element (k, column) of a packed matrix lies: panels of kPanel columns, the last of kWidth
// where that is enough, each with its rows one after the other. `stride` is the number of rows
// that panels hold: all taps of a direct convolution lie in one panel.
inline int64_t packed_index(int64_t stride, int64_t k, int column, int outputs) {
  const int first = column / kPanel * kPanel;
  const int width = outputs - first > kWidth ? kPanel : kWidth;
  return int64_t(first) * stride + k * width + (column - first);
}

}  // namespace SR_ISA
}  // namespace sparserefine
