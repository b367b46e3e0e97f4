// The direct method: gather the windows of a few rows, then one product over all taps.
#pragma once
#include <algorithm>
#include <atomic>

#include "api.h"
#include "gemm.h"
#include "input.h"
#include "scratch.h"

namespace sparserefine {
namespace SR_ISA {

// Output rows whose windows are gathered before they are multiplied.
inline int chunk_rows(int taps, int inputs, int outputs) {
  const int64_t budget = 1 << 17;  // floats
  int64_t chunk = budget / (int64_t(taps) * inputs + outputs);
  chunk = std::min<int64_t>(std::max<int64_t>(chunk, 4 * kTileRows), 16 * kTileRows);
  return int(chunk / kTileRows * kTileRows);
}

// Gathers the window of output row `i`: one segment of `inputs` floats for each tap of `segment`.
template <bool normalized>
inline void gather_window(const sr_convolution &conv, const sr_windows &windows, int64_t i,
                          int segments, const int32_t *segment, int inputs, float *out) {
  for (int s = 0; s < segments; ++s, out += inputs) {
    const int64_t n =
        conv.grid ? conv.grid[windows.base[i] + windows.tap_offsets[segment[s]]] : i;
    if (n < 0) {
      std::memset(out, 0, sizeof(float) * inputs);
      continue;
    }
    for_each_source(conv, [&](const float *feats, int64_t stride, int channels, int first) {
      copy_row<normalized>(conv, feats + n * stride, channels, first, out + first);
    });
  }
}

// The taps that at least one of `count` rows from `i` on has.
inline int present_taps(const sr_convolution &conv, const sr_windows &windows, int64_t i, int count,
                        int32_t *segment) {
  int found = 0;
  for (int tap = 0; tap < windows.taps; ++tap) {
    bool any = !conv.grid;
    for (int row = 0; row < count && !any; ++row)
      any = conv.grid[windows.base[i + row] + windows.tap_offsets[tap]] >= 0;
    if (any) segment[found++] = tap;
  }
  return found;
}

inline int direct(const sr_convolution &conv, const sr_windows &windows, int threads) {
  const int inputs = input_channels(conv), outputs = conv.out_channels, taps = windows.taps;
  const int right = round_up(outputs, kWidth);
  const int chunk = chunk_rows(taps, inputs, right);
  const int64_t window = int64_t(taps) * inputs + 16;  // the 16 as in plane_floats
  const int64_t chunks = (windows.count + chunk - 1) / chunk;
  std::atomic<bool> failed{false};
#pragma omp parallel num_threads(threads)
  {
    float *gathered = thread_scratch().floats(chunk * (window + right));
    float *products = gathered + chunk * window;
    if (!gathered) failed = true;
    int32_t segments[16], segment[16][9], weights[16][9];
#pragma omp for schedule(dynamic, 1)
    for (int64_t part = 0; part < chunks; ++part) {
      if (!gathered) continue;
      const int64_t first = part * chunk;
      const int count = int(std::min<int64_t>(chunk, windows.count - first));
      for (int row = 0; row < count; row += kTileRows) {
        const int tile = row / kTileRows, rows = std::min(kTileRows, count - row);
        segments[tile] = present_taps(conv, windows, first + row, rows, segment[tile]);
        for (int s = 0; s < segments[tile]; ++s)
          weights[tile][s] = windows.tap_ids[segment[tile][s]];
        for (int i = 0; i < rows; ++i) {
          float *out = gathered + (row + i) * window;
          if (conv.scale) {
            gather_window<true>(conv, windows, first + row + i, segments[tile], segment[tile], inputs, out);
          } else {
            gather_window<false>(conv, windows, first + row + i, segments[tile], segment[tile], inputs, out);
          }
        }
      }
      for (int column = 0; column < outputs; column += kPanel) {
        // Panels hold all nine taps of the weights, whichever of them are used here.
        const float *panel = conv.weight + int64_t(column) * (conv.grid ? 9 : 1) * inputs;
        const bool full = outputs - column > kWidth;
        for (int row = 0; row < count; row += kTileRows) {
          const int tile = row / kTileRows, rows = std::min(kTileRows, count - row);
          const float *left = gathered + row * window;
          float *result = products + int64_t(row) * right + column;
          if (full) {
            tile_of<2, Layout::rows>(rows, segments[tile], weights[tile], inputs, left, window,
                                     panel, kPanel, result, right, false);
          } else {
            tile_of<1, Layout::rows>(rows, segments[tile], weights[tile], inputs, left, window,
                                     panel, kWidth, result, right, false);
          }
        }
      }
      for (int row = 0; row < count; ++row) {
        const int64_t n = windows.rows ? windows.rows[first + row] : first + row;
        for (int c = 0; c < outputs; c += kWidth) {
          const int remaining = outputs - c;
          Vec y = load(products + int64_t(row) * right + c);
          if (conv.bias) y += load_first(conv.bias + c, remaining);
          if (conv.add) y += load_first(conv.add + n * conv.add_stride + c, remaining);
          store_first(conv.out + n * conv.out_stride + c, y, remaining);
        }
      }
    }
  }
  return failed ? -1 : 0;
}

}  // namespace SR_ISA
}  // namespace sparserefine
