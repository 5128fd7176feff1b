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

#include <omp.h>

#include <cstdlib>

#include "blocks.h"
#include "planes.h"
#include "windows.h"

namespace {

constexpr int64_t SCRATCH = 1 << 19;  // words of 16 planes, which stay near a core

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
                                   int grad_last, int by_windows, int threads) {
  auto run = [&](auto kind, auto value) {
    using Kind = decltype(kind);
    using Value = decltype(value);
    const Maps<Value> maps{(Value*)x, bool(x_last), c, h, w}, grads{(Value*)grad, bool(grad_last), c, h, w};
    return grad_weight<Kind>(maps, grads, taps, n, kh, kw, dy, dx, by_windows, threads);
  };
  if (!is_bfloat16) return run(Single{}, uint32_t{});
  return by_windows ? run(Single{}, uint16_t{}) : run(Bfloat16{}, uint16_t{});
}
