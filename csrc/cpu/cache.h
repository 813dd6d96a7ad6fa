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

#include <cstdio>
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
    if (limit_ == 0 || suspensions_ > 0) return {nullptr, 0};
    const int64 wanted = round_up(bytes, bytes < kHugePage ? kSmallest : kHugePage);
    const size_t place = find(wanted);
    Block block{nullptr, wanted};
    if (place < free_.size()) {
      block = free_[place];
      free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(place));
      held_ -= block.bytes;
    } else {
      block.memory = allocate(wanted);
      if (!block.memory) trim(0);  // for torch, which is asked next
    }
    if (!block.memory) return block;
    out_ += block.bytes;
    if (out_ > most_out_) most_out_ = out_;
    return block;
  }

  void give_back(Block block) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    out_ -= block.bytes;
    try {
      free_.push_back(block);
    } catch (...) {
      return std::free(block.memory);
    }
    held_ += block.bytes;
    trim(keepable());
  }

  // Keeps at most `bytes`, freeing what lay idle longest; 0 switches the cache off. Returns the
  // limit until now.
  int64 set_limit(int64 bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64 before = limit_;
    limit_ = bytes;
    trim(keepable());
    return before;
  }

  // Switches the cache off until as many calls have taken that back.
  void suspend(bool on) {
    const std::lock_guard<std::mutex> lock(mutex_);
    suspensions_ += on ? 1 : -1;
    trim(keepable());
  }

  // Frees all that is kept; returns its bytes.
  int64 clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64 freed = held_;
    trim(0);
    most_out_ = out_;
    return freed;
  }

  int64 held() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return held_;
  }

 private:
  static constexpr int64 kSmallest = 128 << 10;  // below it the C library keeps memory by itself
  static constexpr int64 kHugePage = 2 << 20;
  static constexpr int64 kShareOfMachine = 8;

  BlockCache() : limit_(machine_memory() / kShareOfMachine) {
    // A child must not inherit the lock from a thread that it does not have.
    pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                   [] { instance().mutex_.unlock(); });
  }

  // Of the machine, or of the container that the process is in.
  static int64 machine_memory() {
    int64 bytes = static_cast<int64>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    for (const char* path :
         {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
      if (std::FILE* file = std::fopen(path, "r")) {
        long long limit = 0;
        if (std::fscanf(file, "%lld", &limit) == 1 && limit > 0 && limit < bytes) bytes = limit;
        std::fclose(file);
      }
    }
    return bytes;
  }

  // What may be kept now: with what is out no more than ever was out at once, so that blocks of
  // sizes that no longer occur do not pile up.
  int64 keepable() const {
    if (suspensions_ > 0) return 0;
    return limit_ < most_out_ - out_ ? limit_ : most_out_ - out_;
  }

  // The place of the smallest block that fits, of equal ones that of the last freed, which is the
  // likeliest in the caches; the number of blocks if none fits.
  size_t find(int64 wanted) const {
    size_t best = free_.size();
    for (size_t i = free_.size(); i-- > 0;) {
      const int64 size = free_[i].bytes;
      const bool fits = size >= wanted && size <= wanted + wanted / 4;
      if (fits && (best == free_.size() || size < free_[best].bytes)) best = i;
    }
    return best;
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

  void trim(int64 limit) {
    size_t freed = 0;
    for (; held_ > limit; ++freed) {
      std::free(free_[freed].memory);
      held_ -= free_[freed].bytes;
    }
    free_.erase(free_.begin(), free_.begin() + static_cast<std::ptrdiff_t>(freed));
  }

  std::mutex mutex_;
  std::vector<Block> free_;  // the last freed at the end
  int64 held_ = 0;           // bytes in free_
  int64 out_ = 0;            // bytes in use
  int64 most_out_ = 0;
  int64 limit_;
  int suspensions_ = 0;
};

}  // namespace snn::cpu
