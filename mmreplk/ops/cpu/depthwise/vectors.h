// Vectors of pixels and sums, and how pixels are multiplied with taps.

#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <utility>

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
typedef Floats AnyFloats __attribute__((aligned(4), may_alias));
typedef Words AnyWords __attribute__((aligned(2), may_alias));
typedef Halves AnyHalves __attribute__((aligned(2), may_alias));

// How a word of pixels is multiplied with a word of taps: in float32, or two bfloat16 at a time.
struct Single {
  static constexpr int TAPS = 1, LATENCY = 4;
  static inline Floats multiply(Words pixels, uint32_t taps, Floats sums) {
    float tap;
    std::memcpy(&tap, &taps, 4);
    return (Floats)pixels * tap + sums;
  }
};

#ifdef __AVX512BF16__
struct Pair {
  static constexpr int TAPS = 2, LATENCY = 6;
  static inline Floats multiply(Words pixels, uint32_t taps, Floats sums) {
    return (Floats)_mm512_dpbf16_ps((__m512)sums, (__m512bh)pixels, (__m512bh)_mm512_set1_epi32(taps));
  }
};
using Bfloat16 = Pair;
#else
using Bfloat16 = Single;
#endif

// Calls `f` with 0, 1, ... as constants: GCC then keeps arrays that they index in registers.
template <class Function, int... I>
inline __attribute__((always_inline)) void call_each(Function f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>{}), ...);
}

template <int COUNT, class Function>
inline __attribute__((always_inline)) void for_each(Function f) {
  call_each(f, std::make_integer_sequence<int, COUNT>{});
}

// Transposes LANES vectors of LANES words, in squares of twice WIDTH.
template <int WIDTH = 1>
inline __attribute__((always_inline)) void transpose(Words (&rows)[LANES]) {
  if constexpr (WIDTH < LANES) {
    Words low, high;  // the halves of two rows that make a new row
    for (int i = 0; i < LANES; i++) {
      const bool is_odd = i / WIDTH % 2;
      low[i] = is_odd ? LANES + i - WIDTH : i;
      high[i] = is_odd ? LANES + i : i + WIDTH;
    }
#pragma GCC unroll 16
    for (int pair = 0; pair < LANES / 2; pair++) {
      const int i = pair / WIDTH * 2 * WIDTH + pair % WIDTH;
      const Words a = rows[i], b = rows[i + WIDTH];
      rows[i] = __builtin_shuffle(a, b, low), rows[i + WIDTH] = __builtin_shuffle(a, b, high);
    }
    transpose<2 * WIDTH>(rows);
  }
}

}  // namespace
