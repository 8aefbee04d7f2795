// The kernel unit against a plain float64 LSTM of its own: every variant of this processor, values
// and gradients, odd sizes, masks, transposed weights, two threads at once. Exits 0 when all agree.
// Compiled alone (sanitizers, cross-compilation), it needs neither MLX nor Python.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "cells_test.hpp"
#include "dense_test.hpp"
#include "half_test.hpp"
#include "kernel.hpp"
#include "one_state_test.hpp"
#include "vast_test.hpp"

namespace {

using lstm_bridge::Matrix;
using lstm_bridge::Shape;
using Floats = std::vector<float>;
using Doubles = std::vector<double>;
using Index = std::ptrdiff_t;

std::atomic<int> failures{0};

struct Case {
  Index L, N, D, H, P;
  bool reverse, masked, zero_masked, projected, states, transposed, strided, cells;
};

struct Data {
  Floats x, Wx, Wh, Wp, bias, h0, c0, dy, dh, dc, dcells;
  std::unique_ptr<bool[]> mask;
};

Floats draw(std::mt19937& random, Index count, float scale) {
  std::uniform_real_distribution<float> uniform(-scale, scale);
  Floats values(static_cast<std::size_t>(count));
  for (float& v : values) v = uniform(random);
  return values;
}

Data make(const Case& k, unsigned seed) {
  std::mt19937 random(seed);
  const float scale = 1.5f / std::sqrt(static_cast<float>(k.H));
  Data d;
  d.x = draw(random, k.L * k.N * k.D, 1);
  d.Wx = draw(random, 4 * k.H * k.D, scale);
  d.Wh = draw(random, 4 * k.H * k.P, scale);
  d.Wp = draw(random, k.P * k.H, scale);
  d.bias = draw(random, 4 * k.H, 1);
  d.h0 = draw(random, k.N * k.P, 1);
  d.c0 = draw(random, k.N * k.H, 2);
  d.dy = draw(random, k.L * k.N * k.P, 1);
  d.dh = draw(random, k.N * k.P, 1);
  d.dc = draw(random, k.N * k.H, 1);
  d.dcells = draw(random, k.L * k.N * k.H, 1);
  d.mask.reset(new bool[static_cast<std::size_t>(k.L * k.N + 1)]);
  for (Index at = 0; at < k.L * k.N; ++at) d.mask[at] = random() % 3 != 0 && at % k.N != 2;
  return d;
}

struct Result {
  Doubles y, h, c, cells, dx, dWx, dWh, dWp, dbias, dh0, dc0;
};

double squash(double z) { return 1 / (1 + std::exp(-z)); }

// The equations, one number at a time.
Result reference(const Case& k, const Data& d) {
  const Index L = k.L, N = k.N, D = k.D, H = k.H, P = k.P;
  Result r;
  const auto zeros = [](Index n) { return Doubles(static_cast<std::size_t>(n), 0.0); };
  r.y = zeros(L * N * P); r.cells = zeros(L * N * H); r.h = zeros(N * P); r.c = zeros(N * H);
  r.dx = zeros(L * N * D); r.dWx = zeros(4 * H * D); r.dWh = zeros(4 * H * P);
  r.dWp = zeros(P * H); r.dbias = zeros(4 * H); r.dh0 = zeros(N * P); r.dc0 = zeros(N * H);
  Doubles gates = zeros(L * N * 4 * H), before_h = zeros(L * N * P), before_c = zeros(L * N * H);
  Doubles last = zeros(N * P);
  for (Index n = 0; k.states && n < N * P; ++n) r.h[n] = d.h0[n];
  for (Index n = 0; k.states && n < N * H; ++n) r.c[n] = d.c0[n];
  for (Index step = 0; step < L; ++step)
    for (Index n = 0; n < N; ++n) {
      const Index at = (k.reverse ? L - 1 - step : step) * N + n;
      for (Index p = 0; p < P; ++p) before_h[at * P + p] = r.h[n * P + p];
      for (Index j = 0; j < H; ++j) before_c[at * H + j] = r.c[n * H + j];
      if (!k.masked || d.mask[at]) {
        Doubles u = zeros(H);
        for (Index row = 0; row < 4 * H; ++row) {
          double z = d.bias[row];
          for (Index q = 0; q < D; ++q) z += double(d.Wx[row * D + q]) * d.x[at * D + q];
          for (Index q = 0; q < P; ++q) z += double(d.Wh[row * P + q]) * before_h[at * P + q];
          gates[at * 4 * H + row] = row / H == 2 ? std::tanh(z) : squash(z);
        }
        for (Index j = 0; j < H; ++j) {
          const double* g = &gates[at * 4 * H + j];
          double& c = r.c[n * H + j];
          c = g[H] * c + g[0] * g[2 * H];
          u[j] = g[3 * H] * std::tanh(c);
        }
        for (Index p = 0; p < P; ++p) {
          double h = k.projected ? 0 : u[p];
          for (Index j = 0; k.projected && j < H; ++j) h += double(d.Wp[p * H + j]) * u[j];
          last[n * P + p] = r.h[n * P + p] = h;
        }
      } else if (k.zero_masked) {
        for (Index p = 0; p < P; ++p) last[n * P + p] = 0;
      }
      for (Index p = 0; p < P; ++p) r.y[at * P + p] = last[n * P + p];
      for (Index j = 0; j < H; ++j) r.cells[at * H + j] = r.c[n * H + j];
    }
  for (Index n = 0; n < N * P; ++n) r.dh0[n] = d.dh[n];
  for (Index n = 0; n < N * H; ++n) r.dc0[n] = d.dc[n];
  Doubles more = zeros(N * P);
  for (Index step = L - 1; step >= 0; --step)
    for (Index n = 0; n < N; ++n) {
      const Index at = (k.reverse ? L - 1 - step : step) * N + n;
      for (Index j = 0; k.cells && j < H; ++j) r.dc0[n * H + j] += d.dcells[at * H + j];
      if (k.masked && !d.mask[at]) {
        for (Index p = 0; !k.zero_masked && p < P; ++p) more[n * P + p] += d.dy[at * P + p];
        continue;
      }
      Doubles dh = zeros(P), du = zeros(H), dz = zeros(4 * H);
      for (Index p = 0; p < P; ++p) {
        dh[p] = r.dh0[n * P + p] + d.dy[at * P + p] + more[n * P + p];
        more[n * P + p] = r.dh0[n * P + p] = 0;
      }
      for (Index j = 0; j < H; ++j) {
        const double* g = &gates[at * 4 * H + j];
        const double t = std::tanh(r.cells[at * H + j]);
        du[j] = k.projected ? 0 : dh[j];
        for (Index p = 0; k.projected && p < P; ++p) {
          du[j] += double(d.Wp[p * H + j]) * dh[p];
          r.dWp[p * H + j] += dh[p] * g[3 * H] * t;
        }
        double& dc = r.dc0[n * H + j];
        dc += du[j] * g[3 * H] * (1 - t * t);
        dz[j] = dc * g[2 * H] * g[0] * (1 - g[0]);
        dz[H + j] = dc * before_c[at * H + j] * g[H] * (1 - g[H]);
        dz[2 * H + j] = dc * g[0] * (1 - g[2 * H] * g[2 * H]);
        dz[3 * H + j] = du[j] * t * g[3 * H] * (1 - g[3 * H]);
        dc *= g[H];
      }
      for (Index row = 0; row < 4 * H; ++row) {
        r.dbias[row] += dz[row];
        for (Index q = 0; q < D; ++q) {
          r.dWx[row * D + q] += dz[row] * d.x[at * D + q];
          r.dx[at * D + q] += dz[row] * d.Wx[row * D + q];
        }
        for (Index q = 0; q < P; ++q) {
          r.dWh[row * P + q] += dz[row] * before_h[at * P + q];
          r.dh0[n * P + q] += dz[row] * d.Wh[row * P + q];
        }
      }
    }
  return r;
}

// Rounding of sums as long as a step's or a gradient's, relative to the array's own scale.
void judge(const char* where, const Case& k, const char* name, const Floats& ours,
           const Doubles& truth) {
  double scale = 1e-3, worst = 0;
  for (const double t : truth) scale = std::max(scale, std::abs(t));
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const double error = std::abs(ours[i] - truth[i]);
    worst = std::max(worst, std::isnan(error) ? HUGE_VAL : error);
  }
  const double allowed = scale * 1.2e-7 * (8 + 2 * std::sqrt(double(k.D + k.P + 4 * k.H)));
  if (worst <= allowed) return;
  ++failures;
  std::printf("%s L=%td N=%td D=%td H=%td P=%td rev=%d mask=%d zero=%d proj=%d: %s off by %.3g, "
              "allowed %.3g\n", where, k.L, k.N, k.D, k.H, k.P, k.reverse, k.masked, k.zero_masked,
              k.projected, name, worst, allowed);
}

