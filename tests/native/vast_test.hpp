// Arrays of more than 2^31 numbers, of which but the last step is ever touched: a mask takes out
// all others. What that step gives is what it gives alone.
#pragma once

#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "kernel.hpp"

namespace vast_test {

using Floats = std::vector<float>;

// Addresses; the system gives memory to those that are written.
class Room {
 public:
  explicit Room(std::size_t floats) : bytes_(floats * sizeof(float)) {
#if defined(MAP_NORESERVE)
    constexpr int kKind = MAP_PRIVATE | MAP_ANON | MAP_NORESERVE;
#else
    constexpr int kKind = MAP_PRIVATE | MAP_ANON;
#endif
    void* const p = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, kKind, -1, 0);
    if (p != MAP_FAILED) data = static_cast<float*>(p);
  }
  ~Room() {
    if (data) munmap(data, bytes_);
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  float* data = nullptr;

 private:
  std::size_t bytes_;
};

inline Floats ramp(std::ptrdiff_t count, float scale) {
  Floats values(static_cast<std::size_t>(count));
  for (std::size_t k = 0; k < values.size(); ++k)
    values[k] = scale * (static_cast<float>(k * 7 % 31) / 15 - 1);
  return values;
}

// The number of failures.
inline int run(const lstm_bridge::Variant& variant) {
  constexpr std::ptrdiff_t L = 2100, N = 1, D = 1, H = std::ptrdiff_t{1} << 18, P = 1;
  constexpr std::ptrdiff_t kStep = std::ptrdiff_t{1} << 20;
  const lstm_bridge::Shape all{L, N, D, H, P, false, true}, one{1, N, D, H, P, false, true};
  static_assert(L * kStep > std::ptrdiff_t{1} << 31);
  Room x(L * kStep), gates(static_cast<std::size_t>(L * all.gate_row()));
  if (!x.data || !gates.data) {
    std::printf("%s: vast arrays were not tested, the system gives no addresses\n", variant.name);
    return 0;
  }
  const Floats Wx = ramp(4 * H * D, 1), Wh = ramp(4 * H * P, 0.5f), Wp = ramp(P * H, 1e-5f);
  const Floats h0 = {0.3f}, c0 = ramp(H, 0.8f);
  const lstm_bridge::Weights w{{Wx.data(), D, 1}, {Wh.data(), P, 1}, {Wp.data(), H, 1}, nullptr,
                               nullptr};
  std::vector<char> mask(L, 0);
  mask.back() = 1;
  float* const last_x = x.data + (L - 1) * kStep;
  *last_x = 0.7f;
  Floats y(L * P), c(H), alone_y(P), alone_c(H), alone(static_cast<std::size_t>(one.gate_row()));
  float h[2];
  lstm_bridge::Inputs in{x.data, kStep, D, h0.data(), c0.data(),
                         reinterpret_cast<const bool*>(mask.data())};
  variant.forward(all, w, in, {y.data(), &h[0], c.data(), nullptr, gates.data});
  in.x = last_x;
  in.mask = nullptr;
  variant.forward(one, w, in, {alone_y.data(), &h[1], alone_c.data(), nullptr, alone.data()});
  const float* const last = gates.data + (L - 1) * all.gate_row();
  bool same = h[0] == h[1] && c == alone_c && y.back() == alone_y.back() && h[0] != 0;
  for (int g = 0; g < 4; ++g)
    same = same && std::memcmp(last + g * all.padded(), alone.data() + g * all.padded(),
                               H * sizeof(float)) == 0;
  if (!same) std::printf("%s: steps beyond 2^31 numbers differ\n", variant.name);
  return !same;
}

}  // namespace vast_test
