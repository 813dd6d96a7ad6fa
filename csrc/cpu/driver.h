// The CPU's driver: shares the lanes out over torch's threads, picks the instruction set.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdint>

#include "../call.h"
#include "kernels.h"
#include "unit.h"

namespace snn::cpu {

#if defined(SNN_CPU_HAS_AVX512)
inline bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

// Lanes [begin, end), on the widest instruction set that this library has and the machine too.
template <class Call>
void scan_lanes(const Call& call, int64 begin, int64 end, int width) {
  if (call.unit) return static_cast<const Unit*>(call.unit)->scan(call, begin, end);
#if defined(SNN_CPU_HAS_AVX512)
  if (has_avx512()) return avx512::scan(call, begin, end, width);
#endif
#if defined(SNN_CPU_HAS_AVX2)
  if (__builtin_cpu_supports("avx2")) return avx2::scan(call, begin, end, width);
#endif
#if defined(SNN_CPU_DISPATCH)
  baseline::scan(call, begin, end, width);
#else
  SNN_CPU_ISA::scan(call, begin, end, width);
#endif
}

// Asks for huge pages behind a large array that nobody has touched yet: writing fresh memory in
// small pages costs more than the scan itself.
inline void expect_writes(void* array, int64 bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr int64 kWorthwhile = 4 << 20, kHugePage = 2 << 20;
  if (!array || bytes < kWorthwhile) return;
  const auto first = reinterpret_cast<std::uintptr_t>(array);
  const auto begin = (first + kHugePage - 1) / kHugePage * kHugePage;
  const auto end = (first + bytes) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

template <class T>
void expect_writes(const Forward<T>& call) {
  const int64 bytes = call.steps * call.lanes * element_size(call.element);
  expect_writes(call.spikes, bytes * (call.unit ? call.unit->outputs : 1));
  expect_writes(call.v_seq, bytes);
}

template <class T>
void expect_writes(const Backward<T>& call) {
  expect_writes(call.grad_x, call.steps * call.lanes * element_size(call.element));
}

struct Driver {
  static constexpr int kChunk = SNN_CPU_CHUNK;

  template <class Call>
  static void launch(const Call& call, const Tensor&) {
    expect_writes(call);
    const int64 threads = torch::stable::get_num_threads();
    const int64 share = (call.lanes + threads - 1) / threads;
    const int64 rounded = (share + kStrip - 1) / kStrip * kStrip;
    const int width = static_cast<int>(rounded < SNN_CPU_LANES ? rounded : SNN_CPU_LANES);
    const int64 blocks = (call.lanes + width - 1) / width;
    const int64 work = (call.steps > 0 ? call.steps : 1) * width;
    const int64 grain = work < kGrain ? kGrain / work : 1;
    torch::stable::parallel_for(0, blocks, grain, [&](int64_t begin, int64_t end) {
      const int64 last = end * width;
      scan_lanes(call, begin * width, last < call.lanes ? last : call.lanes, width);
    });
  }

  static constexpr int64 kStrip = 16;     // lanes of the widest vector
  static constexpr int64 kGrain = 16384;  // element-steps worth a thread
};

}  // namespace snn::cpu