Floats transposed(const Floats& m, Index rows, Index columns) {
  Floats to(m.size());
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) to[c * rows + r] = m[r * columns + c];
  return to;
}

struct Ours {
  Floats y, h, c, cells, gates, dx, dWx, dWh, dWp, dbias, dh0, dc0;
};

// Outputs that are written batch-first are the same numbers.
void check_strides(const lstm_bridge::Variant& variant, const Case& k, const Shape& s,
                   const lstm_bridge::Weights& w, const lstm_bridge::Inputs& in, const Ours& o) {
  Floats y(o.y.size()), cells(o.cells.size()), h(o.h.size()), c(o.c.size());
  lstm_bridge::Outputs to{y.data(), h.data(), c.data(), cells.data()};
  to.y_step = k.P;
  to.y_row = k.L * k.P;
  to.cells_step = k.H;
  to.cells_row = k.L * k.H;
  variant.forward(s, w, in, to);
  bool same = h == o.h && c == o.c;
  for (Index t = 0; t < k.L; ++t)
    for (Index n = 0; n < k.N; ++n) {
      const Index there = n * k.L + t, here = t * k.N + n;
      same = same && std::equal(&y[there * k.P], &y[there * k.P] + k.P, &o.y[here * k.P]) &&
             std::equal(&cells[there * k.H], &cells[there * k.H] + k.H, &o.cells[here * k.H]);
    }
  if (!same) std::printf("%s: strided outputs differ\n", variant.name), ++failures;
}

