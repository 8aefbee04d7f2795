#include "threads.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "lasting.hpp"

#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#endif

namespace lstm_bridge {
namespace {

constexpr int kMostThreads = 8;
constexpr int kSpins = 400;  // some 20 µs: longer than a step, far shorter than a time slice
constexpr int kYields = 50;  // then others may run, perhaps the thread that is waited for

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Meanwhile `awake` counts the threads that would notice a change soon.
void wait_while(std::atomic<int>& value, int old, std::atomic<int>* awake = nullptr) {
  for (int k = 0; k < kSpins; ++k) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  for (int k = 0; k < kYields; ++k) {
    if (value.load(std::memory_order_acquire) != old) return;
    std::this_thread::yield();
  }
  if (awake) awake->fetch_sub(1, std::memory_order_relaxed);
  value.wait(old, std::memory_order_acquire);
  if (awake) awake->fetch_add(1, std::memory_order_relaxed);
}

// Processors that this process may run on, which a container or taskset makes fewer.
int processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

class Pool {
 public:
  Pool() : size_(std::clamp(processors(), 1, kMostThreads)) {}

  int size() const { return size_; }
  bool awake() const { return size_ > 1 && awake_.load(std::memory_order_relaxed) >= size_ - 1; }

  void run(int count, void (*job)(void*, int, int), void* context) {
    std::unique_lock lock(busy_, std::try_to_lock);
    count = std::min(count, size_);
    if (count < 2 || !lock.owns_lock() || !start(count - 1)) return job(context, 0, 1);
    job_ = job;
    context_ = context;
    count_ = count;
    pending_.store(started_, std::memory_order_relaxed);
    call(kAll);
    job(context, 0, count);
    for (int left; (left = pending_.load(std::memory_order_acquire)) != 0;) {
      wait_while(pending_, left);
    }
  }

  void share(int pieces, void (*job)(void*, int), void* context) {
    std::unique_lock lock(busy_, std::try_to_lock);
    const bool helped = pieces > 1 && size_ > 1 && lock.owns_lock() && start(size_ - 1);
    if (!helped) {
      for (int k = 0; k < pieces; ++k) job(context, k);
      return;
    }
    piece_job_ = job;
    context_ = context;
    pieces_ = pieces;
    next_.store(0, std::memory_order_relaxed);
    helpers_.store(0, std::memory_order_release);
    call(kWhoComes);
    take_pieces();
    helpers_.fetch_add(kClosed, std::memory_order_acq_rel);
    for (int now; (now = helpers_.load(std::memory_order_acquire)) != kClosed;)
      wait_while(helpers_, now);
  }

 private:
  // The lowest bit of an epoch says whom it calls.
  enum Kind { kAll = 0, kWhoComes = 1 };
  static constexpr int kClosed = -(1 << 20);

  void call(Kind kind) {
    const unsigned next = (static_cast<unsigned>(epoch_.load(std::memory_order_relaxed)) | 1) + 1;
    epoch_.store(static_cast<int>(next + kind), std::memory_order_release);
    epoch_.notify_all();
  }

  void take_pieces() {
    for (int k; (k = next_.fetch_add(1, std::memory_order_relaxed)) < pieces_;)
      piece_job_(context_, k);
  }

  void help() {
    int now = helpers_.load(std::memory_order_acquire);
    do {
      if (now < 0) return;
    } while (!helpers_.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel));
    take_pieces();
    if (helpers_.fetch_sub(1, std::memory_order_acq_rel) == kClosed + 1) helpers_.notify_all();
  }

  bool start(int workers) {
    try {
      while (started_ < workers) {
        std::thread(&Pool::work, this, started_ + 1, epoch_.load()).detach();
        ++started_;
      }
    } catch (const std::exception&) {
      return false;  // no more threads to be had: the caller goes on alone
    }
    return true;
  }

  void work(int id, int seen) {
    awake_.fetch_add(1, std::memory_order_relaxed);
    for (;;) {
      wait_while(epoch_, seen, &awake_);
      seen = epoch_.load(std::memory_order_acquire);
      if (seen & kWhoComes) {
        help();
        continue;
      }
      if (id < count_) job_(context_, id, count_);
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_all();
    }
  }

