// The kernel's products, convolutions and normalisations against plain float64 equations: values,
// and gradients along a random direction by central differences. Part of kernel_test.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <vector>

#include "cells.hpp"

namespace dense_test {

using Index = std::ptrdiff_t;
using Doubles = std::vector<double>;
using Floats = std::vector<float>;
using Group = std::vector<Doubles>;
using lstm_bridge::Convolution;

inline std::size_t at(Index k) { return static_cast<std::size_t>(k); }

// x, W, bias
inline Doubles convolve(const Convolution& a, const Group& in) {
  Doubles y;
  const auto source = [&](Index place, int axis) {
    const Index k = place - a.before[axis];
    return k >= 0 && k % a.spread[axis] == 0 && k / a.spread[axis] < a.in[axis] ? k / a.spread[axis] : -1;
  };
  for (Index n = 0; n < a.N; ++n)
    for (Index i = 0; i < a.out[0]; ++i)
      for (Index j = 0; j < a.out[1]; ++j)
        for (Index o = 0; o < a.O; ++o) {
          double sum = in[2][at(o)];
          for (Index u = 0; u < a.window[0]; ++u)
            for (Index v = 0; v < a.window[1]; ++v) {
              const Index r = source(i * a.stride[0] + u * a.dilation[0], 0);
              const Index s = source(j * a.stride[1] + v * a.dilation[1], 1);
              for (Index c = 0; r >= 0 && s >= 0 && c < a.C; ++c)
                sum += in[0][at(((n * a.in[0] + r) * a.in[1] + s) * a.C + c)] *
                       in[1][at(((o * a.window[0] + u) * a.window[1] + v) * a.C + c)];
            }
          y.push_back(std::tanh(sum));
        }
  return y;
}

// x, gamma, beta
inline Doubles layer_norm(Index n, const Group& in) {
  Doubles y = in[0];
  for (std::size_t m = 0; m < y.size(); m += at(n)) {
    double mean = 0, variance = 0;
    for (Index j = 0; j < n; ++j) mean += y[m + at(j)] / static_cast<double>(n);
    for (Index j = 0; j < n; ++j) variance += std::pow(y[m + at(j)] - mean, 2) / static_cast<double>(n);
    for (Index j = 0; j < n; ++j)
      y[m + at(j)] = (y[m + at(j)] - mean) / std::sqrt(variance + 1e-3) * in[1][at(j)] + in[2][at(j)];
  }
  return y;
}

inline Doubles softmax(Index n, const Group& in) {
  Doubles y = in[0];
  for (std::size_t m = 0; m < y.size(); m += at(n)) {
    double sum = 0;
    for (Index j = 0; j < n; ++j) sum += y[m + at(j)] = std::exp(y[m + at(j)]);
    for (Index j = 0; j < n; ++j) y[m + at(j)] /= sum;
  }
  return y;
}

struct Random {
  std::mt19937 engine;
  std::uniform_real_distribution<float> uniform{-1, 1};

