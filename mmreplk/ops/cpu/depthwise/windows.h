// The gradient of a narrow or dilated filter on one plane: a vector of sums for each tap, along the rows of the map.

#pragma once

#include <algorithm>

#include "vectors.h"

namespace {

constexpr int WINDOW_ROWS = 3, WINDOW_COLUMNS = LANES / 2;  // taps whose sums stay in registers

// Adds to R x T taps the products of rows of x with rows of grad: for row r of the taps, of each row y of x with row
// y - r * DY of grad. Vectors are of the columns of grad.
template <int R, int T>
void add_window(const float* x, int64_t pitch, const float* grad, int64_t grad_pitch, int64_t rows, int64_t vectors,
                float* taps, int64_t taps_pitch, int64_t dy, int64_t dx) {
  Floats sums[R * T];
  int64_t above[R], right[T];
  for_each<R * T>([&](auto i) { sums[i] = Floats{}; });
  for_each<R>([&](auto r) { above[r] = -r * dy * grad_pitch; });
  for_each<T>([&](auto t) { right[t] = t * dx; });
  for (int64_t y = 0; y < rows; y++, x += pitch, grad += grad_pitch)
    for (int64_t v = 0; v < vectors * LANES; v += LANES) {
      Floats met[R];
      for_each<R>([&](auto r) { met[r] = *(const AnyFloats*)(grad + v + above[r]); });
      for_each<T>([&](auto t) {
        Floats pixels = *(const AnyFloats*)(x + v + right[t]);
        asm("" : "+v"(pixels));  // GCC would load them again for each row
        for_each<R>([&](auto r) { sums[r * T + t] += pixels * met[r]; });
      });
    }
  for_each<(R * T + LANES - 1) / LANES>([&](auto group) {
    constexpr int FIRST = group * LANES, COUNT = std::min(LANES, R * T - FIRST);
    Words lanes[LANES] = {};
    for_each<COUNT>([&](auto i) { lanes[i] = (Words)sums[FIRST + i]; });
    transpose(lanes);
    Floats totals{};
    for_each<LANES>([&](auto i) { totals += (Floats)lanes[i]; });
    for_each<COUNT>([&](auto i) { taps[(FIRST + i) / T * taps_pitch + (FIRST + i) % T] += totals[int(i)]; });
  });
}

template <int R, int... T>
auto window_of(int64_t columns, std::integer_sequence<int, T...>) {
  static constexpr decltype(&add_window<1, 1>) windows[] = {add_window<R, T + 1>...};
  return windows[columns - 1];
}

// Adds to all taps. Row 0 of the taps meets row `top` of x by row 0 of grad, which has rows of zeros on both sides.
void add_windows(const float* x, int64_t x_rows, int64_t pitch, const float* grad, int64_t grad_rows,
                 int64_t grad_pitch, int64_t top, int64_t columns, float* taps, int64_t kh, int64_t kw,
                 int64_t taps_pitch, int64_t dy, int64_t dx) {
  using Columns = std::make_integer_sequence<int, WINDOW_COLUMNS>;
  const int64_t vectors = (columns + LANES - 1) / LANES;
  for (int64_t i = 0, parts = (kh + WINDOW_ROWS - 1) / WINDOW_ROWS, r; i < kh; i += r, parts--) {
    r = (kh - i + parts - 1) / parts;
    const int64_t start = top + i * dy;
    const int64_t first = std::max<int64_t>(0, start), last = std::min(x_rows, start + (r - 1) * dy + grad_rows);
    for (int64_t j = 0, strips = (kw + WINDOW_COLUMNS - 1) / WINDOW_COLUMNS, t; j < kw && first < last;
         j += t, strips--) {
      t = (kw - j + strips - 1) / strips;
      const auto add = r == 1   ? window_of<1>(t, Columns{})
                       : r == 2 ? window_of<2>(t, Columns{})
                                : window_of<3>(t, Columns{});
      add(x + first * pitch + j * dx, pitch, grad + (first - start) * grad_pitch, grad_pitch, last - first, vectors,
          taps + i * taps_pitch + j, taps_pitch, dy, dx);
    }
  }
}

}  // namespace