Ours run(const lstm_bridge::Variant& variant, const Case& k, const Data& d) {
  const Shape s{k.L, k.N, k.D, k.H, k.P, k.reverse, k.zero_masked};
  const auto size = [](Index n) { return Floats(static_cast<std::size_t>(n), NAN); };
  const Floats tx = transposed(d.Wx, 4 * k.H, k.D), th = transposed(d.Wh, 4 * k.H, k.P);
  lstm_bridge::Weights w;
  w.Wx = k.transposed ? Matrix{tx.data(), 1, 4 * k.H} : Matrix{d.Wx.data(), k.D, 1};
  w.Wh = k.transposed ? Matrix{th.data(), 1, 4 * k.H} : Matrix{d.Wh.data(), k.P, 1};
  if (k.projected) w.Wp = {d.Wp.data(), k.H, 1};
  Floats half = d.bias;
  for (float& b : half) b /= 2;
  w.bias = k.strided ? half.data() : d.bias.data();
  w.bias_h = k.strided ? half.data() : nullptr;
  Floats batch_first(d.x.size());
  for (Index t = 0; t < k.L; ++t)
    for (Index n = 0; n < k.N; ++n)
      for (Index q = 0; q < k.D; ++q)
        batch_first[(n * k.L + t) * k.D + q] = d.x[(t * k.N + n) * k.D + q];
  lstm_bridge::Inputs in;
  in.x = k.strided ? batch_first.data() : d.x.data();
  in.x_step = k.strided ? k.D : k.N * k.D;
  in.x_row = k.strided ? k.L * k.D : k.D;
  in.h0 = k.states ? d.h0.data() : nullptr;
  in.c0 = k.states ? d.c0.data() : nullptr;
  in.mask = k.masked ? d.mask.get() : nullptr;
  Ours o;
  o.y = size(k.L * k.N * k.P); o.h = size(k.N * k.P); o.c = size(k.N * k.H);
  o.cells = size(k.L * k.N * k.H); o.gates = size(k.L * k.N * s.gate_row());
  variant.forward(s, w, in, {o.y.data(), o.h.data(), o.c.data(), o.cells.data(), o.gates.data()});
  if (k.strided) check_strides(variant, k, s, w, in, o);
  o.dx = size(k.L * k.N * k.D); o.dWx = size(4 * k.H * k.D); o.dWh = size(4 * k.H * k.P);
  o.dWp = size(k.P * k.H); o.dbias = size(4 * k.H); o.dh0 = size(k.N * k.P);
  o.dc0 = size(k.N * k.H);
  Floats dbias_h = size(4 * k.H);
  lstm_bridge::Cotangents cotangents{o.y.data(), o.cells.data(), o.gates.data(), d.dy.data(),
                                     d.dh.data(), d.dc.data(), k.cells ? d.dcells.data() : nullptr};
  variant.backward(s, w, in, cotangents,
                   {o.dx.data(), o.dWx.data(), o.dWh.data(), k.projected ? o.dWp.data() : nullptr,
                    o.dbias.data(), o.dh0.data(), o.dc0.data(), dbias_h.data()});
  if (dbias_h != o.dbias) std::printf("%s: the biases' gradients differ\n", variant.name), ++failures;
  return o;
}

void compare(const lstm_bridge::Variant& variant, const Case& k, unsigned seed) {
  const Data d = make(k, seed);
  const Result truth = reference(k, d);
  const Ours o = run(variant, k, d);
  const char* const v = variant.name;
  judge(v, k, "y", o.y, truth.y);
  judge(v, k, "h", o.h, truth.h);
  judge(v, k, "c", o.c, truth.c);
  judge(v, k, "cells", o.cells, truth.cells);
  judge(v, k, "dx", o.dx, truth.dx);
  judge(v, k, "dWx", o.dWx, truth.dWx);
  judge(v, k, "dWh", o.dWh, truth.dWh);
  if (k.projected) judge(v, k, "dWp", o.dWp, truth.dWp);
  judge(v, k, "dbias", o.dbias, truth.dbias);
  judge(v, k, "dh0", o.dh0, truth.dh0);
  judge(v, k, "dc0", o.dc0, truth.dc0);
}

