// Memory for the operators' large outputs: freed blocks are kept and handed out again.
//
// The first write to a page of fresh memory costs a fault and the page's clearing, together more
// than the scan itself; and a block that was in use a moment ago is still in the caches. torch's
// allocator on the CPU keeps nothing, and what the C library keeps ends at some megabytes.
#pragma once

#include <pthread.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <mutex>
#include <vector>

#include "../include/snnkernels/config.h"

namespace snn::cpu {

class BlockCache {
 public:
  // The one of this process. It is never destroyed, because tensors may outlive it.
  static BlockCache& instance() {
    static BlockCache& cache = *new BlockCache;
    return cache;
  }

  struct Block {
    void* memory;
    int64 bytes;
  };

  // At least `bytes` of memory; null if that is little, the cache is off or there is no memory.
  Block take(int64 bytes) {
    if (bytes < kSmallest) return {nullptr, 0};
    const std::lock_guard<std::mutex> lock(mutex_);
    if (limit_ == 0) return {nullptr, 0};
    const int64 wanted = round_up(bytes, bytes < kHugePage ? kSmallest : kHugePage);
    size_t best = free_.size();
    for (size_t i = free_.size(); i-- > 0;) {  // the last freed is the likeliest in the caches
      const int64 size = free_[i].bytes;
      const bool fits = size >= wanted && size <= wanted + wanted / 4;
      if (fits && (best == free_.size() || size < free_[best].bytes)) best = i;
    }
    if (best == free_.size()) return {allocate(wanted), wanted};
    const Block block = free_[best];
    free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(best));
    held_ -= block.bytes;
    return block;
  }

  void give_back(Block block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(block);
    held_ += block.bytes;
    trim();
  }

  // Keeps at most `bytes`, freeing what lay idle longest; 0 switches the cache off. Returns the
  // limit until now.
  int64 set_limit(int64 bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64 before = limit_;
    limit_ = bytes;
    trim();
    return before;
  }

  int64 held() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return held_;
  }

 private:
  static constexpr int64 kSmallest = 128 << 10;  // below it the C library keeps memory by itself
  static constexpr int64 kHugePage = 2 << 20;
  static constexpr int64 kShareOfMachine = 8;

  BlockCache() {
    limit_ = static_cast<int64>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE) / kShareOfMachine;
    // A child must not inherit the lock from a thread that it does not have.
    pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                   [] { instance().mutex_.unlock(); });
  }

  static int64 round_up(int64 value, int64 multiple) {
    return (value + multiple - 1) / multiple * multiple;
  }

  static void* allocate(int64 bytes) {
    const int64 alignment = bytes < kHugePage ? 4096 : kHugePage;
    void* memory = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(bytes));
#if defined(MADV_HUGEPAGE)
    if (memory && alignment == kHugePage)
      madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
    return memory;
  }

  void trim() {
    size_t freed = 0;
    for (; held_ > limit_; ++freed) {
      std::free(free_[freed].memory);
      held_ -= free_[freed].bytes;
    }
    free_.erase(free_.begin(), free_.begin() + static_cast<std::ptrdiff_t>(freed));
  }

  std::mutex mutex_;
  std::vector<Block> free_;  // the last freed at the end
  int64 held_ = 0;           // bytes in free_
  int64 limit_ = 0;
};

}  // namespace snn::cpu
