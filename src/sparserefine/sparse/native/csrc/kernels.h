// The kernels of one instruction set, as a table that the entry points choose from.
#pragma once
#include "api.h"

namespace sparserefine {

struct Kernels {
  const char *name;
  int64_t (*packed_floats)(int matrices, int inputs, int outputs);
  void (*pack_direct)(const float *, int, int, int, bool, bool, float *);
  void (*pack_winograd2)(const float *, int, int, bool, int, float *);
  void (*pack_winograd4)(const float *, int, int, bool, int, float *);
  int (*direct)(const sr_convolution &, const sr_windows &, int);
  int (*winograd2)(const sr_convolution &, const sr_blocks &, int);
  int (*winograd4)(const sr_convolution &, const sr_blocks &, int);
  int (*direct_weight_gradient)(const sr_convolution &, const sr_windows &, const float *, int64_t,
                                float *, int);
  int (*winograd2_weight_gradient)(const sr_convolution &, const sr_blocks &, const float *,
                                   int64_t, float *, int);
  int (*winograd4_weight_gradient)(const sr_convolution &, const sr_blocks &, const float *,
                                   int64_t, float *, int);
  void (*score_cells)(const sr_scores &, float *, uint8_t *, int);
  void (*sample_scores)(const sr_scores &, const sr_sides &, const int32_t *, int64_t, float *,
                        int);
  void (*upsample_labels)(const sr_scores &, const sr_sides &, const uint8_t *, const uint8_t *,
                          int32_t, int32_t, uint8_t *, int);
  void (*fuse_rows)(const sr_fusion &, const float *, const float *, int64_t, float *, int);
};

extern const Kernels kernels_portable;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

}  // namespace sparserefine
