// Winograd's method on the active blocks: gather and transform, multiply, transform back.
#pragma once
#include <algorithm>
#include <atomic>

#include "api.h"
#include "gemm.h"
#include "input.h"
#include "scratch.h"
#include "winograd_transforms.h"

namespace sparserefine {
namespace SR_ISA {

// The floats of one point of a chunk of blocks. A multiple of the page size would map all points
// onto the same cache lines.
inline int64_t plane_floats(int blocks, int width) { return int64_t(blocks) * width + 16; }

// How long products of so many rows take, in whole tiles: a part of one waits for the same weights.
inline double tiles_of(int64_t rows) {
  const int64_t rest = rows % kTileRows;
  return double(rows / kTileRows) + (rest ? 0.25 + 0.75 * double(rest) / kTileRows : 0);
}

// How many blocks are transformed before they are multiplied. What they need should stay in the
// second-level cache, but the weights are read once for each chunk, so many channels want more.
// Not inlined: that cost the kernels around it 5 %.
__attribute__((noinline)) inline int chunk_blocks(int64_t blocks, int points, int inputs,
                                                  int outputs, int threads) {
  const int64_t budget = 1 << 16;  // floats
  const int64_t fits = budget / (int64_t(points) * (inputs + outputs));
  const int reuse = std::min(std::max(inputs, outputs) / 2, 256);
  const int64_t wanted = std::max<int64_t>(fits, std::max(4 * kTileRows, reuse));
  const int64_t chunks_wanted = std::max<int64_t>((blocks + wanted - 1) / wanted, 1);
  if (threads == 1 || chunks_wanted >= 32 * threads) {
    const int64_t chunk = (blocks + chunks_wanted - 1) / chunks_wanted;
    return int(std::max<int64_t>((chunk + kTileRows - 1) / kTileRows, 1) * kTileRows);
  }
  // So few that threads would wait: the size near it with which the last thread ends first.
  const int64_t least = std::min(wanted * 3 / 4, (blocks + threads - 1) / threads);
  int64_t best = wanted;
  double shortest = -1;
  for (int64_t chunk = std::max<int64_t>(least, 1); chunk <= wanted * 5 / 4; ++chunk) {
    const int64_t chunks = (blocks + chunk - 1) / chunk, rounds = (chunks + threads - 1) / threads;
    const bool last_is_alone = (chunks - 1) % threads == 0;
    const int64_t last = last_is_alone ? blocks - (chunks - 1) * chunk : chunk;
    const double span = double(rounds - 1) * tiles_of(chunk) + tiles_of(last);
    if (shortest < 0 || span < shortest) {
      shortest = span;
      best = chunk;
    }
  }
  return int(best);
}

// Gathers one group of channels of a window, normalizes it where asked, and transforms it to
// out[p · plane].
template <int size, bool normalized>
inline void transform_window(const sr_convolution &conv, const float *const *row,
                             const int32_t *present, int c, int channel, int channels,
                             int64_t plane, float *out) {
  constexpr int side = size + 2;
  Vec half[side][side];
  for (int j = 0; j < side; ++j) {
    Vec column[side], transformed[side];
    for (int i = 0; i < side; ++i) {
      Vec x = load_first(row[i * side + j] + c, channels);
      if (normalized) x = keep_if(normalize(x, conv, channel, channels), present[i * side + j]);
      column[i] = x;
    }
    transform_input<size>(column, transformed);
    for (int i = 0; i < side; ++i) half[i][j] = transformed[i];
  }
  for (int i = 0; i < side; ++i) {
    Vec transformed[side];
    transform_input<size>(half[i], transformed);
    for (int j = 0; j < side; ++j) store_first(out + (i * side + j) * plane, transformed[j], channels);
  }
}

// Brings a window into the cache: its pixels lie in six rows of the image, far from each other.
// Always inlined, as GCC takes a function that does nothing else for one without effect.
template <int size>
__attribute__((always_inline)) inline void prefetch_window(const int32_t *corner,
                                                           int64_t grid_width, const float *feats,
                                                           int64_t stride, int channels) {
  constexpr int side = size + 2;
  for (int i = 0; i < side; ++i)
    for (int j = 0; j < side; ++j) {
      const int64_t index = corner[i * grid_width + j];
      if (index < 0) continue;
      for (int c = 0; c < channels; c += kLine) __builtin_prefetch(feats + index * stride + c);
    }
}

// Gathers the windows of `count` blocks and transforms them to points[p][block][channel]. `zeros`
// stands for the pixels that are not active: as many as the input has channels.
template <int size, bool normalized>
void gather_points(const sr_convolution &conv, const sr_blocks &blocks, int64_t first, int count,
                   int width, int64_t plane, const float *zeros, float *points) {
  constexpr int side = size + 2;
  for_each_source(conv, [&](const float *feats, int64_t stride, int channels, int first_channel) {
    for (int block = 0; block < count; ++block) {
      const int32_t *corner = conv.grid + blocks.origins[first + block];
      if (block + 1 < count) {
        const int32_t *next = conv.grid + blocks.origins[first + block + 1];
        prefetch_window<size>(next, blocks.grid_width, feats, stride, channels);
      }
      const float *row[side * side];
      int32_t present[side * side];
      for (int i = 0; i < side; ++i)
        for (int j = 0; j < side; ++j) {
          const int64_t index = corner[i * blocks.grid_width + j];
          present[i * side + j] = index >= 0 ? -1 : 0;
          row[i * side + j] = index >= 0 ? feats + index * stride : zeros;
        }
      float *out = points + int64_t(block) * width + first_channel;
      int c = 0;
      for (; c + kWidth <= channels; c += kWidth)
        transform_window<size, normalized>(conv, row, present, c, first_channel + c, kWidth, plane,
                                           out + c);
      if (c < channels)
        transform_window<size, normalized>(conv, row, present, c, first_channel + c, channels - c,
                                           plane, out + c);
    }
  });
}

// Whether the output is so large that it will not be found in the cache when it is read, and whole
// vectors of it are aligned.
inline bool streams_output(const sr_convolution &conv, int64_t pixels) {
  constexpr int64_t kCached = 1 << 18;  // floats
  const int64_t address = reinterpret_cast<intptr_t>(conv.out) / sizeof(float);
  return kCanStream && pixels * conv.out_channels > kCached &&
         (address | conv.out_stride) % kWidth == 0;
}

// Transforms one group of channels of a block's products back and writes the active pixels.
template <int size, bool streamed>
inline void write_block(const sr_convolution &conv, const int32_t *index, int c, int channels,
                        int64_t plane, const float *in) {
  constexpr int side = size + 2;
  Vec half[size][side];
  for (int j = 0; j < side; ++j) {
    Vec column[side], transformed[size];
    for (int i = 0; i < side; ++i) column[i] = load(in + (i * side + j) * plane);
    transform_output<size>(column, transformed);
    for (int i = 0; i < size; ++i) half[i][j] = transformed[i];
  }
  const Vec bias = conv.bias ? load_first(conv.bias + c, channels) : Vec{};
  for (int i = 0; i < size; ++i) {
    Vec transformed[size];
    transform_output<size>(half[i], transformed);
    for (int j = 0; j < size; ++j) {
      const int64_t n = index[i * size + j];
      if (n < 0) continue;
      Vec y = transformed[j] + bias;
      if (conv.add) y += load_first(conv.add + n * conv.add_stride + c, channels);
      float *out = conv.out + n * conv.out_stride + c;
      if (streamed && channels >= kWidth) {
        stream(out, y);
      } else {
        store_first(out, y, channels);
      }
    }
  }
}

// Transforms the products of `count` blocks back and writes them to the active pixels.
template <int size, bool streamed>
void scatter_points(const sr_convolution &conv, const sr_blocks &blocks, int64_t first, int count,
                    int width, int64_t plane, const float *points) {
  for (int block = 0; block < count; ++block) {
    const int32_t *corner = conv.grid + blocks.origins[first + block] + blocks.grid_width + 1;
    int32_t index[size * size];
    for (int i = 0; i < size; ++i)
      for (int j = 0; j < size; ++j) index[i * size + j] = corner[i * blocks.grid_width + j];
    const float *in = points + int64_t(block) * width;
    int c = 0;
    for (; c + kWidth <= conv.out_channels; c += kWidth)
      write_block<size, streamed>(conv, index, c, kWidth, plane, in + c);
    if (c < conv.out_channels)
      write_block<size, streamed>(conv, index, c, conv.out_channels - c, plane, in + c);
  }
}

template <int size>
int winograd(const sr_convolution &conv, const sr_blocks &blocks, int threads) {
  constexpr int points = (size + 2) * (size + 2);
  const int inputs = input_channels(conv), outputs = conv.out_channels;
  const int left = round_up(inputs, kWidth), right = round_up(outputs, kWidth);
  const int chunk = chunk_blocks(blocks.count, points, left, right, threads);
  const int64_t left_plane = plane_floats(chunk, left), right_plane = plane_floats(chunk, right);
  const int64_t matrix = packed_floats(1, inputs, outputs);
  const int64_t chunks = (blocks.count + chunk - 1) / chunk;
  const bool streamed = streams_output(conv, blocks.count * size * size);
  std::atomic<bool> failed{false};
#pragma omp parallel num_threads(threads)
  {
    float *zeros = thread_scratch().floats(left + points * (left_plane + right_plane));
    float *transformed = zeros + left, *products = transformed + points * left_plane;
    if (zeros) {
      std::memset(zeros, 0, sizeof(float) * left);
    } else {
      failed = true;
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t part = 0; part < chunks; ++part) {
      if (!zeros) continue;
      const int64_t first = part * chunk;
      const int count = int(std::min<int64_t>(chunk, blocks.count - first));
      if (conv.scale) {
        gather_points<size, true>(conv, blocks, first, count, left, left_plane, zeros, transformed);
      } else {
        gather_points<size, false>(conv, blocks, first, count, left, left_plane, zeros, transformed);
      }
      for (int point = 0; point < points; ++point)
        multiply(count, inputs, outputs, transformed + point * left_plane, left,
                 conv.weight + point * matrix, products + point * right_plane, right);
      if (streamed) {
        scatter_points<size, true>(conv, blocks, first, count, right, right_plane, products);
        finish_streams();
      } else {
        scatter_points<size, false>(conv, blocks, first, count, right, right_plane, products);
      }
    }
  }
  return failed ? -1 : 0;
}

}  // namespace SR_ISA
}  // namespace sparserefine
