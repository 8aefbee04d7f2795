// What there is once in a process, and what a fork does to it.
#pragma once

#include <pthread.h>

#include <atomic>
#include <memory>

namespace lstm_bridge {

// One T, made when it is first asked for and never destroyed: threads and arrays may end after us.
// A forked process makes its own: of its parent's threads, which may hold locks and do the work, it
// has but the one that forked.
template <class T>
T& lasting() {
  static std::atomic<T*> current{nullptr};
  if (T* const it = current.load(std::memory_order_acquire)) return *it;
  static const int forked [[maybe_unused]] =
      pthread_atfork(nullptr, nullptr, [] { current.store(nullptr, std::memory_order_relaxed); });
  auto fresh = std::make_unique<T>();
  T* other = nullptr;
  if (!current.compare_exchange_strong(other, fresh.get(), std::memory_order_acq_rel)) return *other;
  return *fresh.release();
}

}  // namespace lstm_bridge
