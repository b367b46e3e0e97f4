// The native kernels against plain loops in double precision, without Python or torch: so they can
// be checked on an emulated processor. test_kernels_check.py compiles and runs it, for ARM as part of
// `make test-all`. Exits with 1 and a line for each failure.
//
//     kernels_check [CASES]
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "api.h"

namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;
using Ints = std::vector<int32_t>;

constexpr int kTaps = 9;
constexpr double kEpsilon = 0x1p-23;
// Winograd mixes the terms of neighboring elements: shares of the largest element.
constexpr double kWinograd2 = 1e-5, kWinograd4 = 3e-5;

std::mt19937 random_source(2023);

int below(int limit) { return int(random_source() % unsigned(limit)); }

Floats normals(int64_t count) {
  std::normal_distribution<float> normal;
  Floats values(count);
  for (float &value : values) value = normal(random_source);
  return values;
}

// Active pixels of a batch of images, in an index grid as api.h wants it.
struct Pixels {
  int32_t batch, grid_height, grid_width;
  Ints grid, base;

  Pixels(int batch, int height, int width, double density)
      : batch(batch), grid_height((height + 3) / 4 * 4 + 2), grid_width((width + 3) / 4 * 4 + 5) {
    grid.assign(int64_t(batch) * grid_height * grid_width, -1);
    for (int image = 0; image < batch; ++image)
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
          if (random_source() % 1000 >= density * 1000) continue;
          const int32_t corner = (image * grid_height + y) * grid_width + x;
          grid[corner + grid_width + 1] = count();
          base.push_back(corner);
        }
  }

  int32_t count() const { return int32_t(base.size()); }
  int32_t offset(int tap) const { return tap / 3 * grid_width + tap % 3; }
  int32_t neighbor(int row, int tap) const { return grid[base[row] + offset(tap)]; }
};

// A 3×3 convolution of random features, with what plain loops make of it.
struct Problem {
  Pixels pixels;
  int first, second, outputs;
  Floats feats, skip, weight, scale, shift, bias, add, grad;

  Problem()
      : pixels(1 + below(2), 1 + below(21), 1 + below(21), 0.1 * below(11)),
        first(1 + below(40)),
        second(below(2) ? 1 + below(20) : 0),
        outputs(1 + below(40)) {
    const int64_t n = pixels.count();
    feats = normals(n * first);
    skip = normals(n * second);
    weight = normals(int64_t(kTaps) * inputs() * outputs);
    grad = normals(n * outputs);
    if (below(2)) scale = normals(inputs()), shift = normals(inputs());
    if (below(2)) bias = normals(outputs);
    if (below(2)) add = normals(n * outputs);
  }

  int inputs() const { return first + second; }

  double raw(int row, int channel) const {
    return channel < first ? feats[int64_t(row) * first + channel]
                           : skip[int64_t(row) * second + channel - first];
  }

  double input(int row, int channel) const {
    const double x = raw(row, channel);
    return scale.empty() ? x : std::fmax(x * scale[channel] + shift[channel], 0.0);
  }

  sr_convolution to_c(const Floats &packed, Floats &out) const {
    sr_convolution conv = {};
    conv.feats[0] = feats.data(), conv.feats_stride[0] = first, conv.channels[0] = first;
    conv.feats[1] = second ? skip.data() : nullptr;
    conv.feats_stride[1] = conv.channels[1] = second;
    conv.scale = scale.empty() ? nullptr : scale.data();
    conv.shift = shift.empty() ? nullptr : shift.data();
    conv.weight = packed.data();
    conv.bias = bias.empty() ? nullptr : bias.data();
    conv.add = add.empty() ? nullptr : add.data();
    conv.add_stride = outputs;
    conv.out = out.data(), conv.out_stride = outputs, conv.out_channels = outputs;
    conv.grid = pixels.grid.data();
    return conv;
  }
};

// Values, with the number of terms of each and the sum of their magnitudes.
struct Expected {
  Doubles value, magnitude;
  Ints terms;

