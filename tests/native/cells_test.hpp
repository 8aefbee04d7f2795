// The kernel's mLSTM, sLSTM and affine maps against plain float64 equations: values, and gradients
// along a random direction by central differences. Part of kernel_test.cpp.
#pragma once

#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <vector>

#include "cells.hpp"

namespace cells_test {

using Index = std::ptrdiff_t;
using Doubles = std::vector<double>;
using Floats = std::vector<float>;
using Group = std::vector<Doubles>;  // an operation's inputs

inline double squash(double z) { return 1 / (1 + std::exp(-z)); }

inline Doubles affine(const Doubles& x, Index rows, const Doubles& W, const Doubles& b) {
  const Index O = static_cast<Index>(b.size()), D = static_cast<Index>(W.size()) / O;
  Doubles y(static_cast<std::size_t>(rows * O));
  for (Index m = 0; m < rows; ++m)
    for (Index o = 0; o < O; ++o) {
      double sum = b[o];
      for (Index k = 0; k < D; ++k) sum += x[m * D + k] * W[o * D + k];
      y[m * O + o] = sum;
    }
  return y;
}

inline void normalise(double* z, Index n, const Doubles& gamma, const Doubles& beta) {
  double mean = 0, variance = 0;
  for (Index j = 0; j < n; ++j) mean += z[j] / n;
  for (Index j = 0; j < n; ++j) variance += (z[j] - mean) * (z[j] - mean) / n;
  for (Index j = 0; j < n; ++j)
    z[j] = (z[j] - mean) / std::sqrt(variance + 1e-5) * gamma[j] + beta[j];
}

// Inputs: x, c0, n0, then W, bias, gamma, beta of k, v, i, f, o. The outputs h of all steps.
inline Doubles mlstm(const Group& in, Index L, Index N, Index H) {
  std::vector<Doubles> z;
  for (int g = 0; g < 5; ++g) {
    z.push_back(affine(in[0], L * N, in[3 + 4 * g], in[4 + 4 * g]));
    for (double& v : z[g]) v *= g ? 1 : 1 / std::sqrt(double(H));
    for (Index at = 0; at < L * N; ++at) normalise(&z[g][at * H], H, in[5 + 4 * g], in[6 + 4 * g]);
  }
  Doubles c = in[1], n = in[2], y(static_cast<std::size_t>(L * N * H));
  for (Index at = 0; at < L * N; ++at) {
    double keys = 0, length = 0;
    for (Index j = 0; j < H; ++j) keys += z[0][at * H + j];
    for (Index j = 0; j < H; ++j) {
      const Index s = at % N * H + j, p = at * H + j;
      const double i = squash(z[2][p]), f = squash(z[3][p]);
      c[s] = f * c[s] + i * keys * z[1][p];
      n[s] = f * n[s] + i * z[0][p];
      length += n[s] * n[s];
    }
    for (Index j = 0; j < H; ++j) {
      const Index s = at % N * H + j, p = at * H + j;
      y[p] = squash(z[4][p]) * std::tanh(c[s] * n[s] / (std::sqrt(length) + 1e-8));
    }
  }
  return y;
}

// Inputs: x, h0, c0, Wx, bias_x, Wh, bias_h, then gamma, beta of five norms.
inline Doubles slstm(const Group& in, Index L, Index N, Index H) {
  Doubles zx = affine(in[0], L * N, in[3], in[4]), h = in[1], c = in[2], y;
  for (Index t = 0; t < L; ++t) {
    Doubles zh = affine(h, N, in[5], in[6]);
    for (Index n = 0; n < N; ++n) {
      double* const z = &zx[(t * N + n) * 4 * H];
      normalise(z, 4 * H, in[7], in[8]);
      normalise(&zh[n * 4 * H], 4 * H, in[9], in[10]);
      for (Index j = 0; j < 4 * H; ++j) z[j] += zh[n * 4 * H + j];
      for (int g = 0; g < 2; ++g) {
        double mean = 0, sum = 1e-6;
        for (Index j = 0; j < H; ++j) mean += z[g * H + j] / H;
        for (Index j = 0; j < H; ++j) {
          z[g * H + j] = std::exp(std::min(5.0, std::max(-5.0, z[g * H + j] - mean)));
          sum += z[g * H + j];
        }
        for (Index j = 0; j < H; ++j) z[g * H + j] /= sum;
      }
      double* const cell = &c[n * H];
      for (Index j = 0; j < H; ++j)
        cell[j] = (z[H + j] * cell[j] + z[j] * std::tanh(z[2 * H + j])) / (z[j] + z[H + j] + 1e-6);
      normalise(cell, H, in[11], in[12]);
      Doubles out(cell, cell + H);
      for (double& v : out) v = std::tanh(v);
      normalise(out.data(), H, in[13], in[14]);
      for (Index j = 0; j < H; ++j) out[j] *= squash(z[3 * H + j]);
      normalise(out.data(), H, in[15], in[16]);
      std::copy(out.begin(), out.end(), h.begin() + n * H);
    }
    y.insert(y.end(), h.begin(), h.end());
  }
  return y;
}

struct Ours {
  Floats y;
  std::vector<Floats> gradients;  // of sum(y · dy)
};

inline Ours run_mlstm(const std::vector<Floats>& in, const Floats& dy, Index L, Index N, Index D,
                      Index H) {
  Ours o;
  o.y.resize(static_cast<std::size_t>(L * N * H));
  for (const Floats& one : in) o.gradients.emplace_back(one.size());
  Floats c(in[1].size()), n(in[1].size());
  lstm_bridge::MLSTM s;
  s.L = L, s.N = N, s.D = D, s.H = H;
  Floats z(static_cast<std::size_t>(L * N * s.z_row()));
  s.x = in[0].data(), s.c0 = in[1].data(), s.n0 = in[2].data();
  s.y = o.y.data(), s.c = c.data(), s.n = n.data();
  s.z = z.data();
  lstm_bridge::MLSTMGradients d;
  d.dy = dy.data();
  d.x = o.gradients[0].data(), d.c0 = o.gradients[1].data(), d.n0 = o.gradients[2].data();
  for (int g = 0; g < 5; ++g) {
    const int k = 3 + 4 * g;
    s.W[g] = {in[k].data(), D, 1};
    s.bias[g] = in[k + 1].data();
    s.norm[g] = {in[k + 2].data(), in[k + 3].data(), 1e-5f};
    d.W[g] = o.gradients[k].data(), d.bias[g] = o.gradients[k + 1].data();
    d.norm[g] = {o.gradients[k + 2].data(), o.gradients[k + 3].data()};
  }
  lstm_bridge::cells().mlstm(s);
  lstm_bridge::cells().mlstm_backward(s, d);
  return o;
}

inline Ours run_slstm(const std::vector<Floats>& in, const Floats& dy, Index L, Index N, Index D,
                      Index H) {
  Ours o;
  o.y.resize(static_cast<std::size_t>(L * N * H));
  for (const Floats& one : in) o.gradients.emplace_back(one.size());
  Floats h(in[1].size()), c(in[1].size());
  lstm_bridge::SLSTM s;
  s.L = L, s.N = N, s.D = D, s.H = H;
  Floats z(static_cast<std::size_t>(L * N * s.z_row()));
  auto& g = o.gradients;
  s.x = in[0].data(), s.h0 = in[1].data(), s.c0 = in[2].data();
  s.Wx = {in[3].data(), D, 1}, s.bias_x = in[4].data();
  s.Wh = {in[5].data(), H, 1}, s.bias_h = in[6].data();
  s.y = o.y.data(), s.h = h.data(), s.c = c.data();
  s.z = z.data();
  lstm_bridge::SLSTMGradients d;
  d.dy = dy.data();
  d.x = g[0].data(), d.h0 = g[1].data(), d.c0 = g[2].data(), d.Wx = g[3].data();
  d.bias_x = g[4].data(), d.Wh = g[5].data(), d.bias_h = g[6].data();
  for (int k = 0; k < 5; ++k) {
    s.norm[k] = {in[7 + 2 * k].data(), in[8 + 2 * k].data(), 1e-5f};
    d.norm[k] = {g[7 + 2 * k].data(), g[8 + 2 * k].data()};
  }
  lstm_bridge::cells().slstm(s);
  lstm_bridge::cells().slstm_backward(s, d);
  return o;
}

// One cell of one size; how many of its arrays are wrong.
inline int check(const char* variant, bool m, Index L, Index N, Index D, Index H) {
  std::mt19937 random(static_cast<unsigned>(L + N + D + H));
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<Floats> in;
  const auto add = [&](Index count, float scale, float shift) {
    in.emplace_back(static_cast<std::size_t>(count));
    for (float& v : in.back()) v = shift + scale * uniform(random);
  };
  for (const Index count : {L * N * D, N * H, N * H}) add(count, 1, 0);
  const Index gates = m ? 1 : 4;
  const float scale = 1 / std::sqrt(static_cast<float>(D));
  for (int g = 0; g < (m ? 5 : 1); ++g) {
    add(gates * H * D, scale, 0), add(gates * H, 1, 0);
    if (m) add(H, 0.3f, 1), add(H, 1, 0);
  }
  if (!m) {
    add(4 * H * H, 1 / std::sqrt(static_cast<float>(H)), 0), add(4 * H, 1, 0);
    for (const Index wide : {4 * H, 4 * H, H, H, H}) add(wide, 0.3f, 1), add(wide, 1, 0);
  }
  Floats dy(static_cast<std::size_t>(L * N * H));
  for (float& v : dy) v = uniform(random);
  const Ours ours = m ? run_mlstm(in, dy, L, N, D, H) : run_slstm(in, dy, L, N, D, H);
  Group exact;
  for (const Floats& one : in) exact.emplace_back(one.begin(), one.end());
  const auto reference = [&](const Group& g) { return m ? mlstm(g, L, N, H) : slstm(g, L, N, H); };
  const auto loss = [&](const Group& g) {
    const Doubles y = reference(g);
    double sum = 0;
    for (std::size_t k = 0; k < y.size(); ++k) sum += y[k] * dy[k];
    return sum;
  };
  int wrong = 0;
  const Doubles y = reference(exact);
  double worst = 0;
  for (std::size_t k = 0; k < y.size(); ++k) worst = std::max(worst, std::abs(ours.y[k] - y[k]));
  if (!(worst < 1e-4)) std::printf("%s: cell %d, y is off by %g\n", variant, !m, worst), ++wrong;
  for (std::size_t k = 0; k < in.size(); ++k) {
    Group up = exact, down = exact;
    double along = 0, size = 0;
    for (std::size_t j = 0; j < in[k].size(); ++j) {
      const double way = uniform(random);
      up[k][j] += 1e-6 * way, down[k][j] -= 1e-6 * way;
      along += way * ours.gradients[k][j];
      size += std::abs(way * ours.gradients[k][j]);
    }
    const double truth = (loss(up) - loss(down)) / 2e-6;
    if (std::abs(along - truth) <= 1e-3 * (size + 1e-3)) continue;
    std::printf("%s: cell %d, gradient %zu: %g for %g\n", variant, !m, k, along, truth), ++wrong;
  }
  return wrong;
}

inline int check_affine(const char* variant, Index M, Index D, Index O, bool turned) {
  std::mt19937 random(static_cast<unsigned>(M + D + O));
  std::uniform_real_distribution<float> uniform(-1, 1);
  Floats x(M * D), W(O * D), b(O), y(M * O), dy(M * O), dx(M * D), dW(O * D), db(O);
  for (Floats* one : {&x, &W, &b, &dy})
    for (float& v : *one) v = uniform(random);
  lstm_bridge::Affine a;
  a.M = M, a.D = D, a.O = O, a.x = x.data(), a.x_row = D, a.bias = b.data();
  a.W = turned ? lstm_bridge::Matrix{W.data(), 1, O} : lstm_bridge::Matrix{W.data(), D, 1};
  a.y = y.data(), a.y_row = O;
  lstm_bridge::cells().affine(a);
  lstm_bridge::cells().affine_backward(a, dy.data(), {dx.data(), dW.data(), db.data(), turned});
  double worst = 0;
  const auto w = [&](Index o, Index k) { return turned ? k * O + o : o * D + k; };
  for (Index m = 0; m < M; ++m)
    for (Index o = 0; o < O; ++o) {
      double sum = b[o];
      for (Index k = 0; k < D; ++k) sum += double(x[m * D + k]) * W[w(o, k)];
      worst = std::max(worst, std::abs(sum - y[m * O + o]) / (1 + D));
    }
  for (Index o = 0; o < O; ++o)
    for (Index k = 0; k < D; ++k) {
      double sum = 0;
      for (Index m = 0; m < M; ++m) sum += double(dy[m * O + o]) * x[m * D + k];
      worst = std::max(worst, std::abs(sum - dW[w(o, k)]) / (1 + M));
    }
  for (Index m = 0; m < M; ++m)
    for (Index k = 0; k < D; ++k) {
      double sum = 0;
      for (Index o = 0; o < O; ++o) sum += double(dy[m * O + o]) * W[w(o, k)];
      worst = std::max(worst, std::abs(sum - dx[m * D + k]) / (1 + O));
    }
  if (worst < 1e-6) return 0;
  std::printf("%s: affine %td,%td,%td is off by %g\n", variant, M, D, O, worst);
  return 1;
}

inline int run(const char* variant) {
  int wrong = 0;
  const Index sizes[][4] = {{3, 2, 3, 5}, {4, 7, 5, 17}, {2, 13, 33, 48}, {3, 1, 1, 16},
                           {7, 37, 2, 130}};
  for (const auto& n : sizes)
    for (const bool m : {false, true}) wrong += check(variant, m, n[0], n[1], n[2], n[3]);
  for (const Index M : {1, 5, 7, 40})
    for (const Index D : {1, 3, 33})
      for (const Index O : {1, 17, 64, 70})
        for (const bool turned : {false, true}) wrong += check_affine(variant, M, D, O, turned);
  return wrong;
}

}  // namespace cells_test
