// "Same" depthwise convolutions of stride 1 on x86 CPUs, computed directly.
//
// Vectors lie along the rows of a map. A block of R rows and P vectors of sums stays in registers, and each vector of
// pixels serves R rows of it, so that the units that multiply are busy, not those that load. The pixels of a few
// channels are first copied, whatever their memory format, to planes with zeros left and right; rows above and below a
// map are skipped. In bfloat16 a word of a plane has two pixels, which one instruction multiplies with two taps.
//
// The gradient of a filter is the same convolution: of the input, with grad_output as the filter and a result of the
// size of the filter. A narrow filter would leave most of a vector empty: there, vectors of sums, one for each tap, lie
// along the rows of grad_output, and are added up in the end.
//
// N C H W: images, channels, rows, columns. KH KW: rows and columns of the filter. DY DX: its dilation.

#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16, REGISTERS = 16, MOST_VECTORS = 4;
#else
constexpr int LANES = 8, REGISTERS = 12, MOST_VECTORS = 2;
#endif
constexpr int64_t SCRATCH = 1 << 19;  // words of 16 planes, which stay near a core
constexpr int HEIGHTS[] = {1, 2, 3, 4, 6, 8};

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

// ---- One plane ----

struct Plane {
  const uint32_t* words;
  int64_t pitch, rows;
  int64_t step;  // words from those that a word of taps meets to those that the next one does
};

struct Filter {
  const uint32_t* words;
  int64_t rows, pitch;
};

// Calls `f` with 0, 1, ... as constants: GCC then keeps arrays that they index in registers.
template <class Function, int... I>
inline __attribute__((always_inline)) void call_each(Function f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>{}), ...);
}

template <int COUNT, class Function>
inline __attribute__((always_inline)) void for_each(Function f) {
  call_each(f, std::make_integer_sequence<int, COUNT>{});
}

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

// ---- The gradient of a narrow filter ----

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

constexpr int WINDOW_ROWS = 3, WINDOW_COLUMNS = LANES / 2;  // taps whose sums stay in registers

// Adds to R x T taps the products of rows of x with rows of grad: for row r of the taps, of row y of x with row y - r *
// DY of grad. Vectors are of the columns of grad.
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

// ---- Planes of a few channels ----

// A tensor (N, C, H, W) in either memory format; Value is uint32_t for float32, uint16_t for bfloat16.
template <class Value>
struct Maps {
  Value* data;
  bool channels_last;
  int64_t c, h, w;

  Value* at(int64_t n, int64_t channel, int64_t y) const {
    return data + (channels_last ? (n * h + y) * w * c + channel : ((n * c + channel) * h + y) * w);
  }
};

// Returns `count` values, at most LANES, and zeros, as they are multiplied: float32, or for pairs bfloat16 below zeros.
template <class Kind>
inline Words load(const uint32_t* values, int64_t count) {
  if (count >= LANES) return *(const AnyWords*)values;
#ifdef __AVX512BW__
  return (Words)_mm512_maskz_loadu_epi32((1u << count) - 1, values);
#else
  Words found{};
  for (int64_t lane = 0; lane < count; lane++) found[lane] = values[lane];
  return found;
#endif
}

template <class Kind>
inline Words load(const uint16_t* values, int64_t count) {
  constexpr int shift = Kind::TAPS == 2 ? 0 : 16;
  if (count >= LANES) return __builtin_convertvector(*(const AnyHalves*)values, Words) << shift;
#ifdef __AVX512BW__
  return (Words)_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((1u << count) - 1, values)) << shift;
#else
  Words found{};
  for (int64_t lane = 0; lane < count; lane++) found[lane] = uint32_t(values[lane]) << shift;
  return found;
#endif
}

// Writes `count` values, at most LANES.
inline void store(uint32_t* values, Words floats, int64_t count) {
  if (count >= LANES) *(AnyWords*)values = floats;
#ifdef __AVX512BW__
  else _mm512_mask_storeu_epi32(values, (1u << count) - 1, (__m512i)floats);
#else
  else std::memcpy(values, &floats, 4 * count);
#endif
}