  Floats operator()(Index count) {
    Floats some(at(count));
    for (float& v : some) v = uniform(engine);
    return some;
  }
};

using Run = std::function<void(const std::vector<Floats>&, const Floats& dy, Floats& y,
                               std::vector<Floats>& gradients)>;

// How many of the value and the gradients are wrong.
inline int check(const char* variant, const char* what, Random& random,
                 const std::vector<Floats>& in, const std::function<Doubles(const Group&)>& exactly,
                 const Run& run) {
  Group exact;
  std::vector<Floats> gradients;
  for (const Floats& one : in) {
    exact.emplace_back(one.begin(), one.end());
    gradients.emplace_back(one.size());
  }
  const Doubles truth = exactly(exact);
  const Floats dy = random(static_cast<Index>(truth.size()));
  Floats y(truth.size());
  run(in, dy, y, gradients);
  int wrong = 0;
  double worst = 0;
  for (std::size_t k = 0; k < y.size(); ++k) worst = std::max(worst, std::abs(y[k] - truth[k]));
  if (!(worst < 1e-4)) std::printf("%s: %s is off by %g\n", variant, what, worst), ++wrong;
  const auto loss = [&](const Group& g) {
    const Doubles values = exactly(g);
    double sum = 0;
    for (std::size_t k = 0; k < values.size(); ++k) sum += values[k] * dy[k];
    return sum;
  };
  for (std::size_t k = 0; k < in.size(); ++k) {
    Group up = exact, down = exact;
    double along = 0, size = 0;
    for (std::size_t j = 0; j < in[k].size(); ++j) {
      const double way = random.uniform(random.engine);
      up[k][j] += 1e-6 * way, down[k][j] -= 1e-6 * way;
      along += way * gradients[k][j];
      size += std::abs(way * gradients[k][j]);
    }
    const double slope = (loss(up) - loss(down)) / 2e-6;
    if (std::abs(along - slope) <= 1e-3 * (size + 1e-3)) continue;
    std::printf("%s: %s, gradient %zu: %g for %g\n", variant, what, k, along, slope), ++wrong;
  }
  return wrong;
}

struct Case {
  Index N, C, O, in[2], out[2], window[2], stride[2], dilation[2], spread[2], before[2];
};

inline int check_convolution(const char* variant, const Case& of) {
  Convolution a;
  a.N = of.N, a.C = of.C, a.O = of.O;
  for (int axis = 0; axis < 2; ++axis) {
    a.in[axis] = of.in[axis], a.out[axis] = of.out[axis], a.window[axis] = of.window[axis];
    a.stride[axis] = of.stride[axis], a.dilation[axis] = of.dilation[axis];
    a.spread[axis] = of.spread[axis], a.before[axis] = of.before[axis];
  }
  Random random{std::mt19937(static_cast<unsigned>(a.C + a.O + a.in[0]))};
  a.x_step[3] = 1, a.x_step[2] = a.C, a.x_step[1] = a.in[1] * a.C;
  a.x_step[0] = a.in[0] * a.x_step[1];
  a.squash = lstm_bridge::Squash::kTanh;
  const std::vector<Floats> in = {random(a.N * a.x_step[0]), random(a.O * a.depth()), random(a.O)};
  return check(variant, "a convolution", random, in, [&](const Group& g) { return convolve(a, g); },
               [&](const auto& given, const Floats& dy, Floats& y, auto& d) {
                 a.x = given[0].data(), a.W = {given[1].data(), a.depth(), 1};
                 a.bias = given[2].data(), a.y = y.data();
                 lstm_bridge::cells().dense.convolution(a);
                 lstm_bridge::cells().dense.convolution_backward(
                     a, dy.data(), {d[0].data(), d[1].data(), d[2].data()});
               });
}

inline int check_rows(const char* variant, Index rows, Index n) {
  Random random{std::mt19937(static_cast<unsigned>(rows + n))};
  const auto& dense = lstm_bridge::cells().dense;
  int wrong = check(variant, "softmax", random, {random(rows * n)},
                    [&](const Group& g) { return softmax(n, g); },
                    [&](const auto& in, const Floats& dy, Floats& y, auto& d) {
                      dense.softmax(rows, n, in[0].data(), y.data());
                      dense.softmax_backward(rows, n, y.data(), dy.data(), d[0].data());
                    });
  wrong += check(variant, "a layer norm", random, {random(rows * n), random(n), random(n)},
                 [&](const Group& g) { return layer_norm(n, g); },
                 [&](const auto& in, const Floats& dy, Floats& y, auto& d) {
                   const lstm_bridge::Norm norm = {in[1].data(), in[2].data(), 1e-3f};
                   dense.layer_norm(rows, n, in[0].data(), norm, y.data());
                   dense.layer_norm_backward(rows, n, in[0].data(), norm, dy.data(), d[0].data(),
                                             {d[1].data(), d[2].data()});
                 });
  return wrong;
}

inline int check_maps(const char* variant, Index count) {
  Random random{std::mt19937(static_cast<unsigned>(count))};
  const auto& dense = lstm_bridge::cells().dense;
  int wrong = 0;
  for (const auto kind : {lstm_bridge::Map::kGelu, lstm_bridge::Map::kSilu})
    wrong += check(variant, "a map", random, {random(count)},
                   [&](const Group& g) {
                     Doubles y = g[0];
                     for (double& v : y)
                       v *= kind == lstm_bridge::Map::kSilu ? 1 / (1 + std::exp(-v))
                                                            : 0.5 * (1 + std::erf(v / std::sqrt(2.0)));
                     return y;
                   },
                   [&](const auto& in, const Floats& dy, Floats& y, auto& d) {
                     dense.map(kind, count, in[0].data(), y.data());
                     dense.map_backward(kind, count, in[0].data(), dy.data(), d[0].data());
                   });
  return wrong;
}

// Windows of 3 × 2 that overlap, on a border of one.
inline int check_pool(const char* variant, Index C) {
  Random random{std::mt19937(static_cast<unsigned>(C))};
  lstm_bridge::Pooling p;
  p.N = 2, p.C = C;
  const Index sizes[][2] = {{6, 5}, {3, 3}, {3, 2}, {2, 2}, {1, 1}, {1, 1}};
  for (int k = 0; k < 2; ++k) {
    p.in[k] = sizes[0][k], p.out[k] = sizes[1][k], p.window[k] = sizes[2][k];
    p.stride[k] = sizes[3][k], p.dilation[k] = sizes[4][k], p.before[k] = sizes[5][k];
  }
  const auto exactly = [&](const Group& g) {
    Doubles y;
    for (Index at_y = 0; at_y < p.N * 9 * C; ++at_y) {
      const Index c = at_y % C, j = at_y / C % 3, i = at_y / C / 3 % 3, n = at_y / C / 9;
      double best = -INFINITY;
      for (Index r = std::max<Index>(0, 2 * i - 1); r < std::min<Index>(6, 2 * i + 2); ++r)
        for (Index s = std::max<Index>(0, 2 * j - 1); s < std::min<Index>(5, 2 * j + 1); ++s)
          best = std::max(best, g[0][at(((n * 6 + r) * 5 + s) * C + c)]);
      y.push_back(best);
    }
    return y;
  };
  return check(variant, "pooling", random, {random(p.N * 30 * C)}, exactly,
               [&](const auto& in, const Floats& dy, Floats& y, auto& d) {
                 p.x = in[0].data(), p.y = y.data();
                 lstm_bridge::cells().dense.pool(p);
                 lstm_bridge::cells().dense.pool_backward(p, dy.data(), d[0].data());
               });
}

// x, mean, var, gamma, beta
inline int check_batch_norm(const char* variant, Index rows, Index n) {
  Random random{std::mt19937(static_cast<unsigned>(100 + n))};
  const auto exactly = [&](const Group& g) {
    Doubles y = g[0];
    for (std::size_t k = 0; k < y.size(); ++k) {
      const std::size_t c = k % at(n);
      y[k] = (y[k] - g[1][c]) / std::sqrt(g[2][c] + 1.5) * g[3][c] + g[4][c];
    }
    return y;
  };
  return check(variant, "batch norm", random,
               {random(rows * n), random(n), random(n), random(n), random(n)}, exactly,
               [&](const auto& in, const Floats& dy, Floats& y, auto& d) {
                 const lstm_bridge::BatchNorm norm{in[1].data(), in[2].data(), in[3].data(),
                                                   in[4].data(), 1.5f};
                 y = in[0];  // in its place
                 lstm_bridge::cells().dense.batch_norm(rows, n, y.data(), norm, y.data());
                 lstm_bridge::cells().dense.batch_norm_backward(
                     rows, n, in[0].data(), norm, dy.data(),
                     {d[0].data(), d[1].data(), d[2].data(), d[3].data(), d[4].data()});
               });
}

// q, k, v; the weights are summed up into the last output.
inline int check_attention(const char* variant, Index L, Index S, Index E, Index V) {
  constexpr Index N = 2, h = 3;
  constexpr float scale = 0.75f;
  Random random{std::mt19937(static_cast<unsigned>(L + S + E + V))};
  const auto exactly = [&](const Group& g) {
    Doubles y(at(N * L * h * V), 0.0), all;
    for (Index n = 0; n < N; ++n)
      for (Index head = 0; head < h; ++head)
        for (Index l = 0; l < L; ++l) {
          Doubles w;
          double sum = 0;
          for (Index s = 0; s < S; ++s) {
            double score = 0;
            for (Index e = 0; e < E; ++e)
              score += g[0][at(((n * L + l) * h + head) * E + e)] *
                       g[1][at(((n * S + s) * h + head) * E + e)];
            w.push_back(std::exp(scale * score));
            sum += w.back();
          }
          for (Index s = 0; s < S; ++s) {
            all.push_back(w[at(s)] / sum);
            for (Index c = 0; c < V; ++c)
              y[at(((n * L + l) * h + head) * V + c)] +=
                  w[at(s)] / sum * g[2][at(((n * S + s) * h + head) * V + c)];
          }
        }
    y.insert(y.end(), all.begin(), all.end());
    return y;
  };
  return check(variant, "attention", random,
               {random(N * L * h * E), random(N * S * h * E), random(N * S * h * V)}, exactly,
               [&](const auto& in, const Floats& dy, Floats& y, auto& d) {
                 const auto of = [&](int k, Index steps, Index width) {
                   return lstm_bridge::Matrices{{in[at(k)].data(), h * width, 1}, steps * h * width, width};
                 };
                 const Index front = N * L * h * V;
                 const lstm_bridge::Attention a{N, h, L, S, E, V, of(0, L, E), of(1, S, E),
                                                of(2, S, V), scale, y.data(), y.data() + front};
                 lstm_bridge::cells().dense.attention(a);
                 lstm_bridge::cells().dense.attention_backward(
                     a, {dy.data(), dy.data() + front, d[0].data(), d[1].data(), d[2].data(), h * E,
                         h * E, h * V});
               });
}

// All ways in which two matrices may lie.
inline int check_products(const char* variant, Index batch, Index M, Index D, Index O) {
  Random random{std::mt19937(static_cast<unsigned>(M + D + O))};
  const Floats a = random(batch * M * D), b = random(D * O);
  double worst = 0;
  for (const bool across : {false, true})
    for (const bool down : {false, true}) {
      Floats y(at(batch * M * O));
      const lstm_bridge::Matrix left = across ? lstm_bridge::Matrix{a.data(), 1, M}
                                              : lstm_bridge::Matrix{a.data(), D, 1};
      const lstm_bridge::Matrix right = down ? lstm_bridge::Matrix{b.data(), 1, D}
                                             : lstm_bridge::Matrix{b.data(), O, 1};
      lstm_bridge::cells().dense.products(
          {1, batch, M, D, O, {left, 0, M * D}, {right, 0, 0}, y.data()});
      for (Index k = 0; k < batch * M * O; ++k) {
        double sum = 0;
        for (Index d = 0; d < D; ++d)
          sum += double(a[at(k / (M * O) * M * D + k / O % M * left.row + d * left.column)]) *
                 b[at(d * right.row + k % O * right.column)];
        worst = std::max(worst, std::abs(sum - y[at(k)]) / static_cast<double>(1 + D));
      }
    }
  if (worst < 1e-6) return 0;
  std::printf("%s: products %td,%td,%td,%td are off by %g\n", variant, batch, M, D, O, worst);
  return 1;
}

inline int run(const char* variant) {
  int wrong = 0;
  for (const Index O : {1, 17, 70})
    for (const Index C : {1, 3, 18}) {
      wrong += check_convolution(variant, {2, C, O, {7, 5}, {7, 5}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}});
      wrong += check_convolution(variant, {1, C, O, {9, 1}, {4, 1}, {3, 1}, {2, 1}, {1, 1}, {1, 1}, {0, 0}});
      wrong += check_convolution(variant, {2, C, O, {5, 4}, {5, 3}, {2, 3}, {2, 1}, {1, 2}, {2, 1}, {1, -1}});
    }
  for (const Index n : {1, 5, 16, 33}) {
    wrong += check_rows(variant, 7, n);
    wrong += check_maps(variant, n) + check_pool(variant, n);
    wrong += check_batch_norm(variant, 7, n) + check_attention(variant, 9, n, 5, 18);
    wrong += check_attention(variant, n, 35, 20, 3);
  }
  for (const Index M : {1, 5, 40})
    for (const Index D : {1, 3, 33})
      for (const Index O : {1, 17, 70}) wrong += check_products(variant, 3, M, D, O);
  return wrong;
}

}  // namespace dense_test
