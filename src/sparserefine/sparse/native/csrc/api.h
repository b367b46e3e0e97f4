// The C interface of the native kernels. Plain C types only: nothing here depends on torch, so one
// library serves every version of it. All pointers are to row-major float32 or int32 arrays.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

// A 3×3 convolution of rows of features.
//
// An index grid holds the input row of every pixel, -1 where none is active, with enough empty
// cells around that no window leaves it. A null grid stands for a 1×1 convolution.
typedef struct {
  // The input: one array, or two whose channels are concatenated (channels[1] == 0: one).
  const float *feats[2];
  int64_t feats_stride[2];
  int32_t channels[2];
  // Applied to the input first, per channel, where not null: max(x · scale + shift, 0).
  const float *scale;
  const float *shift;
  // Packed weights, see sr_pack_*; the output is what they give, plus bias, plus add.
  const float *weight;
  const float *bias;
  const float *add;
  int64_t add_stride;
  float *out;
  int64_t out_stride;
  int32_t out_channels;
  const int32_t *grid;
} sr_convolution;

// The output rows of a direct convolution, all with the same taps.
//
// Output row rows[i] (i where null) reads, for each tap t, the input row at
// grid[base[i] + tap_offsets[t]] with the weight of tap_ids[t].
typedef struct {
  const int32_t *base;
  const int32_t *rows;
  int64_t count;
  int32_t taps;
  const int32_t *tap_ids;
  const int32_t *tap_offsets;
} sr_windows;

// Blocks of size×size pixels (size 2 or 4) for Winograd's method: the position in the grid of the
// first cell of each block's (size + 2)² window.
typedef struct {
  const int32_t *origins;
  int64_t count;
  int32_t size;
  int64_t grid_width;
} sr_blocks;

// Which sources the library was compiled from (`source_hash` in build.py): a caller that has others
// calls nothing else.
uint64_t sr_source(void);

// Instruction sets, widest first; "portable" runs on any processor.
int32_t sr_isa_count(void);
const char *sr_isa_name(int32_t isa);
int32_t sr_isa_supported(int32_t isa);

// Floats that packed weights take, and packing. `weight` is [9, inputs, outputs] (taps many).
// A transposed pack serves the input gradient: outputs and inputs trade places and, where
// `flip` is set, the taps are reversed.
int64_t sr_packed_floats(int32_t isa, int32_t matrices, int32_t inputs, int32_t outputs);
void sr_pack_direct(int32_t isa, const float *weight, int32_t taps, int32_t inputs, int32_t outputs,
                    int32_t transpose, int32_t flip, float *packed);
void sr_pack_winograd(int32_t isa, const float *weight, int32_t size, int32_t inputs,
                      int32_t outputs, int32_t transpose, int32_t threads, float *packed);

// A hash of `count` floats, to notice that a weight has changed.
uint64_t sr_hash(const float *values, int64_t count);

// Convolutions. They return 0, or -1 where memory ran out.
int32_t sr_direct(int32_t isa, const sr_convolution *conv, const sr_windows *windows,
                  int32_t threads);
int32_t sr_winograd(int32_t isa, const sr_convolution *conv, const sr_blocks *blocks,
                    int32_t threads);

// Gradient of the weights, [taps, inputs, outputs], added to `gradient`. `conv` gives the input,
// already normalized (its scale and shift are ignored), and its grid; `grad` are the output's
// gradients.
int32_t sr_direct_weight_gradient(int32_t isa, const sr_convolution *conv,
                                  const sr_windows *windows, const float *grad,
                                  int64_t grad_stride, float *gradient, int32_t threads);
int32_t sr_winograd_weight_gradient(int32_t isa, const sr_convolution *conv,
                                    const sr_blocks *blocks, const float *grad,
                                    int64_t grad_stride, float *gradient, int32_t threads);

// Origins of blocks of size×size pixels that hold every active pixel once; returns their number.
// Blocks lie in bands of `size` rows, and begin at the first active column that the one before does
// not reach: 3 to 12 % fewer than blocks at multiples of their size. `origins` has room for as many
// as there are active pixels. The grid holds whole bands; its border is one cell, at the right four
// more, so that a block may begin in the last column.
int64_t sr_list_blocks(const int32_t *grid, int32_t batch, int32_t grid_height, int32_t grid_width,
                       int32_t size, int32_t *origins);

// One level of a pyramid of active pixels: an index grid with a border of one cell or more, and
// (batch, y, x) of each active pixel.
typedef struct {
  int32_t height, width;
  int32_t grid_height, grid_width;
  int32_t *grid;
  int32_t *coords;
  int64_t count;
} sr_level;

// Index grids of all levels, and coordinates and counts of all but the first, which are given. A
// coarser pixel is active where one of reach × reach (2 or 3) finer cells from 2 · (y, x) + start on is, in
// grid coordinates; all of them must lie in the grid. `coords` has room for them. Returns 0, or -1
// where a pixel of the first level is outside the images.
int32_t sr_build_levels(sr_level *levels, int32_t number, int32_t batch, int32_t start,
                        int32_t reach);

// Rows of `coords` by parity 2 · (y mod 2) + (x mod 2), in order, and the positions in the coarser
// grid of the pixels (y / 2, x / 2); `sizes` of the four groups.
void sr_group_by_parity(const int32_t *coords, int64_t count, int32_t grid_height,
                        int32_t grid_width, int32_t *rows, int32_t *parents, int64_t *sizes);

// Class scores of images on a grid, with the strides of (image, class, row, column) in floats. There
// are at most 256 classes.
typedef struct {
  const float *values;
  int32_t batch, classes, height, width;
  int64_t strides[4];
} sr_scores;

// Of each row of a larger image the rows of the grid above and below its centers, and the weight of
// the lower; of each column likewise.
typedef struct {
  const int32_t *top, *bottom;
  const float *down;
  const int32_t *left, *right;
  const float *across;
} sr_sides;

// Weights [outputs, inputs] and bias.
typedef struct {
  const float *weight;
  const float *bias;
  int32_t outputs;
} sr_linear;

// Two perceptrons: the first weighs two predictions by the probabilities and the entropy of each,
// the second corrects their mixture. Hidden layers have at most 256 units.
typedef struct {
  int32_t classes;
  sr_linear gate[2];
  sr_linear fuser[2];
  int32_t residual;
} sr_fusion;

// Entropy of each cell in nats, −Σ p ln max(p, 1e-5), and its best class; either may be null.
void sr_score_cells(int32_t isa, const sr_scores *scores, float *entropy, uint8_t *labels,
                    int32_t threads);

// Bilinear scores at pixels (image, y, x) of the larger image: [count, classes].
void sr_sample_scores(int32_t isa, const sr_scores *scores, const sr_sides *sides,
                      const int32_t *coords, int64_t count, float *out, int32_t threads);

// The best class of the bilinear scores of each pixel of the larger image. `cells` has the best
// class of each cell; where `settled` (or null) is not 0, some class near will do.
void sr_upsample_labels(int32_t isa, const sr_scores *scores, const sr_sides *sides,
                        const uint8_t *cells, const uint8_t *settled, int32_t height,
                        int32_t width, uint8_t *labels, int32_t threads);

// One prediction of two, of `count` rows of scores each.
void sr_fuse_rows(int32_t isa, const sr_fusion *fusion, const float *dense, const float *sparse,
                  int64_t count, float *out, int32_t threads);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