  explicit Expected(int64_t count) : value(count), magnitude(count), terms(count) {}

  void add(int64_t at, double term) {
    value[at] += term;
    magnitude[at] += std::fabs(term);
    ++terms[at];
  }

  // How far an element may be off when its terms are summed in float32.
  double bound(int64_t at) const {
    return kEpsilon * (std::fabs(value[at]) + terms[at] * magnitude[at]);
  }

  double largest() const {
    double most = 0;
    for (double one : value) most = std::fmax(most, std::fabs(one));
    return most;
  }
};

Expected convolve(const Problem &problem) {
  const int outputs = problem.outputs;
  Expected out(int64_t(problem.pixels.count()) * outputs);
  for (int row = 0; row < problem.pixels.count(); ++row)
    for (int column = 0; column < outputs; ++column) {
      const int64_t at = int64_t(row) * outputs + column;
      if (!problem.bias.empty()) out.add(at, problem.bias[column]);
      if (!problem.add.empty()) out.add(at, problem.add[at]);
      for (int tap = 0; tap < kTaps; ++tap) {
        const int from = problem.pixels.neighbor(row, tap);
        if (from < 0) continue;
        for (int k = 0; k < problem.inputs(); ++k)
          out.add(at, problem.input(from, k) *
                          problem.weight[(int64_t(tap) * problem.inputs() + k) * outputs + column]);
      }
    }
  return out;
}

Expected weight_gradient(const Problem &problem) {
  const int outputs = problem.outputs, inputs = problem.inputs();
  Expected out(int64_t(kTaps) * inputs * outputs);
  for (int row = 0; row < problem.pixels.count(); ++row)
    for (int tap = 0; tap < kTaps; ++tap) {
      const int from = problem.pixels.neighbor(row, tap);
      if (from < 0) continue;
      for (int k = 0; k < inputs; ++k)
        for (int column = 0; column < outputs; ++column)
          out.add((int64_t(tap) * inputs + k) * outputs + column,
                  problem.raw(from, k) * problem.grad[int64_t(row) * outputs + column]);
    }
  return out;
}

int failures = 0;

// Each element within its own bound or, where given, within a share of the largest.
void compare(const std::string &what, const Floats &found, const Expected &expected,
             double share = 0) {
  const double allowed = share * expected.largest();
  for (size_t i = 0; i < found.size(); ++i) {
    const double bound = std::fmax(expected.bound(i), allowed);
    if (std::fabs(found[i] - expected.value[i]) <= bound) continue;  // and not NaN
    std::printf("%s: element %zu is %g, expected %g within %g\n", what.c_str(), i, found[i],
                expected.value[i], bound);
    ++failures;
    return;
  }
}

sr_windows windows_of(const Pixels &pixels, const Ints &taps, const Ints &offsets) {
  sr_windows windows = {};
  windows.base = pixels.base.data();
  windows.count = pixels.count();
  windows.taps = kTaps;
  windows.tap_ids = taps.data();
  windows.tap_offsets = offsets.data();
  return windows;
}

void check_direct(int isa, const Problem &problem, int threads, const Expected &convolved,
                  const Expected &gradient) {
  const std::string name = sr_isa_name(isa);
  Ints taps, offsets;
  for (int tap = 0; tap < kTaps; ++tap)
    taps.push_back(tap), offsets.push_back(problem.pixels.offset(tap));
  const sr_windows windows = windows_of(problem.pixels, taps, offsets);
  Floats packed(sr_packed_floats(isa, kTaps, problem.inputs(), problem.outputs));
  sr_pack_direct(isa, problem.weight.data(), kTaps, problem.inputs(), problem.outputs, 0, 0,
                 packed.data());
  Floats out(convolved.value.size(), NAN), found(gradient.value.size());
  const sr_convolution conv = problem.to_c(packed, out);
  if (sr_direct(isa, &conv, &windows, threads)) std::printf("no memory\n"), ++failures;
  compare(name + " direct", out, convolved);
  sr_direct_weight_gradient(isa, &conv, &windows, problem.grad.data(), problem.outputs,
                            found.data(), threads);
  compare(name + " direct weight gradient", found, gradient);
}

