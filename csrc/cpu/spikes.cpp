#include <cstddef>

#include "elements.h"
#include "rows.h"

namespace snn::cpu {

namespace {

// 64-bit lanes for Philox, and the 32-bit words that come of them.
typedef uint64 Wide __attribute__((vector_size(SNN_VECTOR_BYTES)));
typedef std::int32_t Ints __attribute__((vector_size(SNN_VECTOR_BYTES)));
constexpr int kWide = SNN_VECTOR_BYTES / 8;
constexpr int kInts = SNN_VECTOR_BYTES / 4;

// g++ makes three multiplications of the portable expression, clang++ this one.
struct MultiplyLowHalves {
  SNN_INLINE Wide operator()(Wide a, Wide b) const {
#if defined(__clang__) || !defined(__SSE2__)
    return (a & 0xffffffffu) * (b & 0xffffffffu);
#elif SNN_VECTOR_BYTES == 64
    typedef long long Signed __attribute__((vector_size(64)));
    return (Wide)__builtin_ia32_pmuludq512_mask((Ints)a, (Ints)b, Signed{}, 0xff);
#elif SNN_VECTOR_BYTES == 32
    return (Wide)__builtin_ia32_pmuludq256((Ints)a, (Ints)b);
#else
    return (Wide)__builtin_ia32_pmuludq128((Ints)a, (Ints)b);
#endif
  }
};

#if defined(__clang__)
#define SNN_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SNN_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Wide{__VA_ARGS__})
#endif

// Lanes 0, 2, ... hold the blocks of the first half, lanes 1, 3, ... those of the second: so the
// words of a half come side by side without a move across the vector.
SNN_INLINE Wide first_blocks() {
  Wide lanes{};
  for (int i = 0; i < kWide; ++i) lanes[i] = i / 2 + i % 2 * (kWide / 2);
  return lanes;
}

SNN_INLINE void in_order(const Wide (&words)[4], Ints (&ordered)[2]) {
  const Wide low = (words[0] & 0xffffffffu) | (words[1] << 32);
  const Wide high = (words[2] & 0xffffffffu) | (words[3] << 32);
#if SNN_VECTOR_BYTES == 64
  ordered[0] = (Ints)SNN_SHUFFLE(low, high, 0, 8, 2, 10, 4, 12, 6, 14);
  ordered[1] = (Ints)SNN_SHUFFLE(low, high, 1, 9, 3, 11, 5, 13, 7, 15);
#elif SNN_VECTOR_BYTES == 32
  ordered[0] = (Ints)SNN_SHUFFLE(low, high, 0, 4, 2, 6);
  ordered[1] = (Ints)SNN_SHUFFLE(low, high, 1, 5, 3, 7);
#else
  ordered[0] = (Ints)SNN_SHUFFLE(low, high, 0, 2);
  ordered[1] = (Ints)SNN_SHUFFLE(low, high, 1, 3);
#endif
}

// As many elements of a spike's format as there are in Ints, and what they are made of.
template <int kSize>
struct Elements;
#define SNN_ELEMENTS(bytes, Number)                                                   \
  template <>                                                                         \
  struct Elements<bytes> {                                                            \
    using Int = Number;                                                               \
    typedef Number Vector __attribute__((vector_size(SNN_VECTOR_BYTES / 4 * bytes))); \
  }
SNN_ELEMENTS(1, std::int8_t);
SNN_ELEMENTS(2, std::int16_t);
SNN_ELEMENTS(4, std::int32_t);
SNN_ELEMENTS(8, std::int64_t);
#undef SNN_ELEMENTS

template <class F>
SNN_INLINE void with_size(int size, F f) {
  if (size == 4) return f(Elements<4>{});
  if (size == 2) return f(Elements<2>{});
  if (size == 1) return f(Elements<1>{});
  f(Elements<8>{});
}

// Ones where the mask is set, else zeros.
template <class E>
SNN_INLINE void store_spikes(const Ints& mask, uint64 one, void* to) {
  const auto spikes =
      __builtin_convertvector(mask, typename E::Vector) & static_cast<typename E::Int>(one);
  std::memcpy(to, &spikes, sizeof spikes);
}

void last_firing_row(const float* x, int count, std::int32_t* last) {
  for (int l = 0; l < count; l += kInts) {
    const Floats::Raw scaled = Floats::load(x + l).raw * 0x1p31f;
    const auto always = scaled >= 0x1p31f;
    const auto sometimes = (scaled > 0.0f) & ~always;
    const Floats::Raw inside = sometimes ? scaled : Floats::Raw{};
    const Ints whole = __builtin_convertvector(inside, Ints);
    const Ints above = __builtin_convertvector(whole, Floats::Raw) < inside;  // -1 where so
    const Ints result = always ? Ints{} + 0x7fffffff : whole - above - 1;
    std::memcpy(last + l, &result, sizeof result);
  }
}

constexpr int kEncodeLanes = SNN_CPU_ENCODE_LANES;
constexpr int kPadded = kEncodeLanes + 2 * kInts;

// Of lanes [lane, lane + count) of a row of x: last_firing.
void last_firing_row(const Encode& call, int64 step, int64 lane, int count, std::int32_t* last) {
  const auto* elements =
      static_cast<const char*>(call.x) + (step * call.x_stride + lane) * element_size(call.element);
  if (call.element == Element::kFloat64) {
    double x;
    for (int l = 0; l < count; ++l) {
      std::memcpy(&x, elements + l * sizeof x, sizeof x);
      last[l] = last_firing(x);
    }
    return;
  }
  alignas(64) float row[kPadded] = {};
  convert_row(call.element, elements, row, count);
  last_firing_row(row, count, last);
}

template <class E>
void draw(const std::int32_t* last, const PhiloxKey& key, int64 lane, int count, uint64 one,
          char* spikes) {
  constexpr int kSize = sizeof(typename E::Int);
  alignas(64) char rest[2 * kInts * kSize];
  Wide block = first_blocks() + static_cast<uint64>(lane / 4);
  for (int l = 0; l < count; l += 2 * kInts, block += kWide) {
    Wide words[4] = {block, block >> 32, Wide{}, Wide{}};
    philox(words, key, MultiplyLowHalves{});
    Ints random[2];
    in_order(words, random);
    const bool whole = l + 2 * kInts <= count;
    char* to = whole ? spikes + static_cast<std::ptrdiff_t>(l) * kSize : rest;
    for (int half = 0; half < 2; ++half) {
      Ints limit;
      std::memcpy(&limit, last + l + half * kInts, sizeof limit);
      const Ints fires = (Ints)((Bits)random[half] >> 1) <= limit;
      store_spikes<E>(fires, one, to + half * kInts * kSize);
    }
    if (!whole)
      std::memcpy(spikes + static_cast<std::ptrdiff_t>(l) * kSize, rest, (count - l) * kSize);
  }
}

// Masks of as many elements as there are in Ints.
template <class E>
SNN_INLINE void load_spikes(const char* from, uint64 one, Ints& ones, Ints& foreign) {
  typename E::Vector bits;
  std::memcpy(&bits, from, sizeof bits);
  const auto is_one = bits == static_cast<typename E::Int>(one);
  ones = __builtin_convertvector(is_one, Ints);
  foreign |= __builtin_convertvector(~is_one & (bits != 0), Ints);
}

SNN_INLINE Ints lane_bits() {
  Ints bits{};
  for (int i = 0; i < kInts; ++i) bits[i] = 1 << i;
  return bits;
}

SNN_INLINE unsigned any_bits(const Ints& lanes) {
  uint64 pairs[kWide], bits = 0;
  std::memcpy(pairs, &lanes, sizeof pairs);
  for (const uint64 pair : pairs) bits |= pair;
  return static_cast<unsigned>(bits | bits >> 32);
}

// Words all of whose elements are there; whether each is 0 or 1.
template <class E>
bool pack_words(const char* x, uint64 one, int64 words, unsigned* to) {
  constexpr int kSize = sizeof(typename E::Int);
  const Ints bits = lane_bits();
  Ints foreign{};
  for (int64 w = 0; w < words; ++w) {
    Ints word{}, ones;
    for (int part = 0; part < kWordBits / kInts; ++part, x += kInts * kSize) {
      load_spikes<E>(x, one, ones, foreign);
      word |= (ones & bits) << (part * kInts);
    }
    to[w] = any_bits(word);
  }
  return any_bits(foreign) == 0;
}

template <class E>
void unpack_words(const unsigned* from, uint64 one, int64 words, char* x) {
  constexpr int kSize = sizeof(typename E::Int);
  const Ints bits = lane_bits();
  for (int64 w = 0; w < words; ++w) {
    for (int part = 0; part < kWordBits / kInts; ++part, x += kInts * kSize) {
      const Ints lanes = Ints{} + static_cast<std::int32_t>(from[w] >> (part * kInts));
      store_spikes<E>((lanes & bits) != 0, one, x);
    }
  }
}

}  // namespace

void encode(const Encode& call, int64 begin, int64 end) {
  alignas(64) std::int32_t last[kPadded] = {};
  int64 known = -1;
  for (int64 task = begin; task < end; ++task) {
    const int64 block = task / call.steps, step = task % call.steps;
    const int64 lane = block * kEncodeLanes, left = call.lanes - lane;
    const int count = static_cast<int>(left < kEncodeLanes ? left : kEncodeLanes);
    if (block != known || call.x_stride != 0) last_firing_row(call, step, lane, count, last);
    known = block;
    char* spikes = static_cast<char*>(call.spikes) + (step * call.lanes + lane) * call.format.size;
    const PhiloxKey key(call.keys[step]);
    with_size(call.format.size, [&](auto elements) {
      draw<decltype(elements)>(last, key, lane, count, call.format.one, spikes);
    });
  }
}

bool pack(const PackSpikes& call, int64 begin, int64 end) {
  bool binary = true;
  with_size(call.format.size, [&](auto elements) {
    using E = decltype(elements);
    constexpr int64 kBytes = kWordBits * sizeof(typename E::Int);
    const char* x = static_cast<const char*>(call.x);
    const int64 whole = call.count / kWordBits < end ? call.count / kWordBits : end;
    binary = begin >= whole ||
             pack_words<E>(x + begin * kBytes, call.format.one, whole - begin, call.words + begin);
    if (!binary || whole == end) return;
    alignas(64) char rest[kBytes] = {};
    std::memcpy(rest, x + whole * kBytes, call.count % kWordBits * sizeof(typename E::Int));
    binary = pack_words<E>(rest, call.format.one, 1, call.words + whole);
  });
  return binary;
}

void unpack(const UnpackSpikes& call, int64 begin, int64 end) {
  with_size(call.format.size, [&](auto elements) {
    using E = decltype(elements);
    constexpr int64 kBytes = kWordBits * sizeof(typename E::Int);
    char* x = static_cast<char*>(call.x);
    const int64 whole = call.count / kWordBits < end ? call.count / kWordBits : end;
    if (begin < whole) {
      unpack_words<E>(call.words + begin, call.format.one, whole - begin, x + begin * kBytes);
    }
    if (whole == end) return;
    alignas(64) char rest[kBytes];
    unpack_words<E>(call.words + whole, call.format.one, 1, rest);
    std::memcpy(x + whole * kBytes, rest, call.count % kWordBits * sizeof(typename E::Int));
  });
}

}  // namespace snn::cpu
