// Gradients of the weights: the input's windows times the output's gradients, summed over pixels.
#pragma once
#include <algorithm>
#include <atomic>
#include <vector>

#include "direct.h"
#include "winograd.h"

namespace sparserefine {
namespace SR_ISA {

// Sums of their own for each of at most so many threads: more would cost memory for little.
constexpr int kMostParts = 16;

inline int direct_weight_gradient(const sr_convolution &conv, const sr_windows &windows,
                                  const float *grad, int64_t grad_stride, float *gradient,
                                  int threads) {
  const int inputs = input_channels(conv), outputs = conv.out_channels, taps = windows.taps;
  const int right = round_up(outputs, kWidth);
  const int chunk = chunk_rows(taps, inputs, right);
  const int64_t window = int64_t(taps) * inputs + 16, sums = int64_t(taps) * inputs * right;
  const int64_t chunks = (windows.count + chunk - 1) / chunk;
  const int parts = std::min(std::min(threads, kMostParts), int(std::max<int64_t>(chunks, 1)));
  std::vector<float *> partial(parts, nullptr);
  std::atomic<bool> failed{false};
  int32_t every[9];
  for (int tap = 0; tap < taps; ++tap) every[tap] = tap;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int part = 0; part < parts; ++part) {
    partial[part] = static_cast<float *>(std::calloc(sums, sizeof(float)));
    float *gathered = thread_scratch().floats(chunk * (window + right));
    if (!partial[part] || !gathered) {
      failed = true;
      continue;
    }
    float *padded = gathered + chunk * window;
    std::memset(padded, 0, sizeof(float) * chunk * right);
    for (int64_t at = chunks * part / parts; at < chunks * (part + 1) / parts; ++at) {
      const int64_t first = at * chunk;
      const int count = int(std::min<int64_t>(chunk, windows.count - first));
      for (int row = 0; row < count; ++row) {
        gather_window<false>(conv, windows, first + row, taps, every, inputs,
                             gathered + row * window);
        const int64_t n = windows.rows ? windows.rows[first + row] : first + row;
        std::memcpy(padded + int64_t(row) * right, grad + n * grad_stride, sizeof(float) * outputs);
      }
      multiply_transposed(count, taps * inputs, outputs, gathered, window, padded, right,
                          partial[part], right);
    }
  }
  if (!failed) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int row = 0; row < taps * inputs; ++row) {
      const int tap = windows.tap_ids[row / inputs];
      float *out = gradient + (int64_t(tap) * inputs + row % inputs) * outputs;
      for (int column = 0; column < outputs; ++column)
        for (int part = 0; part < parts; ++part)
          out[column] += partial[part][int64_t(row) * right + column];
    }
  }
  for (float *sum : partial) std::free(sum);
  return failed ? -1 : 0;
}

// Brings the output's gradients of `count` blocks to points[p][block][channel].
template <int size>
void gather_gradient(const sr_convolution &conv, const sr_blocks &blocks, const float *grad,
                     int64_t grad_stride, int64_t first, int count, int width, int64_t plane,
                     float *points) {
  constexpr int side = size + 2;
  for (int block = 0; block < count; ++block) {
    const int32_t *corner = conv.grid + blocks.origins[first + block] + blocks.grid_width + 1;
    float *out = points + int64_t(block) * width;
    for (int c = 0; c < conv.out_channels; c += kWidth) {
      const int remaining = conv.out_channels - c;
      Vec half[side][size];
      for (int j = 0; j < size; ++j) {
        Vec column[size], transformed[side];
        for (int i = 0; i < size; ++i) {
          const int64_t n = corner[i * blocks.grid_width + j];
          column[i] = n < 0 ? Vec{} : load_first(grad + n * grad_stride + c, remaining);
        }
        transform_gradient<size>(column, transformed);
        for (int i = 0; i < side; ++i) half[i][j] = transformed[i];
      }
      for (int i = 0; i < side; ++i) {
        Vec transformed[side];
        transform_gradient<size>(half[i], transformed);
        for (int j = 0; j < side; ++j) store(out + (i * side + j) * plane + c, transformed[j]);
      }
    }
  }
}

template <int size>
int winograd_weight_gradient(const sr_convolution &conv, const sr_blocks &blocks,
                             const float *grad, int64_t grad_stride, float *gradient,
                             int threads) {
  constexpr int points = (size + 2) * (size + 2);
  const int inputs = input_channels(conv), outputs = conv.out_channels;
  const int left = round_up(inputs, kWidth), right = round_up(outputs, kWidth);
  const int chunk = chunk_blocks(blocks.count, points, left, right, threads);
  const int64_t left_plane = plane_floats(chunk, left), right_plane = plane_floats(chunk, right);
  const int64_t matrix = int64_t(inputs) * right;
  const int64_t chunks = (blocks.count + chunk - 1) / chunk;
  const int parts = std::min(std::min(threads, kMostParts), int(std::max<int64_t>(chunks, 1)));
  std::vector<float *> partial(parts, nullptr);
  std::atomic<bool> failed{false};
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int part = 0; part < parts; ++part) {
    partial[part] = static_cast<float *>(std::calloc(points * matrix, sizeof(float)));
    float *zeros = thread_scratch().floats(left + points * (left_plane + right_plane));
    if (!partial[part] || !zeros) {
      failed = true;
      continue;
    }
    std::memset(zeros, 0, sizeof(float) * left);
    float *transformed = zeros + left, *gradients = transformed + points * left_plane;
    for (int64_t at = chunks * part / parts; at < chunks * (part + 1) / parts; ++at) {
      const int64_t first = at * chunk;
      const int count = int(std::min<int64_t>(chunk, blocks.count - first));
      gather_points<size, false>(conv, blocks, first, count, left, left_plane, zeros,
                                 transformed);
      gather_gradient<size>(conv, blocks, grad, grad_stride, first, count, right, right_plane,
                            gradients);
      for (int point = 0; point < points; ++point)
        multiply_transposed(count, inputs, outputs, transformed + point * left_plane, left,
                            gradients + point * right_plane, right, partial[part] + point * matrix,
                            right);
    }
  }
  if (!failed) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int input = 0; input < inputs; ++input) {
      for (int output = 0; output < outputs; ++output) {
        double sum[points], kernel[9];
        for (int point = 0; point < points; ++point) {
          sum[point] = 0;
          for (int part = 0; part < parts; ++part)
            sum[point] += partial[part][point * matrix + int64_t(input) * right + output];
        }
        transform_kernel_gradient<size>(sum, kernel);
        for (int tap = 0; tap < 9; ++tap)
          gradient[(int64_t(tap) * inputs + input) * outputs + output] += float(kernel[tap]);
      }
    }
  }
  for (float *sum : partial) std::free(sum);
  return failed ? -1 : 0;
}

}  // namespace SR_ISA
}  // namespace sparserefine
