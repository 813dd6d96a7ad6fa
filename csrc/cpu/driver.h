// The CPU's driver: shares the lanes out over torch's threads, picks the instruction set.
#pragma once

#include "../call.h"
#include "cache.h"
#include "kernels.h"

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

struct Driver {
  static constexpr int kChunk = SNN_CPU_CHUNK;

  // A contiguous tensor of any content; a large one lies in a block of the cache.
  static Tensor empty(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype) {
    std::vector<int64_t> strides(sizes.size());
    int64 count = 1;
    for (size_t d = sizes.size(); d-- > 0; count *= sizes[d]) strides[d] = count;
    const int64 bytes = count * element_bytes(dtype);
    BlockCache& cache = BlockCache::instance();
    const BlockCache::Block block = cache.take(bytes);
    if (!block.memory) return empty_from_torch(like, sizes, dtype);
    return torch::stable::from_blob(block.memory, sizes, strides, like.device(), dtype,
                                    [block, &cache](void*) { cache.give_back(block); });
  }

  template <class Call>
  static void launch(const Call& call, const Tensor&) {
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