// Rounds to bfloat16, half to even.
inline void store(uint16_t* values, Words floats, int64_t count) {
  const Words nearest = (floats + 0x7fff + ((floats >> 16) & 1)) >> 16;
  const Words words = floats << 1 > 0xff000000u ? floats >> 16 | 0x40 : nearest;  // a NaN stays one
  const Halves low = __builtin_convertvector(words, Halves);
  if (count >= LANES) *(AnyHalves*)values = low;
#ifdef __AVX512BW__
  else _mm256_mask_storeu_epi16(values, (1u << count) - 1, (__m256i)low);
#else
  else std::memcpy(values, &low, 2 * count);
#endif
}

// Copies values that lie together; up to LANES - 1 words after them become zero.
template <class Kind, class Value>
inline void load_all(const Value* from, int64_t count, uint32_t* to) {
  for (int64_t i = 0; i < count; i += LANES) *(AnyWords*)(to + i) = load<Kind>(from + i, count - i);
}

// Makes words of a pixel and the one `distance` to its right, from words of a pixel.
inline void pair_up(uint32_t* words, int64_t count, int64_t distance) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    const Words right = *(const AnyWords*)(words + i + distance);
    *(AnyWords*)(words + i) = (*(const AnyWords*)(words + i) & 0xffff) | right << 16;
  }
  for (; i < count; i++) words[i] = (words[i] & 0xffff) | words[i + distance] << 16;
}

// Where the planes of a few channels are: `words[channel * size + row * pitch + left + column]`. Pairs are of pixels
// that lie `distance` apart, if that is not 0.
struct Planes {
  uint32_t* words;
  int64_t size, pitch, left, distance;
};

// Copies rows [first, last) of some channels of an image to the rows of planes from 0 on.
template <class Kind, class Value>
void copy_in(const Maps<Value>& maps, int64_t n, int64_t channel, int64_t channels, int64_t first, int64_t last,
             const Planes& planes) {
  const int64_t width = maps.w, pitch = planes.pitch;
  for (int64_t c = 0; c < channels && !maps.channels_last; c++) {
    const Value* from = maps.at(n, channel + c, first);
    uint32_t* row = planes.words + c * planes.size + planes.left;
    for (int64_t y = first; y < last; y++, from += width, row += pitch) load_all<Kind>(from, width, row);
  }
  for (int64_t y = first; y < last && maps.channels_last; y++) {
    const Value* from = maps.at(n, channel, y);
    uint32_t* row = planes.words + (y - first) * pitch + planes.left;
    for (int64_t c = 0; c < channels; c += LANES)
      for (int64_t x = 0; x < width; x += LANES) {
        Words pixels[LANES];
        for (int i = 0; i < LANES; i++)
          pixels[i] = x + i < width ? load<Kind>(from + (x + i) * maps.c + c, channels - c) : Words{};
        transpose(pixels);
        for (int i = 0; i < std::min<int64_t>(LANES, channels - c); i++)
          *(AnyWords*)(row + (c + i) * planes.size + x) = pixels[i];
      }
  }
  const int64_t before = std::min(planes.left, planes.distance);  // columns of zeros whose partner is a pixel
  for (int64_t c = 0; c < channels && planes.distance; c++) {
    uint32_t* row = planes.words + c * planes.size + planes.left - before;
    for (int64_t y = first; y < last; y++, row += pitch) pair_up(row, before + width, planes.distance);
  }
}

// Makes rows of words of one or two values, from rows of values that lie `pitch` apart; may be done in place.
template <class Kind>
inline void pack(const uint32_t* values, int64_t rows, int64_t columns, int64_t pitch, uint32_t* words) {
  if (Kind::TAPS == 1 && words == values && pitch == columns) return;
  for (int64_t y = 0; y < rows; y++, values += pitch)
    for (int64_t x = 0; x < columns; x += Kind::TAPS)
      *words++ = values[x] | (x + 1 < columns && Kind::TAPS == 2 ? values[x + 1] << 16 : 0);
}

