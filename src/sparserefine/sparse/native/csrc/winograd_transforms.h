// The transforms of Winograd's F(2×2, 3×3) and F(4×4, 3×3): y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A.
//
// Each function transforms one row or column; applied to both, it transforms a block.
// Source: Lavin & Gray 2016, arXiv:1509.09308.
#pragma once
#include "vectors.h"

namespace sparserefine {
namespace SR_ISA {

// Bᵀ d.
template <int size>
inline void transform_input(const Vec *d, Vec *out) {
  if constexpr (size == 2) {
    out[0] = d[0] - d[2];
    out[1] = d[1] + d[2];
    out[2] = d[2] - d[1];
    out[3] = d[1] - d[3];
  } else {
    const Vec a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1];
    const Vec c = d[4] - d[2], e = 2.0f * (d[3] - d[1]);
    out[0] = 4.0f * d[0] + (d[4] - 5.0f * d[2]);
    out[1] = a + b;
    out[2] = a - b;
    out[3] = c + e;
    out[4] = c - e;
    out[5] = 4.0f * d[1] + (d[5] - 5.0f * d[3]);
  }
}

// Aᵀ m.
template <int size>
inline void transform_output(const Vec *m, Vec *out) {
  if constexpr (size == 2) {
    out[0] = m[0] + m[1] + m[2];
    out[1] = m[1] - m[2] - m[3];
  } else {
    const Vec a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    out[0] = m[0] + a + c;
    out[1] = b + 2.0f * e;
    out[2] = a + 4.0f * c;
    out[3] = b + 8.0f * e + m[5];
  }
}

// A y: the output's gradient, brought back to the points.
template <int size>
inline void transform_gradient(const Vec *y, Vec *out) {
  if constexpr (size == 2) {
    out[0] = y[0];
    out[1] = y[0] + y[1];
    out[2] = y[0] - y[1];
    out[3] = -y[1];
  } else {
    const Vec even = y[0] + y[2], odd = y[1] + y[3];
    const Vec even4 = y[0] + 4.0f * y[2], odd8 = 2.0f * y[1] + 8.0f * y[3];
    out[0] = y[0];
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = even4 + odd8;
    out[4] = even4 - odd8;
    out[5] = y[3];
  }
}

// G, from three taps to the points of one side.
template <int size>
constexpr float kKernelTransform[size + 2][3] = {};
template <>
inline constexpr float kKernelTransform<2>[4][3] = {
    {1, 0, 0}, {0.5f, 0.5f, 0.5f}, {0.5f, -0.5f, 0.5f}, {0, 0, 1}};
template <>
inline constexpr float kKernelTransform<4>[6][3] = {
    {1.0f / 4, 0, 0},
    {-1.0f / 6, -1.0f / 6, -1.0f / 6},
    {-1.0f / 6, 1.0f / 6, -1.0f / 6},
    {1.0f / 24, 1.0f / 12, 1.0f / 6},
    {1.0f / 24, -1.0f / 12, 1.0f / 6},
    {0, 0, 1}};

// G g Gᵀ; calls write(point, value) for each point.
template <int size, typename Write>
inline void transform_kernel(const Vec *kernel, Write write) {
  constexpr int side = size + 2;
  for (int i = 0; i < side; ++i) {
    Vec half[3];
    for (int dx = 0; dx < 3; ++dx) {
      half[dx] = Vec{};
      for (int dy = 0; dy < 3; ++dy) half[dx] += kKernelTransform<size>[i][dy] * kernel[dy * 3 + dx];
    }
    for (int j = 0; j < side; ++j) {
      Vec sum = {};
      for (int dx = 0; dx < 3; ++dx) sum += kKernelTransform<size>[j][dx] * half[dx];
      write(i * side + j, sum);
    }
  }
}

// Gᵀ dU G: the gradient of the taps from that of the points.
template <int size>
inline void transform_kernel_gradient(const double *points, double *kernel) {
  constexpr int side = size + 2;
  double half[3][side];
  for (int dy = 0; dy < 3; ++dy)
    for (int j = 0; j < side; ++j) {
      half[dy][j] = 0;
      for (int i = 0; i < side; ++i)
        half[dy][j] += kKernelTransform<size>[i][dy] * points[i * side + j];
    }
  for (int dy = 0; dy < 3; ++dy)
    for (int dx = 0; dx < 3; ++dx) {
      kernel[dy * 3 + dx] = 0;
      for (int j = 0; j < side; ++j)
        kernel[dy * 3 + dx] += half[dy][j] * kKernelTransform<size>[j][dx];
    }
}

}  // namespace SR_ISA
}  // namespace sparserefine
