// How a primitive hands MLX's arrays to a kernel, which runs later, on a thread of its own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "kernel.hpp"
#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/stream.h"
#include "threads.hpp"

namespace lstm_bridge {

namespace mx = mlx::core;

using Arrays = std::vector<mx::array>;

// An input as the kernel's own thread will read it; it holds no array.
struct View {
  const void* data = nullptr;
  std::vector<std::ptrdiff_t> shape, strides;
  bool compact = false;

  View() = default;
  explicit View(const mx::array& a)
      : data(a.data<char>()),
        shape(a.shape().begin(), a.shape().end()),
        strides(a.strides().begin(), a.strides().end()),
        compact(a.flags().row_contiguous) {}

  std::ptrdiff_t size() const {
    std::ptrdiff_t n = 1;
    for (const auto s : shape) n *= s;
    return n;
  }
  bool uniform() const {
    for (std::size_t k = 0; k < shape.size(); ++k)
      if (shape[k] != 1 && strides[k] != 0) return false;
    return true;
  }
};

template <class T>
const T* contiguous(const View& v, Scratch& scratch) {
  if (!v.data || v.compact) return static_cast<const T*>(v.data);
  static_assert(sizeof(T) <= sizeof(float));
  T* const to = reinterpret_cast<T*>(scratch.floats(v.size()));
  const T* const from = static_cast<const T*>(v.data);
  if (v.uniform()) {
    std::fill_n(to, v.size(), *from);
    return to;
  }
  // At most three axes, the missing ones first.
  std::ptrdiff_t n[3] = {1, 1, 1}, s[3] = {0, 0, 0};
  const std::size_t missing = 3 - v.shape.size();
  for (std::size_t k = 0; k < v.shape.size(); ++k) {
    n[missing + k] = v.shape[k];
    s[missing + k] = v.strides[k];
  }
  T* next = to;
  for (std::ptrdiff_t a = 0; a < n[0]; ++a)
    for (std::ptrdiff_t b = 0; b < n[1]; ++b) {
      const T* const row = from + a * s[0] + b * s[1];
      if (s[2] == 1) {
        next = std::copy_n(row, n[2], next);
        continue;
      }
      for (std::ptrdiff_t c = 0; c < n[2]; ++c) *next++ = row[c * s[2]];
    }
  return to;
}

// The cotangent of an output that nobody used is a broadcast zero; null stands for it.
inline const float* cotangent(const View& v, Scratch& scratch) {
  if (v.data && v.uniform() && *static_cast<const float*>(v.data) == 0) return nullptr;
  return contiguous<float>(v, scratch);
}

inline Matrix matrix(const View& v) {
  return {static_cast<const float*>(v.data), v.strides.empty() ? 0 : v.strides[0],
          v.strides.empty() ? 0 : v.strides[1]};
}

inline float* allocate(mx::array& a) {
  a.set_data(mx::allocator::malloc(a.nbytes()));
  return a.data<float>();
}

template <class Job>
void dispatch(mx::Stream stream, const Arrays& inputs, Arrays& outputs, Job&& job) {
  auto& encoder = mx::cpu::get_command_encoder(stream);
  for (const auto& a : inputs) encoder.set_input_array(a);
  for (auto& a : outputs) encoder.set_output_array(a);
  encoder.dispatch(std::forward<Job>(job));
}

}  // namespace lstm_bridge
