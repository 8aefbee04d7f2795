// Half precision: conversions of all numbers, and weights that are read as they lie.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "kernel.hpp"

namespace half_test {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;
using Index = std::ptrdiff_t;

// The nearest number that half precision has, by looking at all of them in order.
inline double near_half(double v, const Doubles& positive, double top) {
  const double a = std::abs(v);
  if (a >= top) return std::copysign(std::numeric_limits<double>::infinity(), v);
  const auto above = std::lower_bound(positive.begin(), positive.end(), a);
  if (above == positive.end()) return std::copysign(positive.back(), v);
  if (above == positive.begin()) return std::copysign(*above, v);
  const double low = *(above - 1), high = *above;
  const bool up = a - low > high - a ||
                  (a - low == high - a && (above - positive.begin()) % 2 == 0);
  return std::copysign(up ? high : low, v);
}

// All halves to float32; floats at, beside and between halves, and at the ends, back.
inline int conversions(const lstm_bridge::Variant& variant, lstm_bridge::Half kind) {
  const bool half = kind == lstm_bridge::Half::kFloat16;
  const int mantissa = half ? 10 : 7, bias = half ? 15 : 127;
  std::vector<std::uint16_t> all(1 << 16), back(all.size());
  Floats wide(all.size());
  for (std::size_t k = 0; k < all.size(); ++k) all[k] = static_cast<std::uint16_t>(k);
  variant.widen(kind, static_cast<Index>(all.size()), all.data(), wide.data());
  Doubles positive;
  int wrong = 0;
  for (int k = 0; k < 1 << 15; ++k) {
    const int exponent = k >> mantissa, digits = k & ((1 << mantissa) - 1);
    const double exact = std::ldexp(exponent ? digits + (1 << mantissa) : digits,
                                    std::max(exponent, 1) - bias - mantissa);
    if (exponent == 2 * bias + 1) {
      wrong += digits ? !std::isnan(wide[k]) || !std::isnan(wide[k + (1 << 15)])
                      : !std::isinf(wide[k]) || wide[k] < 0 || wide[k + (1 << 15)] != -wide[k];
      continue;
    }
    positive.push_back(exact);
    wrong += wide[k] != exact || wide[k + (1 << 15)] != -exact || std::signbit(wide[k]);
  }
  Floats given;
  for (std::size_t k = 0; k < positive.size(); ++k) {
    const double next = k + 1 < positive.size() ? positive[k + 1] : 2 * positive[k];
    for (const double at : {positive[k], (positive[k] + next) / 2}) {
      const float v = static_cast<float>(at);
      for (const float w : {v, std::nextafter(v, 0.0f), std::nextafter(v, 1e38f)})
        given.push_back(given.size() % 2 ? w : -w);
    }
  }
  given.insert(given.end(), {std::numeric_limits<float>::max(), HUGE_VALF, -HUGE_VALF, NAN, 1e-45f});
  back.resize(given.size());
  variant.narrow(kind, static_cast<Index>(given.size()), given.data(), back.data());
  const double top = positive.back() + (positive.back() - positive[positive.size() - 2]) / 2;
  for (std::size_t k = 0; k < given.size(); ++k) {
    const double found = wide[back[k]], expected = near_half(given[k], positive, top);
    wrong += std::isnan(given[k]) ? !std::isnan(found)
                                  : found != expected || std::signbit(found) != std::signbit(expected);
  }
  if (wrong) std::printf("%s: %d wrong conversions, %d\n", variant.name, wrong, mantissa);
  return wrong != 0;
}

// A matrix in half precision, and the same numbers in float32.
struct Both {
  std::vector<std::uint16_t> half;
  Floats wide;
  Index row, column;

  Both(const lstm_bridge::Variant& variant, lstm_bridge::Half kind, Index rows, Index columns,
       bool turned, unsigned seed)
      : half(static_cast<std::size_t>(rows * columns)),
        wide(half.size()),
        row(turned ? 1 : columns),
        column(turned ? rows : 1) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(-0.5f, 0.5f);
    for (float& v : wide) v = uniform(random);
    variant.narrow(kind, rows * columns, wide.data(), half.data());
    variant.widen(kind, rows * columns, half.data(), wide.data());
  }
  lstm_bridge::Matrix of(bool narrow) const {
    return {narrow ? reinterpret_cast<const float*>(half.data()) : wide.data(), row, column};
  }
};

// The same sums, and so the same digits, whichever precision the weights lie in.
inline int weights(const lstm_bridge::Variant& variant, lstm_bridge::Half kind) {
  const lstm_bridge::Shape shapes[] = {{1, 1, 9, 64, 64}, {1, 1, 33, 37, 37}, {1, 2, 160, 128, 128},
                                       {6, 3, 7, 21, 10}, {9, 13, 5, 48, 48}, {2, 1, 8, 420, 420}};
  int wrong = 0;
  for (const auto& s : shapes)
    for (const bool turned : {false, true}) {
      const Both Wx(variant, kind, 4 * s.H, s.D, turned, 1), Wh(variant, kind, 4 * s.H, s.P, turned, 2);
      const Both Wp(variant, kind, s.P, s.H, turned, 3);
      const Floats x = Both(variant, kind, s.L * s.N, s.D, false, 4).wide;
      const Floats h0 = Both(variant, kind, s.N, s.P, false, 5).wide;
      Floats found[2];
      for (const bool narrow : {false, true}) {
        lstm_bridge::Weights w{Wx.of(narrow), Wh.of(narrow), {}, nullptr, nullptr};
        if (s.P != s.H) w.Wp = Wp.of(narrow);
        if (narrow) w.half = kind;
        lstm_bridge::Inputs in;
        in.x = x.data();
        in.x_row = s.D;
        in.x_step = s.N * s.D;
        in.h0 = h0.data();
        found[narrow].assign(static_cast<std::size_t>(s.L * s.N * s.P + s.N * (s.P + s.H)), NAN);
        float* const y = found[narrow].data();
        float* const h = y + s.L * s.N * s.P;
        variant.forward(s, w, in, {y, h, h + s.N * s.P});
      }
      wrong += !std::isfinite(found[0][0]) || found[0] != found[1];
    }
  if (wrong) std::printf("%s: weights in half precision differ\n", variant.name);
  return wrong;
}

inline int run(const lstm_bridge::Variant& variant) {
  int wrong = 0;
  for (const auto kind : {lstm_bridge::Half::kFloat16, lstm_bridge::Half::kBFloat16})
    wrong += conversions(variant, kind) + weights(variant, kind);
  return wrong;
}

}  // namespace half_test