  const int size_;
  std::mutex busy_;
  int started_ = 0;
  void (*job_)(void*, int, int) = nullptr;
  void* context_ = nullptr;
  int count_ = 0;
  void (*piece_job_)(void*, int) = nullptr;
  int pieces_ = 0;
  std::atomic<int> epoch_{0};
  std::atomic<int> pending_{0};
  std::atomic<int> awake_{0};  // workers
  std::atomic<int> next_{0}, helpers_{kClosed};
};

// Its workers wait for the next call until the process ends.
Pool& pool() { return lasting<Pool>(); }

constexpr std::size_t kLine = 64, kLargePage = std::size_t{2} << 20;
constexpr std::size_t kKept = std::size_t{128} << 20;  // bytes that a thread keeps between calls

struct Free {
  std::align_val_t align;
  void operator()(float* p) const { ::operator delete(p, align); }
};

struct Block {
  std::unique_ptr<float, Free> data;
  std::size_t size;
};

Block allocate(std::size_t count) {
  const std::size_t bytes = count * sizeof(float);
  const std::align_val_t align{bytes < kLargePage ? kLine : kLargePage};
  auto* const p = static_cast<float*>(::operator new(bytes, align));
  use_large_pages(p, bytes);
  return {std::unique_ptr<float, Free>(p, Free{align}), count};
}

struct Arena {
  std::vector<Block> blocks;
  std::size_t block = 0, used = 0;

  float* take(std::size_t count) {
    count = (count + 15) / 16 * 16 + 16;
    while (block < blocks.size() && used + count > blocks[block].size) {
      ++block;
      used = 0;
    }
    if (block == blocks.size()) {
      const std::size_t size = std::max<std::size_t>(count, std::size_t{1} << 18);
      blocks.push_back(allocate(size));
    }
    float* const p = blocks[block].data.get() + used;
    used += count;
    return p;
  }

  void trim() {
    std::size_t kept = 0;
    for (const Block& b : blocks) kept += b.size * sizeof(float);
    if (kept > kKept) blocks.clear();
  }
};

Arena& arena() {
  static thread_local Arena it;
  return it;
}

}  // namespace

void Barrier::wait() {
  const int phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    phase_.notify_all();
  } else {
    wait_while(phase_, phase);
  }
}

void use_large_pages(void* p, std::size_t bytes) {
#if defined(__linux__)
  const auto first = (reinterpret_cast<std::uintptr_t>(p) + kLargePage - 1) / kLargePage;
  const auto end = (reinterpret_cast<std::uintptr_t>(p) + bytes) / kLargePage;
  if (first < end) madvise(reinterpret_cast<void*>(first * kLargePage),  // which may be declined
                           (end - first) * kLargePage, MADV_HUGEPAGE);
#else
  (void)p, (void)bytes;
#endif
}

int thread_count() { return pool().size(); }

bool workers_awake() { return pool().awake(); }

void run_threads(int count, void (*job)(void*, int, int), void* context) {
  if (count < 2) return job(context, 0, 1);
  pool().run(count, job, context);
}

void run_pieces(int pieces, void (*job)(void*, int), void* context) {
  pool().share(pieces, job, context);
}

Scratch::Scratch() : block_(arena().block), used_(arena().used) {}

Scratch::~Scratch() {
  arena().block = block_;
  arena().used = used_;
  if (block_ == 0 && used_ == 0) arena().trim();
}

float* Scratch::floats(std::ptrdiff_t count) {
  float* const p = arena().take(static_cast<std::size_t>(count));
#if defined(LSTM_BRIDGE_POISON)  // in tests: whatever is read before it is written shows
  std::fill_n(p, count, std::numeric_limits<float>::quiet_NaN());
#endif
  return p;
}

float* Scratch::zeros(std::ptrdiff_t count) {
  float* const p = floats(count);
  std::memset(p, 0, static_cast<std::size_t>(count) * sizeof(float));
  return p;
}

}  // namespace lstm_bridge
