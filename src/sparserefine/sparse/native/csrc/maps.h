// Where pixels, blocks of them and coarser pixels lie in index grids.
#pragma once
#include <algorithm>

#include "api.h"

namespace sparserefine {

// Position of a pixel in its grid, which has a border of one cell.
inline int64_t cell_of(const int32_t *coord, int32_t grid_height, int32_t grid_width) {
  return (int64_t(coord[0]) * grid_height + coord[1] + 1) * grid_width + coord[2] + 1;
}

inline void clear(const sr_level &level, int32_t batch) {
  std::fill_n(level.grid, int64_t(batch) * level.grid_height * level.grid_width, -1);
}

// Writes the row of each pixel into the grid; false where a pixel is outside the images or occurs
// twice.
inline bool number_cells(const sr_level &level, int32_t batch) {
  clear(level, batch);
  for (int64_t row = 0; row < level.count; ++row) {
    const int32_t *coord = level.coords + 3 * row;
    if (uint32_t(coord[0]) >= uint32_t(batch) || uint32_t(coord[1]) >= uint32_t(level.height) ||
        uint32_t(coord[2]) >= uint32_t(level.width))
      return false;
    int32_t &cell = level.grid[cell_of(coord, level.grid_height, level.grid_width)];
    if (cell >= 0) return false;
    cell = int32_t(row);
  }
  return true;
}

// Finds and numbers the pixels of `coarse`: those where one of reach × reach fine cells from
// 2 · (y, x) + start on is active.
template <int reach>
inline void coarsen(const sr_level &fine, sr_level &coarse, int32_t batch, int32_t start) {
  clear(coarse, batch);
  coarse.count = 0;
  for (int32_t image = 0; image < batch; ++image)
    for (int32_t y = 0; y < coarse.height; ++y) {
      const int64_t top = int64_t(image) * fine.grid_height + 2 * y + start;
      const int32_t *window = fine.grid + top * fine.grid_width + start;
      for (int32_t x = 0; x < coarse.width; ++x, window += 2) {
        // Rows of pixels are 0 or more, -1 is all ones: the sign of their conjunction tells.
        int32_t all = -1;
        for (int dy = 0; dy < reach; ++dy)
          for (int dx = 0; dx < reach; ++dx) all &= window[int64_t(dy) * fine.grid_width + dx];
        if (all < 0) continue;
        int32_t *coord = coarse.coords + 3 * coarse.count;
        coord[0] = image, coord[1] = y, coord[2] = x;
        coarse.grid[cell_of(coord, coarse.grid_height, coarse.grid_width)] = int32_t(coarse.count);
        ++coarse.count;
      }
    }
}

// Rows of pixels by parity 2 · (y mod 2) + (x mod 2), with the positions of their parents, (y / 2,
// x / 2), in the coarse grid.
inline void group_by_parity(const int32_t *coords, int64_t count, int32_t grid_height,
                            int32_t grid_width, int32_t *rows, int32_t *parents, int64_t *sizes) {
  const auto parity = [&](int64_t row) {
    return 2 * (coords[3 * row + 1] & 1) + (coords[3 * row + 2] & 1);
  };
  int64_t next[4] = {}, begin = 0;
  std::fill_n(sizes, 4, 0);
  for (int64_t row = 0; row < count; ++row) ++sizes[parity(row)];
  for (int group = 0; group < 4; begin += sizes[group++]) next[group] = begin;
  for (int64_t row = 0; row < count; ++row) {
    const int64_t at = next[parity(row)]++;
    const int32_t *fine = coords + 3 * row;
    const int32_t parent[] = {fine[0], fine[1] >> 1, fine[2] >> 1};
    rows[at] = int32_t(row);
    parents[at] = int32_t(cell_of(parent, grid_height, grid_width));
  }
}

template <int size>
inline int64_t list_blocks(const int32_t *grid, int32_t batch, int32_t grid_height, int32_t grid_width,
                    int32_t *origins) {
  int64_t found = 0;
  const int32_t bands = (grid_height - 2) / size, columns = grid_width - 5;
  for (int32_t image = 0; image < batch; ++image)
    for (int32_t band = 0; band < bands; ++band) {
      const int32_t first = (image * grid_height + band * size) * grid_width;
      const int32_t *inner = grid + first + grid_width + 1;
      for (int32_t x = 0; x < columns;) {
        // Rows of pixels are 0 or more, -1 is all ones: the sign of their conjunction tells.
        int32_t all = -1;
        for (int32_t i = 0; i < size; ++i) all &= inner[i * grid_width + x];
        if (all < 0) {
          ++x;
        } else {
          origins[found++] = first + x;
          x += size;
        }
      }
    }
  return found;
}

}  // namespace sparserefine
