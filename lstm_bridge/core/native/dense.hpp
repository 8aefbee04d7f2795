// What the kernel computes that has no state: affine maps, products, convolutions, normalisations.
//
// Shape letters: M rows, D input, O output, N batch, C channels. All numbers are float32.
#pragma once

#include <cstddef>

#include "kernel.hpp"

namespace lstm_bridge {

enum class Squash { kNone, kSigmoid, kTanh, kRelu };

// y[m, o] = squash(sum_d x[m, d] W[o, d] + bias[o])
struct Affine {
  std::ptrdiff_t M = 0, D = 0, O = 0;
  const float* x = nullptr;  // [M, D], D contiguous
  std::ptrdiff_t x_row = 0;
  Matrix W;                     // [O, D]
  const float* bias = nullptr;  // [O], or null
  float* y = nullptr;           // [M, O], O contiguous
  std::ptrdiff_t y_row = 0;
  Squash squash = Squash::kNone;
};

// Each may be null where it is not wanted.
struct AffineGradients {
  float* x = nullptr;     // [M, D]
  float* W = nullptr;     // [O, D]
  float* bias = nullptr;  // [O]
  bool turned = false;    // W is [D, O] instead
};

// Matrices along two axes of a batch, each with a step of its own.
struct Matrices {
  Matrix first;
  std::ptrdiff_t outer = 0, inner = 0;

  Matrix at(std::ptrdiff_t i, std::ptrdiff_t j) const {
    return {first.data + i * outer + j * inner, first.row, first.column};
  }
  Matrices turned() const { return {{first.data, first.column, first.row}, outer, inner}; }
};

// y[i, j] = a[i, j] · b[i, j]
struct Products {
  std::ptrdiff_t outer = 0, inner = 0;  // of the batch
  std::ptrdiff_t M = 0, D = 0, O = 0;
  Matrices a;          // [M, D]
  Matrices b;          // [D, O]
  float* y = nullptr;  // [outer, inner, M, O]
};

// y[n, i, j, o] = squash(sum_{u, v, c} x(n, i s + u d - p, j s' + v d' - p', c) W[o, u, v, c]
//                        + bias[o]),
// where x is zero outside and, where spread, between its elements.
struct Convolution {
  std::ptrdiff_t N = 0, C = 0, O = 0;
  std::ptrdiff_t in[2] = {}, out[2] = {}, window[2] = {};
  std::ptrdiff_t stride[2] = {1, 1}, dilation[2] = {1, 1}, spread[2] = {1, 1};
  std::ptrdiff_t before[2] = {};  // p: zeros in front, or what is left out
  const float* x = nullptr;       // [N, in, in', C]
  std::ptrdiff_t x_step[4] = {};
  Matrix W;                     // [O, window · window' · C]
  bool channels_first = false;  // W is [O, C · window · window'] instead: on the way there only
  const float* bias = nullptr;  // [O], or null
  float* y = nullptr;           // [N, out, out', O]
  Squash squash = Squash::kNone;

  std::ptrdiff_t depth() const { return window[0] * window[1] * C; }
  std::ptrdiff_t pixels() const { return N * out[0] * out[1]; }
};

// Each may be null where it is not wanted; contiguous.
struct ConvolutionGradients {
  float* x = nullptr;
  float* W = nullptr;
  float* bias = nullptr;
};

// y[n, i, j, c] = the largest x(n, i s + u d - p, j s' + v d' - p', c) that is inside.
struct Pooling {
  std::ptrdiff_t N = 0, C = 0;
  std::ptrdiff_t in[2] = {}, out[2] = {}, window[2] = {};
  std::ptrdiff_t stride[2] = {1, 1}, dilation[2] = {1, 1}, before[2] = {};
  const float* x = nullptr;  // [N, in, in', C]
  float* y = nullptr;        // [N, out, out', C]
};

enum class Map { kGelu, kSilu };

// Normalisation over the last axis: gamma (z - mean) / sqrt(variance + eps) + beta; none where
// gamma is null.
struct Norm {
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float eps = 0;
};

struct NormGradients {
  float* gamma = nullptr;
  float* beta = nullptr;
};

// Normalisation of channels, the last axis, by given moments: gamma (x - mean) / sqrt(var + eps) +
// beta; ones where gamma is null, zeros where beta is.
struct BatchNorm {
  const float* mean = nullptr;
  const float* var = nullptr;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float eps = 0;
};

// Each may be null where it is not wanted.
struct BatchNormGradients {
  float* x = nullptr;
  float* mean = nullptr;
  float* var = nullptr;
  float* gamma = nullptr;
  float* beta = nullptr;
};

// y[n, l, head] = sum_s w[n, head, l, s] v[n, head, s],
// w[n, head, l] = softmax_s(scale q[n, head, l] · k[n, head, s]), each head on its part of the width.
struct Attention {
  std::ptrdiff_t N = 0, heads = 0, L = 0, S = 0, E = 0, V = 0;  // E, V: widths of one head
  Matrices q, k, v;          // of batch and head; columns lie side by side
  float scale = 1;           // positive
  float* y = nullptr;        // [N, L, heads · V]
  float* weights = nullptr;  // [N, heads, L, S], or null; on the way back: values
};

struct AttentionGradients {
  const float* y = nullptr;        // cotangent
  const float* weights = nullptr;  // cotangent, or null for zeros
  // Wanted gradients, all or none; they lie as the values do, but for the steps.
  float *q = nullptr, *k = nullptr, *v = nullptr;
  std::ptrdiff_t q_row = 0, k_row = 0, v_row = 0;
};

// One instruction set's code.
struct Dense {
  void (*products)(const Products&);
  void (*convolution)(const Convolution&);
  // y holds the values, dy their cotangent.
  void (*convolution_backward)(const Convolution&, const float* dy, const ConvolutionGradients&);
  // Over rows of n numbers, which follow each other.
  void (*softmax)(std::ptrdiff_t rows, std::ptrdiff_t n, const float* x, float* y);
  void (*softmax_backward)(std::ptrdiff_t rows, std::ptrdiff_t n, const float* y, const float* dy,
                           float* dx);
  void (*layer_norm)(std::ptrdiff_t rows, std::ptrdiff_t n, const float* x, const Norm&, float* y);
  // dx may be null where it is not wanted.
  void (*layer_norm_backward)(std::ptrdiff_t rows, std::ptrdiff_t n, const float* x, const Norm&,
                              const float* dy, float* dx, const NormGradients&);
  void (*map)(Map, std::ptrdiff_t count, const float* x, float* y);
  void (*map_backward)(Map, std::ptrdiff_t count, const float* x, const float* dy, float* dx);
  void (*sum)(std::ptrdiff_t count, const float* a, const float* b, float* y);  // y may be a
  void (*pool)(const Pooling&);
  void (*pool_backward)(const Pooling&, const float* dy, float* dx);
  // x and y may be the same memory.
  void (*batch_norm)(std::ptrdiff_t rows, std::ptrdiff_t n, const float* x, const BatchNorm&, float* y);
  void (*batch_norm_backward)(std::ptrdiff_t rows, std::ptrdiff_t n, const float* x, const BatchNorm&,
                              const float* dy, const BatchNormGradients&);
  void (*attention)(const Attention&);
  void (*attention_backward)(const Attention&, const AttentionGradients&);
};

}  // namespace lstm_bridge
