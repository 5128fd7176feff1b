// Copies a few channels of a tensor, in either memory format, to planes of words, and planes of sums back.

#pragma once

#include <algorithm>

#include "vectors.h"

namespace {

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

}  // namespace
