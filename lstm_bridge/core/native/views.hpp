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

inline Half half_of(mx::Dtype dtype) {
  if (dtype == mx::float16) return Half::kFloat16;
  return dtype == mx::bfloat16 ? Half::kBFloat16 : Half::kNone;
}

// An input as the kernel's own thread will read it, of at most four axes; it holds no array.
struct View {
  const void* data = nullptr;
  int rank = 0;
  std::ptrdiff_t shape[4] = {1, 1, 1, 1}, strides[4] = {0, 0, 0, 0};
  bool compact = false;
  bool whole = false;  // without gaps, its axes in any order
  Half half = Half::kNone;

  View() = default;
  explicit View(const mx::array& a)
      : data(a.data<char>()),
        rank(static_cast<int>(a.ndim())),
        compact(a.flags().row_contiguous),
        whole(a.flags().contiguous && a.data_size() == a.size()),
        half(half_of(a.dtype())) {
    for (int k = 0; k < rank; ++k) {
      shape[k] = a.shape(k);
      strides[k] = a.strides(k);
    }
  }
  // A whole array of floats.
  View(const float* from, std::ptrdiff_t a, std::ptrdiff_t b, std::ptrdiff_t c)
      : data(from), rank(3), shape{a, b, c, 1}, strides{b * c, c, 1, 0}, compact(true) {}

  std::ptrdiff_t size() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
  bool uniform() const {
    for (int k = 0; k < rank; ++k)
      if (shape[k] != 1 && strides[k] != 0) return false;
    return true;
  }
  // With the first two axes exchanged.
  View turned() const {
    View v = *this;
    std::swap(v.shape[0], v.shape[1]);
    std::swap(v.strides[0], v.strides[1]);
    v.compact = v.in_order();
    return v;
  }
  // With the axes in the order in which another's lie in memory.
  View ordered_as(const View& other) const {
    int order[4] = {0, 1, 2, 3};
    std::stable_sort(order, order + rank,
                     [&](int a, int b) { return other.strides[a] > other.strides[b]; });
    View v = *this;
    for (int k = 0; k < rank; ++k) {
      v.shape[k] = shape[order[k]];
      v.strides[k] = strides[order[k]];
    }
    v.compact = v.in_order();
    return v;
  }
  // With an axis of one in front.
  View inside() const {
    View v = *this;
    ++v.rank;
    v.shape[0] = 1;
    v.strides[0] = 0;
    for (int k = 0; k < rank; ++k) {
      v.shape[k + 1] = shape[k];
      v.strides[k + 1] = strides[k];
    }
    return v;
  }
  // Floats at index k of the first axis.
  View part(std::ptrdiff_t k) const {
    View v;
    v.data = static_cast<const float*>(data) + k * strides[0];
    v.rank = rank - 1;
    for (int axis = 0; axis < v.rank; ++axis) {
      v.shape[axis] = shape[axis + 1];
      v.strides[axis] = strides[axis + 1];
    }
    v.compact = v.in_order();
    return v;
  }

 private:
  bool in_order() const {
    std::ptrdiff_t step = 1;
    for (int k = rank; k-- > 0; step *= shape[k])
      if (shape[k] != 1 && strides[k] != step) return false;
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
  // At most four axes, the missing ones first.
  std::ptrdiff_t n[4] = {1, 1, 1, 1}, s[4] = {0, 0, 0, 0};
  const int missing = 4 - v.rank;
  for (int k = 0; k < v.rank; ++k) {
    n[missing + k] = v.shape[k];
    s[missing + k] = v.strides[k];
  }
  T* next = to;
  for (std::ptrdiff_t a = 0; a < n[0] * n[1]; ++a)
    for (std::ptrdiff_t b = 0; b < n[2]; ++b) {
      const T* const row = from + a / n[1] * s[0] + a % n[1] * s[1] + b * s[2];
      if (s[3] == 1) {
        next = std::copy_n(row, n[3], next);
        continue;
      }
      for (std::ptrdiff_t c = 0; c < n[3]; ++c) *next++ = row[c * s[3]];
    }
  return to;
}

// The cotangent of an output that nobody used is a broadcast zero; null stands for it.
inline const float* cotangent(const View& v, Scratch& scratch) {
  if (v.data && v.uniform() && *static_cast<const float*>(v.data) == 0) return nullptr;
  return contiguous<float>(v, scratch);
}

inline Matrix matrix(const View& v) {
  return {static_cast<const float*>(v.data), v.strides[0], v.strides[1]};
}

// Operations up to which a call is computed where it stands: some 0.1 ms. Scheduling one costs a
// quarter of that.
constexpr double kAtOnce = 16e6;

// One without gaps whose axes lie in the order of another's, if that is given.
inline mx::array empty(mx::Shape shape, mx::Dtype dtype, const mx::array* like = nullptr) {
  std::size_t bytes = mx::size_of(dtype);
  for (const auto n : shape) bytes *= static_cast<std::size_t>(n);
  auto memory = mx::allocator::malloc(bytes);
  if (!like) return mx::array(std::move(memory), std::move(shape), dtype);
  mx::array a(std::move(shape), dtype, nullptr, {});
  a.set_data(std::move(memory), like->data_size(), like->strides(), like->flags());
  a.set_status(mx::array::Status::available);
  return a;
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