// Copies planes of float32 to rows [first, last) of some channels of an image; negative values become zero if wanted.
template <class Value>
void copy_out(const Planes& planes, bool is_rectified, const Maps<Value>& maps, int64_t n, int64_t channel,
              int64_t channels, int64_t first, int64_t last) {
  const int64_t width = maps.w, pitch = planes.pitch;
  auto read = [is_rectified](const uint32_t* words) {
    const Words values = *(const AnyWords*)words;
    return is_rectified ? (Words)((Floats)values < 0 ? Floats{} : (Floats)values) : values;
  };
  for (int64_t c = 0; c < channels && !maps.channels_last; c++) {
    const uint32_t* row = planes.words + c * planes.size + planes.left;
    Value* to = maps.at(n, channel + c, first);
    for (int64_t y = first; y < last; y++, row += pitch, to += width)
      for (int64_t x = 0; x < width; x += LANES) store(to + x, read(row + x), width - x);
  }
  for (int64_t y = first; y < last && maps.channels_last; y++) {
    const uint32_t* row = planes.words + (y - first) * pitch + planes.left;
    Value* to = maps.at(n, channel, y);
    for (int64_t x = 0; x < width; x += LANES)
      for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t some = std::min<int64_t>(LANES, channels - c);
        Words pixels[LANES];
        for (int i = 0; i < LANES; i++) pixels[i] = i < some ? read(row + (c + i) * planes.size + x) : Words{};
        transpose(pixels);
        for (int64_t i = 0; i < std::min<int64_t>(LANES, width - x); i++)
          store(to + (x + i) * maps.c + c, pixels[i], some);
      }
  }
}

// ---- The passes ----

