// Weights in the order in which the kernels read them.
#pragma once
#include "gemm.h"
#include "winograd_transforms.h"

namespace sparserefine {
namespace SR_ISA {

// [taps, inputs, outputs] into panels that hold all taps, one after the other. `transpose` swaps
// inputs and outputs of the result, `flip` reverses its taps.
inline void pack_direct(const float *weight, int taps, int inputs, int outputs, bool transpose,
                        bool flip, float *packed) {
  const int rows = transpose ? outputs : inputs, columns = transpose ? inputs : outputs;
  std::memset(packed, 0, sizeof(float) * packed_floats(taps, rows, columns));
  for (int tap = 0; tap < taps; ++tap) {
    const float *source = weight + int64_t(flip ? taps - 1 - tap : tap) * inputs * outputs;
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < columns; ++column) {
        const int64_t at = packed_index(int64_t(taps) * rows, int64_t(tap) * rows + row, column,
                                        columns);
        packed[at] = transpose ? source[int64_t(column) * outputs + row]
                               : source[int64_t(row) * outputs + column];
      }
    }
  }
}

// [9, inputs, outputs] into one packed matrix for each point of the transformed domain. The
// transposed pack is that of the input gradient: it reverses the taps too.
template <int size>
void pack_winograd(const float *weight, int inputs, int outputs, bool transpose, int threads,
                   float *packed) {
  constexpr int side = size + 2;
  const int rows = transpose ? outputs : inputs, columns = transpose ? inputs : outputs;
  const int64_t matrix = packed_floats(1, rows, columns), taps = int64_t(inputs) * outputs;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; column += kWidth) {
      Vec kernel[9];
      for (int tap = 0; tap < 9; ++tap) {
        const float *from = weight + (transpose ? 8 - tap : tap) * taps;
        if (transpose) {
          for (int lane = 0; lane < kWidth; ++lane)
            kernel[tap][lane] = column + lane < columns
                                    ? from[int64_t(column + lane) * outputs + row] : 0.0f;
        } else {
          kernel[tap] = load_first(from + int64_t(row) * outputs + column, columns - column);
        }
      }
      float *out = packed + packed_index(rows, row, column, columns);
      transform_kernel<size>(kernel, [&](int point, Vec value) { store(out + point * matrix, value); });
    }
  }
}

}  // namespace SR_ISA
}  // namespace sparserefine
