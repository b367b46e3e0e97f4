// Passes over the class scores of pixels: entropy and best class, upsampled scores and labels, and
// the two perceptrons that make one prediction of two. Each reads the scores once, in whatever
// order they lie in memory. What a pixel gets depends on no other: tiles are filled up with zeros.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "api.h"
#include "vectors.h"

namespace sparserefine {
namespace SR_ISA {

constexpr int kMostClasses = 256;
constexpr float kLogMinProbability = -11.512925464970229f;  // of 1e-5
constexpr int kUnits = 8;                                   // sums held in registers at a time

inline Vec splat(float value) { return Vec{} + value; }
inline Vec highest(Vec a, Vec b) { return a > b ? a : b; }

// e^x of x up to 0, within two units in the last place; 0 below -87.
inline Vec exponential(Vec x) {
  const Vec low = splat(-87.33654f);
  const Mask vanishes = x < low;
  x = vanishes ? low : x;
  const Vec magic = splat(12582912.0f);  // adding it rounds to a whole number
  const Vec n = (x * 1.44269504088896341f + magic) - magic;
  const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Mask bits = __builtin_convertvector(n, Mask) + 127;
  p = p * (Vec)(bits << 23);
  return vanishes ? Vec{} : p;
}

// The natural logarithm of positive, normal numbers.
inline Vec logarithm(Vec x) {
  Mask bits = (Mask)x;
  Mask exponent = (bits >> 23) - 126;
  Vec m = (Vec)((bits & 0x007fffff) | 0x3f000000);  // 0.5..1
  const Mask small = m < splat(0.707106781186547524f);
  exponent = exponent + small;  // -1 where small
  m = small ? m + m - 1.0f : m - 1.0f;
  const Vec z = m * m, e = __builtin_convertvector(exponent, Vec);
  Vec p = splat(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  p = p * m * z;
  p = p + e * -2.12194440e-4f - z * 0.5f;
  return m + p + e * 0.693359375f;
}

// The scores of kWidth pixels, one vector a class; those beyond `count` are zero.
inline void read_tile(const float *first, int64_t class_stride, int64_t pixel_stride, int classes,
                      int count, Vec *tile) {
  if (pixel_stride == 1) {
    for (int k = 0; k < classes; ++k) tile[k] = load_first(first + k * class_stride, count);
    return;
  }
  float *flat = reinterpret_cast<float *>(tile);
  if (count < kWidth) std::fill_n(tile, classes, Vec{});
  for (int i = 0; i < count; ++i) {
    const float *pixel = first + i * pixel_stride;
    for (int k = 0; k < classes; ++k) flat[k * kWidth + i] = pixel[k * class_stride];
  }
}

// Replaces the scores of a tile by probabilities; returns their entropies.
inline Vec softmax_tile(Vec *tile, int classes) {
  Vec top = tile[0];
  for (int k = 1; k < classes; ++k) top = highest(tile[k], top);
  Vec sum = {}, kept[kMostClasses];
  for (int k = 0; k < classes; ++k) {
    tile[k] = tile[k] - top;
    kept[k] = exponential(tile[k]);
    sum += kept[k];
  }
  const Vec log_sum = logarithm(sum), share = 1.0f / sum, least = splat(kLogMinProbability);
  Vec entropy = {};
  for (int k = 0; k < classes; ++k) {
    const Vec log_p = highest(tile[k] - log_sum, least);
    tile[k] = kept[k] * share;
    entropy -= tile[k] * log_p;
  }
  return entropy;
}

inline Mask best_of_tile(const Vec *tile, int classes) {
  Vec top = tile[0];
  Mask best = {};
  for (int k = 1; k < classes; ++k) {
    const Mask better = tile[k] > top;
    top = better ? tile[k] : top;
    best = better ? Mask{} + k : best;
  }
  return best;
}

inline void score_cells(const sr_scores &scores, float *entropy, uint8_t *labels, int threads) {
  // Parts of rows: rows of scores are one long row.
  constexpr int32_t kPart = 1024;
  const int64_t parts = (scores.width + kPart - 1) / kPart;
  const int64_t tasks = int64_t(scores.batch) * scores.height * parts;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t task = 0; task < tasks; ++task) {
    const int64_t row = task / parts;
    const int32_t begin = int32_t(task % parts) * kPart;
    const int32_t end = std::min(begin + kPart, scores.width);
    const float *first = scores.values + row / scores.height * scores.strides[0] +
                         row % scores.height * scores.strides[2];
    Vec tile[kMostClasses];
    for (int32_t x = begin; x < end; x += kWidth) {
      const int count = std::min(kWidth, end - x);
      read_tile(first + x * scores.strides[3], scores.strides[1], scores.strides[3],
                scores.classes, count, tile);
      const int64_t at = row * scores.width + x;
      if (labels) {
        const Mask best = best_of_tile(tile, scores.classes);
        for (int i = 0; i < count; ++i) labels[at + i] = uint8_t(best[i]);
      }
      if (entropy) store_first(entropy + at, softmax_tile(tile, scores.classes), count);
    }
  }
}

// Scores of the four cells around a pixel, mixed by their weights.
struct Corners {
  const float *cell[4];
  float weight[4];
  float mixed(int64_t offset) const {
    float sum = weight[0] * cell[0][offset];
    for (int i = 1; i < 4; ++i) sum = std::fma(weight[i], cell[i][offset], sum);
    return sum;
  }
};

inline Corners corners_of(const sr_scores &scores, const sr_sides &sides, int32_t image, int32_t y,
                          int32_t x) {
  const float *base = scores.values + image * scores.strides[0];
  const float down = sides.down[y], across = sides.across[x];
  const int64_t top = sides.top[y] * scores.strides[2], bottom = sides.bottom[y] * scores.strides[2];
  const int64_t left = sides.left[x] * scores.strides[3];
  const int64_t right = sides.right[x] * scores.strides[3];
  return {{base + top + left, base + top + right, base + bottom + left, base + bottom + right},
          {(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across}};
}

inline void sample_scores(const sr_scores &scores, const sr_sides &sides, const int32_t *coords,
                          int64_t count, float *out, int threads) {
  // Class by class over some pixels: neighbors share the lines of the cache that a plane is in.
  constexpr int64_t kPixels = 64;
  const int64_t stride = scores.strides[1];
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t first = 0; first < count; first += kPixels) {
    const int64_t end = std::min(first + kPixels, count);
    Corners corners[kPixels];
    for (int64_t n = first; n < end; ++n)
      corners[n - first] =
          corners_of(scores, sides, coords[3 * n], coords[3 * n + 1], coords[3 * n + 2]);
    if (stride == 1) {
      for (int64_t n = first; n < end; ++n) {
        const Corners &c = corners[n - first];
        for (int32_t k = 0; k < scores.classes; ++k) out[n * scores.classes + k] = c.mixed(k);
      }
    } else {
      for (int32_t k = 0; k < scores.classes; ++k)
        for (int64_t n = first; n < end; ++n)
          out[n * scores.classes + k] = corners[n - first].mixed(k * stride);
    }
  }
}

inline void upsample_labels(const sr_scores &scores, const sr_sides &sides, const uint8_t *cells,
                            const uint8_t *settled, int32_t height, int32_t width, uint8_t *labels,
                            int threads) {
  const int64_t rows = int64_t(scores.batch) * height;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
  for (int64_t row = 0; row < rows; ++row) {
    const int32_t image = int32_t(row / height), y = int32_t(row % height);
    const uint8_t *own = cells + int64_t(image) * scores.height * scores.width;
    const uint8_t *upper = own + int64_t(sides.top[y]) * scores.width;
    const uint8_t *lower = own + int64_t(sides.bottom[y]) * scores.width;
    uint8_t *out = labels + row * width;
    const uint8_t *done = settled ? settled + row * width : nullptr;
    static thread_local std::vector<uint8_t> mixed;
    mixed.resize(scores.width);
    // Where all four cells around a pixel agree on the class, so does every mean of them.
    for (int32_t x = 0; x < scores.width; ++x) mixed[x] = upper[x] ^ lower[x];
    for (int32_t x = 0; x + 1 < scores.width; ++x)
      mixed[x] |= (upper[x] ^ upper[x + 1]) | (upper[x] ^ lower[x + 1]);
    for (int32_t x = 0; x < width; ++x) {
      const int32_t left = sides.left[x];
      out[x] = upper[left];
      if (!mixed[left] || (done && done[x])) continue;
      const Corners corners = corners_of(scores, sides, image, y, x);
      float top = corners.mixed(0);
      int best = 0;
      for (int32_t k = 1; k < scores.classes; ++k) {
        const float score = corners.mixed(k * scores.strides[1]);
        if (score > top) top = score, best = k;
      }
      out[x] = uint8_t(best);
    }
  }
}

// `units` outputs of a linear layer for a tile of rows.
template <int units, bool rectifies>
inline void linear_units(const Vec *in, int inputs, const float *weight, const float *bias,
                         Vec *out) {
  Vec sums[units];
  for (int j = 0; j < units; ++j) sums[j] = splat(bias[j]);
  for (int i = 0; i < inputs; ++i)
    for (int j = 0; j < units; ++j) sums[j] += weight[int64_t(j) * inputs + i] * in[i];
  for (int j = 0; j < units; ++j) out[j] = rectifies ? relu(sums[j]) : sums[j];
}

template <bool rectifies>
inline void linear(const Vec *in, int inputs, const sr_linear &layer, Vec *out) {
  int j = 0;
  const auto at = [&](int unit) { return layer.weight + int64_t(unit) * inputs; };
  for (; j + kUnits <= layer.outputs; j += kUnits)
    linear_units<kUnits, rectifies>(in, inputs, at(j), layer.bias + j, out + j);
  for (; j + 2 <= layer.outputs; j += 2)
    linear_units<2, rectifies>(in, inputs, at(j), layer.bias + j, out + j);
  for (; j < layer.outputs; ++j)
    linear_units<1, rectifies>(in, inputs, at(j), layer.bias + j, out + j);
}

inline void write_tile(const Vec *tile, int classes, int count, float *out) {
  const float *flat = reinterpret_cast<const float *>(tile);
  for (int i = 0; i < count; ++i)
    for (int k = 0; k < classes; ++k) out[int64_t(i) * classes + k] = flat[k * kWidth + i];
}

inline void fuse_rows(const sr_fusion &fusion, const float *dense, const float *sparse,
                      int64_t count, float *out, int threads) {
  const int classes = fusion.classes, seen = 2 * (classes + 1);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t first = 0; first < count; first += kWidth) {
    const int rows = int(std::min<int64_t>(kWidth, count - first));
    Vec both[2][kMostClasses], evidence[2 * (kMostClasses + 1)], hidden[kMostClasses];
    Vec weights[kUnits];
    for (int side = 0; side < 2; ++side) {
      const float *from = (side ? sparse : dense) + first * classes;
      read_tile(from, 1, classes, classes, rows, both[side]);
      Vec *own = evidence + side * (classes + 1);
      std::copy_n(both[side], classes, own);
      own[classes] = softmax_tile(own, classes);
    }
    linear<true>(evidence, seen, fusion.gate[0], hidden);
    linear<false>(hidden, fusion.gate[0].outputs, fusion.gate[1], weights);
    softmax_tile(weights, 2);
    Vec *mixture = both[0];
    for (int k = 0; k < classes; ++k)
      mixture[k] = weights[0] * both[0][k] + weights[1] * both[1][k];
    linear<true>(mixture, classes, fusion.fuser[0], hidden);
    linear<false>(hidden, fusion.fuser[0].outputs, fusion.fuser[1], both[1]);
    if (fusion.residual)
      for (int k = 0; k < classes; ++k) both[1][k] += mixture[k];
    write_tile(both[1], classes, rows, out + first * classes);
  }
}

}  // namespace SR_ISA
}  // namespace sparserefine
