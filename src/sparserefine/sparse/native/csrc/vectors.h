// Vectors of floats, as wide as the instruction set that this file is compiled for.
//
// The compiler's vector extensions keep one source for AVX-512, AVX2, NEON and SSE.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#define SR_ISA avx512
constexpr int kWidth = 16;
constexpr int kTileRows = 12;  // 24 of 32 registers hold sums
#elif defined(__AVX2__)
#define SR_ISA avx2
constexpr int kWidth = 8;
constexpr int kTileRows = 6;  // 12 of 16
#elif defined(__aarch64__)
#define SR_ISA portable
constexpr int kWidth = 4;
constexpr int kTileRows = 8;  // 16 of 32
#else
#define SR_ISA portable
constexpr int kWidth = 4;
constexpr int kTileRows = 6;  // 12 of 16
#endif

constexpr int kPanel = 2 * kWidth;  // columns of a full panel of weights

// Everything below is compiled once for each instruction set: a namespace of its own keeps the
// linker from merging an AVX-512 function with its portable twin.
namespace sparserefine {
namespace SR_ISA {

typedef float Vec __attribute__((vector_size(kWidth * 4)));
typedef float VecUnaligned __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(kWidth * 4)));

inline Vec load(const float *p) { return *reinterpret_cast<const VecUnaligned *>(p); }
inline void store(float *p, Vec v) { *reinterpret_cast<VecUnaligned *>(p) = v; }

// Stores past the cache, to an aligned address: what is too large to be found there later need not
// be read before it is written. It pays only where a vector is a whole line of the cache. Threads
// call `finish_streams` after.
#if defined(__AVX512F__)
constexpr bool kCanStream = true;
inline void stream(float *p, Vec v) { _mm512_stream_ps(p, (__m512)v); }
inline void finish_streams() { _mm_sfence(); }
#else
constexpr bool kCanStream = false;
inline void stream(float *p, Vec v) { store(p, v); }
inline void finish_streams() {}
#endif

inline Vec load_first(const float *p, int count) {
  if (count >= kWidth) return load(p);
  Vec v = {};
  std::memcpy(&v, p, sizeof(float) * count);
  return v;
}
inline void store_first(float *p, Vec v, int count) {
  if (count >= kWidth) {
    store(p, v);
  } else {
    std::memcpy(p, &v, sizeof(float) * count);
  }
}

// As torch's relu: NaN stays NaN.
inline Vec relu(Vec v) {
  const Vec zero = {};
  return v < zero ? zero : v;
}

// `v` where keep is -1, zero where it is 0.
inline Vec keep_if(Vec v, int32_t keep) {
  return (Vec)((Mask)v & (Mask{} + keep));
}

inline int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace SR_ISA
}  // namespace sparserefine