void check_winograd(int isa, int size, const Problem &problem, int threads,
                    const Expected &convolved, const Expected &gradient) {
  const std::string name = sr_isa_name(isa) + std::string(" winograd ") + std::to_string(size);
  const double share = size == 2 ? kWinograd2 : kWinograd4;
  const Pixels &pixels = problem.pixels;
  Ints origins(pixels.count());
  sr_blocks blocks = {};
  blocks.count = sr_list_blocks(pixels.grid.data(), pixels.batch, pixels.grid_height,
                                pixels.grid_width, size, origins.data());
  blocks.origins = origins.data();
  blocks.size = size;
  blocks.grid_width = pixels.grid_width;
  Floats packed(sr_packed_floats(isa, (size + 2) * (size + 2), problem.inputs(), problem.outputs));
  sr_pack_winograd(isa, problem.weight.data(), size, problem.inputs(), problem.outputs, 0, threads,
                   packed.data());
  Floats out(convolved.value.size(), NAN), found(gradient.value.size());
  const sr_convolution conv = problem.to_c(packed, out);
  if (sr_winograd(isa, &conv, &blocks, threads)) std::printf("no memory\n"), ++failures;
  compare(name, out, convolved, share);
  sr_winograd_weight_gradient(isa, &conv, &blocks, problem.grad.data(), problem.outputs,
                              found.data(), threads);
  compare(name + " weight gradient", found, gradient, share);
}

// The input gradient is the same convolution with the transposed pack: packing must agree with
// transposing and flipping the weights by hand.
void check_transposed_packs(int isa, const Problem &problem) {
  const int inputs = problem.inputs(), outputs = problem.outputs;
  Floats turned(problem.weight.size());
  for (int tap = 0; tap < kTaps; ++tap)
    for (int k = 0; k < inputs; ++k)
      for (int column = 0; column < outputs; ++column)
        turned[(int64_t(kTaps - 1 - tap) * outputs + column) * inputs + k] =
            problem.weight[(int64_t(tap) * inputs + k) * outputs + column];
  for (int size : {0, 2, 4}) {
    const int matrices = size ? (size + 2) * (size + 2) : kTaps;
    Floats by_pack(sr_packed_floats(isa, matrices, outputs, inputs)), by_hand(by_pack.size());
    if (size) {
      sr_pack_winograd(isa, problem.weight.data(), size, inputs, outputs, 1, 1, by_pack.data());
      sr_pack_winograd(isa, turned.data(), size, outputs, inputs, 0, 1, by_hand.data());
    } else {
      sr_pack_direct(isa, problem.weight.data(), kTaps, inputs, outputs, 1, 1, by_pack.data());
      sr_pack_direct(isa, turned.data(), kTaps, outputs, inputs, 0, 0, by_hand.data());
    }
    if (by_pack == by_hand) continue;
    std::printf("%s: transposed pack %d differs\n", sr_isa_name(isa), size);
    ++failures;
  }
}

}  // namespace

int main(int argc, char **argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 50;
  std::string checked;
  for (int isa = 0; isa < sr_isa_count(); ++isa)
    if (sr_isa_supported(isa)) checked += std::string(" ") + sr_isa_name(isa);
  for (int number = 0; number < cases; ++number) {
    const Problem problem;
    const Expected convolved = convolve(problem), gradient = weight_gradient(problem);
    for (int isa = 0; isa < sr_isa_count(); ++isa) {
      if (!sr_isa_supported(isa)) continue;
      for (int threads : {1, 2}) {
        check_direct(isa, problem, threads, convolved, gradient);
        for (int size : {2, 4}) check_winograd(isa, size, problem, threads, convolved, gradient);
      }
      check_transposed_packs(isa, problem);
    }
  }
  std::printf("%d problems,%s: %d failures\n", cases, checked.c_str(), failures);
  return failures ? 1 : 0;
}