int64_t whole(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// Returns `words` or a few more: an odd number of lines of the cache, or neighbours would share a place in it.
int64_t spread(int64_t words) { return (whole(words, 16) / 16 | 1) * 16; }

// Returns the words of a row of a plane, with `columns` of results, and `reach` more that their taps meet.
int64_t pitch_of(int64_t columns, int64_t reach) { return spread(whole(columns, LANES) + reach); }

// How many channels a thread computes together: one if both memory formats are contiguous, otherwise `most`, or fewer
// if cores would be idle.
template <class Value>
int64_t channels_together(const Maps<Value>& a, const Maps<Value>& b, int64_t most, int64_t n, int threads) {
  int64_t channels = a.channels_last || b.channels_last ? most : 1;
  while (channels > 4 && n * ((a.c + channels - 1) / channels) < threads) channels /= 2;
  return std::min(channels, a.c);
}

// How many rows of results are computed together, if `words` of planes belong to a row, and `halo` more rows are met.
int64_t rows_together(int64_t rows, int64_t halo, int64_t channels, int64_t words) {
  int64_t most = std::max<int64_t>({SCRATCH / (std::min<int64_t>(channels, 16) * words) - halo, halo / 2, 16});
  int64_t parts = (rows + most - 1) / most;
  return (rows + parts - 1) / parts;
}

// How many tasks a thread takes at a time: few, so that a thread that is disturbed does not keep the others waiting.
int64_t turns_of(int64_t tasks, int threads) { return std::max<int64_t>(1, tasks / (16 * threads)); }

// Returns this thread's memory, zeros at first, kept from call to call; nullptr if there is none.
uint32_t* scratch(int64_t words) {
  struct Memory {
    uint32_t* words = nullptr;
    int64_t size = 0;
    ~Memory() { std::free(words); }
  };
  static thread_local Memory memory;
  if (memory.size < words) {
    std::free(memory.words);
    memory.words = (uint32_t*)std::aligned_alloc(64, whole(4 * words, 64));
    memory.size = memory.words ? words : 0;
  }
  if (memory.words) std::memset(memory.words, 0, 4 * words);
  return memory.words;
}

template <class Kind, class Value>
int convolve(const Maps<Value>& x, const Value* weight, const float* bias, const Maps<Value>& out, int64_t n,
             int64_t kh, int64_t kw, int64_t dy, int64_t dx, bool flip, bool is_rectified, int threads) {
  const int64_t c = x.c, h = x.h, w = x.w, left = dx * (kw / 2), margin = dy * (kh / 2);
  const int64_t words = (kw + Kind::TAPS - 1) / Kind::TAPS;
  // Results of two threads should not share a line of the cache.
  const int64_t channels_at_once = channels_together(x, out, 64 / sizeof(Value), n, threads);
  const int64_t pitch = pitch_of(w, dx * (words * Kind::TAPS)), out_pitch = whole(w, LANES);
  const int64_t rows_at_once = rows_together(h, 2 * margin, channels_at_once, pitch + out_pitch);
  const int64_t rows_in = std::min(h, rows_at_once + 2 * margin);
  const int64_t blocks = (c + channels_at_once - 1) / channels_at_once, parts = (h + rows_at_once - 1) / rows_at_once;
  int failed = 0;
#pragma omp parallel num_threads(threads) reduction(max : failed)
  {
    const int64_t in_size = spread(rows_in * pitch), out_size = spread(rows_at_once * out_pitch);
    uint32_t* memory = scratch(channels_at_once * (in_size + out_size) + kh * kw + LANES);
    const Planes in{memory, in_size, pitch, left, Kind::TAPS == 2 ? dx : 0};
    const Planes sums{memory + channels_at_once * in_size, out_size, out_pitch, 0, 0};
    uint32_t* taps = sums.words + channels_at_once * out_size;
    failed = memory == nullptr;
#pragma omp for schedule(dynamic, turns_of(n * blocks * parts, threads))
    for (int64_t task = 0; task < n * blocks * parts; task++) {
      if (failed) continue;
      const int64_t image = task / (blocks * parts), channel = task / parts % blocks * channels_at_once;
      const int64_t channels = std::min(channels_at_once, c - channel), y = task % parts * rows_at_once;
      const int64_t rows = std::min(rows_at_once, h - y);
      const int64_t first = std::max<int64_t>(0, y - margin), last = std::min(h, y + rows + margin);
      copy_in<Kind>(x, image, channel, channels, first, last, in);
      for (int64_t i = 0; i < channels; i++) {
        uint32_t* plane = in.words + i * in.size;
        load_all<Kind>(weight + (channel + i) * kh * kw, kh * kw, taps);
        if (flip) std::reverse(taps, taps + kh * kw);
        pack<Kind>(taps, kh, kw, kw, taps);
        float* result = (float*)sums.words + i * sums.size;
        std::fill(result, result + rows * out_pitch, bias ? bias[channel + i] : 0.f);
        // Rows that lie DY apart meet the same rows of pixels: the taps of each such phase are not dilated.
        for (int64_t phase = 0; phase < std::min(dy, rows); phase++) {
          const int64_t above = y + phase - margin - first;  // the row of the plane that the first tap meets
          const int64_t skipped = above < 0 ? (-above + dy - 1) / dy : 0, start = above + skipped * dy;
          const int64_t met = last - first > start ? (last - first - start + dy - 1) / dy : 0;
          add_plane<Kind>({plane + start * pitch, pitch * dy, met, Kind::TAPS * dx}, {taps, kh, words}, -skipped,
                          result + phase * out_pitch, (rows - phase + dy - 1) / dy, w, out_pitch * dy);
        }
      }
      copy_out(sums, is_rectified, out, image, channel, channels, y, y + rows);
    }
  }
  return failed;
}

// Says whether a filter is so narrow, and its map so large, that vectors along the rows of the map take fewer cycles.
bool is_narrow(int64_t h, int64_t w, int64_t kw) { return kw * (h * whole(w, LANES) / LANES / 2 + 8) <= h * w; }

template <class Kind, class Value>
int grad_weight(const Maps<Value>& x, const Maps<Value>& grad, float* taps, int64_t n, int64_t kh, int64_t kw,
                int64_t dy, int64_t dx, bool by_windows, int threads) {
  const int64_t c = x.c, h = x.h, w = x.w, left = dx * (kw / 2), margin = dy * (kh / 2);
  const int64_t words = (w + Kind::TAPS - 1) / Kind::TAPS;
  const int64_t around = by_windows ? (WINDOW_ROWS - 1) * dy : 0;  // rows of zeros above grad, and below it
  const int64_t channels_at_once = channels_together(x, grad, 16, 1, threads);
  const int64_t pitch = by_windows ? pitch_of(w, dx * kw) : pitch_of(kw, words * Kind::TAPS);
  const int64_t grad_pitch = whole(w, LANES), out_pitch = whole(kw, LANES);
  // Windows add up parts of a map: the same ones with any number of threads.
  const int64_t rows_at_once = rows_together(h, 2 * margin, channels_together(x, grad, 16, 1, 1), pitch + grad_pitch);
  const int64_t rows_in = std::min(h, rows_at_once + 2 * margin);
  int failed = 0;
#pragma omp parallel num_threads(threads) reduction(max : failed)
  {
    const int64_t in_size = spread(rows_in * pitch), grad_size = spread((rows_at_once + 2 * around) * grad_pitch);
    const int64_t out_size = kh * out_pitch;
    uint32_t* memory = scratch(channels_at_once * (in_size + grad_size + out_size));
    const Planes in{memory, in_size, pitch, left, Kind::TAPS == 2 ? 1 : 0};
    const Planes filters{memory + channels_at_once * in_size + around * grad_pitch, grad_size, grad_pitch, 0, 0};
    float* sums = (float*)memory + channels_at_once * (in_size + grad_size);
    failed = memory == nullptr;
#pragma omp for schedule(dynamic, turns_of((c + channels_at_once - 1) / channels_at_once, threads))
    for (int64_t channel = 0; channel < c; channel += channels_at_once) {
      if (failed) continue;
      const int64_t channels = std::min(channels_at_once, c - channel);
      std::fill(sums, sums + channels * out_size, 0.f);
      for (int64_t image = 0; image < n; image++)
        for (int64_t y = 0; y < h; y += rows_at_once) {
          const int64_t rows = std::min(rows_at_once, h - y);
          const int64_t first = std::max<int64_t>(0, y - margin), last = std::min(h, y + rows + margin);
          copy_in<Kind>(x, image, channel, channels, first, last, in);
          copy_in<Kind>(grad, image, channel, channels, y, y + rows, filters);
          for (int64_t i = 0; i < channels; i++) {
            uint32_t *plane = in.words + i * in.size, *filter = filters.words + i * filters.size;
            if (by_windows) {
              std::fill_n(filter + rows * grad_pitch, around * grad_pitch, 0);  // where more rows were before
              add_windows((float*)plane, last - first, pitch, (float*)filter, rows, grad_pitch, y - margin - first, w,
                          sums + i * out_size, kh, kw, out_pitch, dy, dx);
              continue;
            }
            pack<Kind>(filter, rows, w, grad_pitch, filter);
            add_plane<Kind>({plane, pitch, last - first, Kind::TAPS}, {filter, rows, words}, y - margin - first,
                            sums + i * out_size, kh, kw, out_pitch);
          }
        }
      for (int64_t i = 0; i < channels; i++)
        for (int64_t k = 0; k < kh; k++)
          std::memcpy(taps + ((channel + i) * kh + k) * kw, sums + i * out_size + k * out_pitch, 4 * kw);
    }
  }
  return failed;
}

}  // namespace

