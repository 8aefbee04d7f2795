// A few persistent workers, lent to one call at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <type_traits>

namespace lstm_bridge {

// Where the threads of one call meet, once per time step.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait();

 private:
  const int size_;
  std::atomic<int> arrived_{0};
  std::atomic<int> phase_{0};
};

// How many threads a call may use.
int thread_count();

// Whether all workers would begin at once: they sleep soon after a call, and waking one takes longer
// than much of what it could help with.
bool workers_awake();

// Call job(context, id, count) once on each of `count` threads, the caller being id 0. While
// another call holds the workers, this one goes on alone: job is called once, with count 1.
void run_threads(int count, void (*job)(void*, int, int), void* context);

template <class F>
void parallel(int count, F&& job) {
  using Job = std::remove_reference_t<F>;
  run_threads(
      count, [](void* f, int id, int n) { (*static_cast<Job*>(f))(id, n); },
      const_cast<void*>(static_cast<const void*>(&job)));
}

// Call job(context, piece) once for each of `pieces` pieces that need not meet. Those workers help
// that are awake before all is done: the caller never waits for one to begin.
void run_pieces(int pieces, void (*job)(void*, int), void* context);

template <class F>
void share_out(int pieces, F&& job) {
  using Job = std::remove_reference_t<F>;
  run_pieces(
      pieces, [](void* f, int piece) { (*static_cast<Job*>(f))(piece); },
      const_cast<void*>(static_cast<const void*>(&job)));
}

// Ask for large pages where the system has any: fewer of them need filling and finding.
void use_large_pages(void* p, std::size_t bytes);

// Memory of the calling thread that is kept between calls, in cache lines.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* floats(std::ptrdiff_t count);   // uninitialised, until this object ends
  float* zeros(std::ptrdiff_t count);

 private:
  std::size_t block_, used_;  // where the arena stood at the start
};

}  // namespace lstm_bridge
