// The CPU's driver: shares the lanes out over torch's threads.
#pragma once

#include "../call.h"
#include "cache.h"
#include "compiled_neuron.h"
#include "kernels.h"

namespace snn::cpu {

// A contiguous tensor of any content; a large one lies in a block of the cache.
inline Tensor empty_from_cache(const Tensor& like, const std::vector<int64_t>& sizes,
                               ScalarType dtype) {
  int64 count = 1;
  for (const int64_t size : sizes) count *= size;
  BlockCache& cache = BlockCache::instance();
  const BlockCache::Block block = cache.take(count * element_bytes(dtype));
  if (!block.memory) return empty_from_torch(like, sizes, dtype);
  try {
    return torch::stable::from_blob(block.memory, sizes, contiguous_strides(sizes), like.device(),
                                    dtype, [block, &cache](void*) { cache.give_back(block); });
  } catch (...) {
    cache.give_back(block);
    throw;
  }
}

struct Driver {
  static constexpr int kChunk = SNN_CPU_CHUNK;

  static constexpr auto empty = empty_from_cache;

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
      const int64 first = begin * width;
      const int64 last = end * width < call.lanes ? end * width : call.lanes;
      if (call.compiled)
        return static_cast<const CompiledNeuron*>(call.compiled)->scan(call, first, last);
      scan(call, first, last);
    });
  }

  static constexpr int64 kStrip = 16;     // lanes of the widest vector
  static constexpr int64 kGrain = 16384;  // element-steps worth a thread
};

}  // namespace snn::cpu
