// Which variant this processor runs.
#include "kernel.hpp"

#include "cells.hpp"

#include <atomic>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace lstm_bridge {
namespace base {
extern const Variant variant;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Variant variant;
}
namespace avx512 {
extern const Variant variant;
}
#endif

namespace {

#if defined(__x86_64__)
// F16C, which clang's __builtin_cpu_supports does not know.
bool converts_half() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

struct Available {
  Variant list[4] = {};
  Available() {
    int k = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    converts_half();
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (v4) list[k++] = avx512::variant;
    if (v3) list[k++] = avx2::variant;
#endif
    list[k++] = base::variant;
  }
};

std::atomic<const Variant*> chosen{nullptr};

}  // namespace

const Variant* variants() {
  static const Available available;
  return available.list;
}

const Variant& variant() {
  const Variant* const it = chosen.load(std::memory_order_acquire);
  return it ? *it : variants()[0];
}

const Cells& cells() { return *variant().cells; }

bool choose(const char* name) {
  for (const Variant* v = variants(); v->name; ++v)
    if (std::strcmp(v->name, name) == 0) {
      chosen.store(v, std::memory_order_release);
      return true;
    }
  return false;
}

}  // namespace lstm_bridge
