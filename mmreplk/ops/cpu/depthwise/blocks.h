// Convolves one plane: blocks of sums stay in registers while pixels go by.

#pragma once

#include <algorithm>

#include "vectors.h"

namespace {

#ifdef __AVX512F__
constexpr int REGISTERS = 16, MOST_VECTORS = 4;  // of a block of sums, and of one of its rows
#else
constexpr int REGISTERS = 12, MOST_VECTORS = 2;
#endif
constexpr int HEIGHTS[] = {1, 2, 3, 4, 6, 8};

struct Plane {
  const uint32_t* words;
  int64_t pitch, rows;
  int64_t step;  // words from those that a word of taps meets to those that the next one does
};

struct Filter {
  const uint32_t* words;
  int64_t rows, pitch;
};

// Adds to a block of R rows and P vectors what all rows of pixels give, from top to bottom: a sum is the same to the bit
// in any block. Row 0 of the filter, which has R rows or more, meets row `top` of x for the first sums.
template <class Kind, int R, int P>
void add_block(const Plane& x, const Filter& filter, int64_t top, float* out, int64_t pitch) {
  const int64_t width = filter.pitch, step = x.step;
  Floats sums[R * P];
  for_each<R * P>([&](auto i) { sums[i] = *(AnyFloats*)(out + i / P * pitch + i % P * LANES); });
  // Adds what row y of pixels gives to the rows of sums from FIRST to FIRST + COUNT - 1, by row k of the filter and,
  // after the first of them, by those before.
  auto add_row = [&](int64_t y, int64_t k, auto first, auto count) __attribute__((always_inline)) {
    constexpr int FIRST = first, COUNT = count;
    const uint32_t *pixels = x.words + y * x.pitch, *taps = filter.words + k * width;
    for (int64_t j = 0; j < width; j++, pixels += step, taps++) {
      Words loaded[P];
      for_each<P>([&](auto p) {
        Words words = *(const AnyWords*)(pixels + p * LANES);
        asm("" : "+v"(words));  // GCC would load them again for each row
        loaded[p] = words;
      });
      for_each<COUNT>([&](auto r) {
        for_each<P>([&](auto p) {
          sums[(FIRST + r) * P + p] = Kind::multiply(loaded[p], taps[-r * width], sums[(FIRST + r) * P + p]);
        });
      });
    }
  };
  using std::integral_constant;
  const auto is_inside = [&](int64_t y) { return y >= 0 && y < x.rows; };
  for_each<R - 1>([&](auto s) {
    if (is_inside(top + s)) add_row(top + s, s, integral_constant<int, 0>{}, integral_constant<int, s + 1>{});
  });
  const int64_t begin = std::max<int64_t>(R - 1, -top), end = std::min(filter.rows, x.rows - top);
  for (int64_t k = begin; k < end; k++) add_row(top + k, k, integral_constant<int, 0>{}, integral_constant<int, R>{});
  for_each<R - 1>([&](auto s) {
    const int64_t y = top + filter.rows + s;
    if (is_inside(y))
      add_row(y, filter.rows - 1, integral_constant<int, s + 1>{}, integral_constant<int, R - 1 - s>{});
  });
  for_each<R * P>([&](auto i) { *(AnyFloats*)(out + i / P * pitch + i % P * LANES) = sums[i]; });
}

typedef void (*AddBlock)(const Plane&, const Filter&, int64_t, float*, int64_t);

template <class Kind, int P, int R>
constexpr AddBlock fitting_block() {
  if constexpr (P <= MOST_VECTORS && R * P <= REGISTERS) return add_block<Kind, R, P>;
  return nullptr;
}

template <class Kind, int P>
AddBlock block_of(int height) {
  static constexpr AddBlock blocks[] = {
      fitting_block<Kind, P, 1>(), fitting_block<Kind, P, 2>(), fitting_block<Kind, P, 3>(),
      fitting_block<Kind, P, 4>(), fitting_block<Kind, P, 6>(), fitting_block<Kind, P, 8>()};
  return blocks[height];
}

// Returns about how many cycles a block takes for each column of the filter: those to multiply, to load (twice for
// pixels, which lie across lines of the cache), or to wait for the sums of the column before.
template <class Kind>
double cycles_of(int64_t height, int64_t filter_rows, int vectors) {
  auto row = [&](int64_t r) { return std::max({r * vectors / 2.0, r / 2.0 + vectors, double(Kind::LATENCY)}); };
  double cycles = (filter_rows - height + 1) * row(height);
  for (int64_t r = 1; r < height; r++) cycles += 2 * row(r);
  return cycles;
}

// Returns which of HEIGHTS is the fastest.
template <class Kind>
int best_height(int64_t rows, int64_t filter_rows, int vectors) {
  int best = 0;
  double least = 1e300;
  for (int i = 0; i < int(sizeof HEIGHTS / sizeof *HEIGHTS); i++) {
    const int64_t r = HEIGHTS[i];
    if (r > rows || r > filter_rows || r * vectors > REGISTERS) break;
    const double cycles = rows / r * cycles_of<Kind>(r, filter_rows, vectors) +
                          (rows % r ? cycles_of<Kind>(rows % r, filter_rows, vectors) : 0);
    if (cycles <= least) least = cycles, best = i;
  }
  return best;
}

// Adds to rows and columns of sums, whose vectors may end after `columns`. Row 0 of the filter meets row `top` of x.
template <class Kind>
void add_plane(Plane x, const Filter& filter, int64_t top, float* out, int64_t rows, int64_t columns, int64_t pitch) {
  static constexpr AddBlock (*BLOCKS[])(int) = {block_of<Kind, 1>, block_of<Kind, 2>, block_of<Kind, 3>,
                                                block_of<Kind, 4>};
  int64_t vectors = (columns + LANES - 1) / LANES;
  for (int64_t parts = (vectors + MOST_VECTORS - 1) / MOST_VECTORS; parts > 0; parts--) {
    const int p = int((vectors + parts - 1) / parts);
    for (int64_t y = 0; y < rows;) {
      const int height = best_height<Kind>(rows - y, filter.rows, p);
      for (; y + HEIGHTS[height] <= rows; y += HEIGHTS[height])
        BLOCKS[p - 1](height)(x, filter, top + y, out + y * pitch, pitch);
    }
    x.words += p * LANES, out += p * LANES, vectors -= p;
  }
}

}  // namespace