// Both return 0, or 1 if there was no memory.
extern "C" int mmreplk_convolve(void* x, void* weight, const float* bias, void* out, int64_t n, int64_t c, int64_t h,
                                int64_t w, int64_t kh, int64_t kw, int64_t dy, int64_t dx, int is_bfloat16, int x_last,
                                int out_last, int flip, int is_rectified, int threads) {
  auto run = [&](auto kind, auto value) {
    using Kind = decltype(kind);
    using Value = decltype(value);
    const Maps<Value> maps{(Value*)x, bool(x_last), c, h, w}, results{(Value*)out, bool(out_last), c, h, w};
    return convolve<Kind>(maps, (Value*)weight, bias, results, n, kh, kw, dy, dx, flip, is_rectified, threads);
  };
  return is_bfloat16 ? run(Bfloat16{}, uint16_t{}) : run(Single{}, uint32_t{});
}

extern "C" int mmreplk_grad_weight(void* x, void* grad, float* taps, int64_t n, int64_t c, int64_t h, int64_t w,
                                   int64_t kh, int64_t kw, int64_t dy, int64_t dx, int is_bfloat16, int x_last,
                                   int grad_last, int threads) {
  const bool is_dilated = dy > 1 || dx > 1, by_windows = is_dilated || is_narrow(h, w, kw);
  auto run = [&](auto kind, auto value, bool by_windows) {
    using Kind = decltype(kind);
    using Value = decltype(value);
    const Maps<Value> maps{(Value*)x, bool(x_last), c, h, w}, grads{(Value*)grad, bool(grad_last), c, h, w};
    return grad_weight<Kind>(maps, grads, taps, n, kh, kw, dy, dx, by_windows, threads);
  };
  if (!is_bfloat16) return run(Single{}, uint32_t{}, by_windows);
  // Pairs are as fast for filters of more than a vector.
  if (by_windows && (is_dilated || kw <= LANES)) return run(Single{}, uint16_t{}, true);
  return run(Bfloat16{}, uint16_t{}, by_windows && Bfloat16::TAPS == 1);
}