// The judge itself must see a swapped gate.
void control(const lstm_bridge::Variant& variant) {
  const Case k{4, 3, 5, 6, 6, false, false, false, false, true, false, false, false};
  Data d = make(k, 7);
  const Result truth = reference(k, d);
  std::swap_ranges(d.Wx.begin(), d.Wx.begin() + k.H * k.D, d.Wx.begin() + k.H * k.D);
  const Ours o = run(variant, k, d);
  const int before = failures.load();
  judge("(expected, swapped gates)", k, "y", o.y, truth.y);
  if (failures.load() == before) std::printf("%s: the control passed\n", variant.name), ++failures;
  else failures = before;
}

void check_activations(const lstm_bridge::Variant& variant) {
  const float inf = std::numeric_limits<float>::infinity();
  Floats z = {0.0f, -0.0f, NAN, inf, -inf, 1e30f, -1e30f, 1e-40f, -1e-40f, 88.8f, -88.8f, 104.0f};
  for (float v = -30; v < 30; v += 0.00317f) z.push_back(v);
  Floats s(z.size()), t(z.size());
  variant.activations(static_cast<Index>(z.size()), z.data(), s.data(), t.data());
  double worst_s = 0, worst_t = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double ts = squash(z[i]), tt = std::tanh(double(z[i]));
    const bool odd = std::isnan(z[i]) ? !std::isnan(s[i]) || !std::isnan(t[i])
                                      : std::abs(z[i]) >= 1e30f && (s[i] != ts || t[i] != tt);
    if (odd) std::printf("%s: sigmoid or tanh wrong at %g\n", variant.name, z[i]), ++failures;
    if (std::isnan(z[i]) || std::abs(z[i]) > 80) continue;
    const auto ulp = [](double x) { return std::ldexp(1.0, std::max(-149, std::ilogb(x) - 23)); };
    worst_s = std::max(worst_s, std::abs(s[i] - ts) / ulp(ts));
    if (tt != 0) worst_t = std::max(worst_t, std::abs(t[i] - tt) / ulp(tt));
  }
  std::printf("%s: sigmoid %.2f ulp, tanh %.2f ulp\n", variant.name, worst_s, worst_t);
  if (worst_s > 3 || worst_t > 2) ++failures;
}

}  // namespace

int main() {
  const Index sizes[][5] = {{7, 3, 1, 1, 1},   {50, 13, 33, 17, 17}, {3, 1, 4, 5, 2},
                            {5, 2, 3, 64, 64}, {4, 16, 40, 96, 96},  {6, 7, 16, 33, 20},
                            {1, 1, 8, 16, 16}, {2, 25, 20, 65, 40},  {3, 5, 12, 128, 128},
                            {0, 3, 2, 4, 4},   {4, 37, 70, 130, 130}, {1, 1, 100, 200, 200},
                            {2, 1, 9, 420, 420}, {2, 14, 210, 96, 96}};
  for (const lstm_bridge::Variant* v = lstm_bridge::variants(); v->name; ++v) {
    check_activations(*v);
    failures += half_test::run(*v);
    control(*v);
    lstm_bridge::choose(v->name);
    failures += cells_test::run(v->name);
    failures += one_state_test::run(v->name);
    failures += dense_test::run(v->name);
    failures += vast_test::run(*v);
    unsigned seed = 1;
    for (const auto& n : sizes)
      for (unsigned bits = 0; bits < 16; ++bits, ++seed) {
        const bool masked = bits & 2;
        compare(*v, {n[0], n[1], n[2], n[3], n[4], (bits & 1) != 0, masked, (bits & 4) != 0,
                     n[4] != n[3], (bits & 8) == 0 || masked, (seed % 3) == 0, (seed % 2) == 0,
                     (bits & 8) != 0}, seed);
      }
    const auto many = [v] {
      for (unsigned k = 0; k < 6; ++k)
        compare(*v, {9, 24, 40, 80, 80, false, false, false, false, true, false, false, true}, k),
            compare(*v, {1, 1, 99, 200, 200, false, false, false, false, true, false, k % 2 == 0,
                         true}, k);
    };
    std::thread other(many);
    many();
    other.join();
  }
  if (lstm_bridge::choose("no such")) ++failures;
  std::printf(failures ? "%d failures\n" : "all agree\n", failures.load());
  return failures != 0;
}
