// The CPU's driver for spikes that need no neuron: shares steps or words out over torch's threads.
#pragma once

#include <atomic>

#include "../spikes_call.h"
#include "driver.h"

namespace snn::cpu {

struct SpikeDriver {
  static constexpr auto empty = empty_from_cache;

  static void run(const Encode& call, const Tensor&) {
    const int64 blocks = (call.lanes + SNN_CPU_ENCODE_LANES - 1) / SNN_CPU_ENCODE_LANES;
    const int64 width = call.lanes < SNN_CPU_ENCODE_LANES ? call.lanes : SNN_CPU_ENCODE_LANES;
    share(blocks * call.steps, width, [&](int64 begin, int64 end) { encode(call, begin, end); });
  }

  // Most tensors that hold other numbers show one early, before any thread is woken.
  static void run(const PackSpikes& call, const Tensor&) {
    const int64 words = word_count(call.count);
    std::atomic<bool> binary{pack(call, 0, words < kProbe ? words : kProbe)};
    if (binary && words > kProbe) {
      share(words - kProbe, kWordBits, [&](int64 begin, int64 end) {
        for (; begin < end && binary; begin += kBatch) {
          const int64 last = begin + kBatch < end ? begin + kBatch : end;
          if (!pack(call, kProbe + begin, kProbe + last)) binary = false;
        }
      });
    }
    *call.foreign = !binary;
  }

  static void run(const UnpackSpikes& call, const Tensor&) {
    share(word_count(call.count), kWordBits,
          [&](int64 begin, int64 end) { unpack(call, begin, end); });
  }

 private:
  static constexpr int64 kGrain = 32768;              // elements worth a thread
  static constexpr int64 kProbe = 16, kBatch = 1024;  // words

  // Tasks of so many elements each.
  template <class F>
  static void share(int64 tasks, int64 elements, F f) {
    const int64 grain = elements < kGrain ? kGrain / elements : 1;
    torch::stable::parallel_for(0, tasks, grain, f);
  }
};

}  // namespace snn::cpu
