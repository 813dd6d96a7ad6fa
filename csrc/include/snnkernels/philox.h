// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw ("Parallel random
// numbers: as easy as 1, 2, 3", SC 2011): four random words of 32 bits from a counter of 128 bits
// and a key of 64. No state, so any word can be had by anyone, in any order.
//
// A word travels in the low half of a 64-bit lane, where the product of two words fits; what the
// high half holds is of no account. A lane is a number, or a driver's own vector of numbers.
#pragma once

#include "config.h"

namespace snn {

using uint64 = unsigned long long;

constexpr int kPhiloxRounds = 10;

// The product of the low halves.
struct MultiplyWords {
  SNN_HD uint64 operator()(uint64 a, uint64 b) const {
    return (a & 0xffffffffu) * (b & 0xffffffffu);
  }
};

// A key as each round takes it.
struct PhiloxKey {
  uint64 first[kPhiloxRounds], second[kPhiloxRounds];

  SNN_HD explicit PhiloxKey(uint64 key) {
    SNN_UNROLL
    for (unsigned i = 0; i < kPhiloxRounds; ++i) {
      first[i] = (key + i * 0x9e3779b9ull) & 0xffffffffu;
      second[i] = ((key >> 32) + i * 0xbb67ae85ull) & 0xffffffffu;
    }
  }
};

// Puts the four random words in place of the four of the counter.
template <class Lane, class Multiply = MultiplyWords>
SNN_HD void philox(Lane (&words)[4], const PhiloxKey& key, Multiply multiply = {}) {
  constexpr uint64 kFirst = 0xd2511f53u, kSecond = 0xcd9e8d57u;
  SNN_UNROLL
  for (int i = 0; i < kPhiloxRounds; ++i) {
    const Lane p = multiply(words[0], Lane{} + kFirst);
    const Lane q = multiply(words[2], Lane{} + kSecond);
    words[0] = (q >> 32) ^ words[1] ^ key.first[i];
    words[1] = q;
    words[2] = (p >> 32) ^ words[3] ^ key.second[i];
    words[3] = p;
  }
}

}  // namespace snn
