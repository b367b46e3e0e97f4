// The input of a convolution, channel by channel group.
#pragma once
#include "api.h"
#include "vectors.h"

namespace sparserefine {
namespace SR_ISA {

// Calls visit(feats, stride, channels, first) for each array of the input, `first` being the
// number of its first channel.
template <typename Visit>
inline void for_each_source(const sr_convolution &conv, Visit visit) {
  visit(conv.feats[0], conv.feats_stride[0], conv.channels[0], 0);
  if (conv.channels[1]) visit(conv.feats[1], conv.feats_stride[1], conv.channels[1], conv.channels[0]);
}

inline int input_channels(const sr_convolution &conv) { return conv.channels[0] + conv.channels[1]; }

// max(x · scale + shift, 0), with the scale and shift of the channels from `channel` on.
inline Vec normalize(Vec x, const sr_convolution &conv, int channel, int count) {
  return relu(x * load_first(conv.scale + channel, count) + load_first(conv.shift + channel, count));
}

// Copies a row of the input, normalized where the convolution says so.
template <bool normalized>
inline void copy_row(const sr_convolution &conv, const float *row, int channels, int first,
                     float *out) {
  int c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    const Vec x = load(row + c);
    store(out + c, normalized ? normalize(x, conv, first + c, kWidth) : x);
  }
  if (c < channels) {
    const Vec x = load_first(row + c, channels - c);
    store_first(out + c, normalized ? normalize(x, conv, first + c, channels - c) : x, channels - c);
  }
}

}  // namespace SR_ISA
}  // namespace sparserefine
