// What each operation is given and returns, and how its arrays reach the kernel.
//
// Shape letters: M rows, N batch, L length, D input, H hidden, O output.
#include "op_kinds.hpp"

#include <cstring>
#include <initializer_list>

namespace lstm_bridge {
namespace {

using Shapes = std::vector<mx::Shape>;

bool has(const MaybeArrays& in, int which, std::initializer_list<std::ptrdiff_t> wanted) {
  const auto& one = in[static_cast<std::size_t>(which)];
  if (!one) return true;
  const auto& shape = one->shape();
  return std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end());
}

float* place(const Places& places, int which) {
  return static_cast<std::size_t>(which) < places.size() ? places[static_cast<std::size_t>(which)]
                                                         : nullptr;
}

// --- affine: x [M, D] or [L, N, D], W [O, D], bias [O] or none; settings: the activation, and
// whether W is [D, O] instead. ---

bool turned(const Settings& settings) { return settings[1] != 0; }

Shapes affine_shapes(const MaybeArrays& in, const Settings& settings) {
  const auto& x = *in[0];
  const auto& W = *in[1];
  if (x.ndim() < 1 || x.ndim() > 3 || W.ndim() != 2 || !x.size() || !W.size()) return {};
  const int D = x.shape(-1), O = W.shape(turned(settings) ? 1 : 0);
  if (W.shape(turned(settings) ? 0 : 1) != D || !has(in, 2, {O})) return {};
  mx::Shape y = x.shape();
  y.back() = O;
  return {y};
}

Affine affine_of(const OpCall& call, Scratch& scratch) {
  const View& x = call.in[0];
  const int last = x.rank - 1;
  Affine a;
  a.D = x.shape[last];
  a.W = matrix(call.in[1]);
  a.O = call.size(1, turned(call.settings) ? 1 : 0);
  if (turned(call.settings)) std::swap(a.W.row, a.W.column);
  a.M = x.size() / a.D;
  const bool rows = x.rank == 2 || (x.rank == 3 && (x.shape[0] == 1 || x.strides[0] == x.shape[1] * x.strides[1]));
  const bool direct = rows && (x.strides[last] == 1 || a.D == 1);
  a.x = direct ? static_cast<const float*>(x.data) : contiguous<float>(x, scratch);
  a.x_row = direct ? x.strides[last - 1] : a.D;
  a.bias = contiguous<float>(call.in[2], scratch);
  a.y_row = a.O;
  a.squash = static_cast<Squash>(static_cast<int>(call.settings[0]));
  return a;
}

double affine_work(const MaybeArrays& in) {
  const double rows = static_cast<double>(in[0]->size()) / in[0]->shape(-1);
  return 2.0 * rows * static_cast<double>(in[1]->size());
}

void affine_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  Affine a = affine_of(call, scratch);
  a.y = out[0];
  cells().affine(a);
}

void affine_back(const OpCall& call, const std::vector<View>& saved, const std::vector<View>& down,
                 const Places& to) {
  Scratch scratch;
  Affine a = affine_of(call, scratch);
  a.y = const_cast<float*>(contiguous<float>(saved[0], scratch));  // only read
  cells().affine_backward(a, contiguous<float>(down[0], scratch),
                          {to[0], to[1], to[2], turned(call.settings)});
}

// --- squash: x of any shape; settings: the activation. ---

Shapes squash_shapes(const MaybeArrays& in, const Settings&) {
  if (!in[0]->size() || in[0]->ndim() > 4) return {};
  return {in[0]->shape()};
}

double squash_work(const MaybeArrays& in) { return 30.0 * static_cast<double>(in[0]->size()); }

void squash_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  const View& x = call.in[0];
  cells().squash(static_cast<Squash>(static_cast<int>(call.settings[0])), x.size(),
                 in_any_order(x, scratch), out[0]);
}

void squash_back(const OpCall& call, const std::vector<View>& saved, const std::vector<View>& down,
                 const Places& to) {
  Scratch scratch;
  cells().unsquash(static_cast<Squash>(static_cast<int>(call.settings[0])), call.in[0].size(),
                   contiguous<float>(saved[0], scratch), contiguous<float>(down[0], scratch),
                   to[0]);
}

// --- mlstm: x, c0, n0, residual, then W, bias, gamma, beta of k, v, i, f, o; settings: eps. ---

constexpr int kMBranch = 4;  // the first branch's W

Shapes mlstm_shapes(const MaybeArrays& in, const Settings&) {
  const auto& x = *in[0];
  if (x.ndim() != 3 || in[kMBranch]->ndim() != 2 || !x.size()) return {};
  const int L = x.shape(0), N = x.shape(1), D = x.shape(2), H = in[kMBranch]->shape(0);
  bool fit = H > 0 && has(in, 1, {N, H}) && has(in, 2, {N, H}) && has(in, 3, {L, N, H});
  for (int g = 0; g < kBranches; ++g) {
    const int at = kMBranch + 4 * g;
    fit = fit && has(in, at, {H, D});
    for (int k = 1; k < 4; ++k) fit = fit && has(in, at + k, {H});
  }
  if (!fit) return {};
  MLSTM s;
  s.H = H;
  return {{L, N, H}, {N, H}, {N, H}, {L, N, static_cast<int>(s.z_row())}};
}

double mlstm_work(const MaybeArrays& in) {
  const auto& x = *in[0];
  return static_cast<double>(x.shape(0)) * x.shape(1) * in[kMBranch]->shape(0) *
         (2.0 * kBranches * x.shape(2) + 200);
}

MLSTM mlstm_of(const OpCall& call, Scratch& scratch) {
  MLSTM s;
  s.L = call.size(0, 0);
  s.N = call.size(0, 1);
  s.D = call.size(0, 2);
  s.H = call.size(kMBranch, 0);
  const auto at = [&](int k) {
    return contiguous<float>(call.in[static_cast<std::size_t>(k)], scratch);
  };
  s.x = at(0);
  s.c0 = at(1);
  s.n0 = at(2);
  s.residual = at(3);
  for (int g = 0; g < kBranches; ++g) {
    const int first = kMBranch + 4 * g;
    s.W[g] = matrix(call.in[static_cast<std::size_t>(first)]);
    s.bias[g] = at(first + 1);
    s.norm[g] = {at(first + 2), at(first + 3), static_cast<float>(call.settings[0])};
  }
  return s;
}

void mlstm_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  MLSTM s = mlstm_of(call, scratch);
  s.y = out[0];
  s.c = out[1];
  s.n = out[2];
  s.z = place(out, 3);
  cells().mlstm(s);
}

void mlstm_back(const OpCall& call, const std::vector<View>& saved, const std::vector<View>& down,
                const Places& to) {
  Scratch scratch;
  MLSTM s = mlstm_of(call, scratch);
  s.z = const_cast<float*>(contiguous<float>(saved[3], scratch));  // only read
  MLSTMGradients d;
  d.dy = cotangent(down[0], scratch);
  d.dc = cotangent(down[1], scratch);
  d.dn = cotangent(down[2], scratch);
  d.x = to[0];
  d.c0 = to[1];
  d.n0 = to[2];
  d.residual = to[3];
  for (int g = 0; g < kBranches; ++g) {
    const auto first = static_cast<std::size_t>(kMBranch + 4 * g);
    d.W[g] = to[first];
    d.bias[g] = to[first + 1];
    d.norm[g] = {to[first + 2], to[first + 3]};
  }
  cells().mlstm_backward(s, d);
}

// --- slstm: x, h0, c0, residual, Wx, bias_x, Wh, bias_h, keep, then gamma, beta of five norms;
// settings: each norm's eps. ---

constexpr int kSNorm = 9;  // the first norm's gamma

Shapes slstm_shapes(const MaybeArrays& in, const Settings&) {
  const auto& x = *in[0];
  if (x.ndim() != 3 || in[6]->ndim() != 2 || !x.size()) return {};
  const int L = x.shape(0), N = x.shape(1), D = x.shape(2), H = in[6]->shape(1);
  bool fit = H > 0 && has(in, 1, {N, H}) && has(in, 2, {N, H}) && has(in, 3, {L, N, H}) &&
             has(in, 4, {4 * H, D}) && has(in, 5, {4 * H}) && has(in, 6, {4 * H, H}) &&
             has(in, 7, {4 * H}) && has(in, 8, {L, N, H});
  for (int k = 0; k < kSLSTMNorms; ++k) {
    const int wide = k <= kNormH ? 4 * H : H;
    fit = fit && has(in, kSNorm + 2 * k, {wide}) && has(in, kSNorm + 2 * k + 1, {wide});
  }
  if (!fit) return {};
  SLSTM s;
  s.H = H;
  return {{L, N, H}, {N, H}, {N, H}, {L, N, static_cast<int>(s.z_row())}};
}

double slstm_work(const MaybeArrays& in) {
  const auto& x = *in[0];
  const double H = in[6]->shape(1);
  return static_cast<double>(x.shape(0)) * x.shape(1) * H * (8.0 * (x.shape(2) + H) + 200);
}

SLSTM slstm_of(const OpCall& call, Scratch& scratch) {
  SLSTM s;
  s.L = call.size(0, 0);
  s.N = call.size(0, 1);
  s.D = call.size(0, 2);
  s.H = call.size(6, 1);
  const auto at = [&](int k) {
    return contiguous<float>(call.in[static_cast<std::size_t>(k)], scratch);
  };
  s.x = at(0);
  s.h0 = at(1);
  s.c0 = at(2);
  s.residual = at(3);
  s.Wx = matrix(call.in[4]);
  s.bias_x = at(5);
  s.Wh = matrix(call.in[6]);
  s.bias_h = at(7);
  s.keep = at(8);
  for (int k = 0; k < kSLSTMNorms; ++k)
    s.norm[k] = {at(kSNorm + 2 * k), at(kSNorm + 2 * k + 1),
                 static_cast<float>(call.settings[static_cast<std::size_t>(k)])};
  return s;
}

void slstm_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  SLSTM s = slstm_of(call, scratch);
  s.y = out[0];
  s.h = out[1];
  s.c = out[2];
  s.z = place(out, 3);
  cells().slstm(s);
}

void slstm_back(const OpCall& call, const std::vector<View>& saved, const std::vector<View>& down,
                const Places& to) {
  Scratch scratch;
  SLSTM s = slstm_of(call, scratch);
  const auto kept = [&](std::size_t k) {
    return const_cast<float*>(contiguous<float>(saved[k], scratch));  // only read
  };
  s.y = kept(0);
  s.z = kept(3);
  SLSTMGradients d;
  d.dy = cotangent(down[0], scratch);
  d.dh = cotangent(down[1], scratch);
  d.dc = cotangent(down[2], scratch);
  d.x = to[0];
  d.h0 = to[1];
  d.c0 = to[2];
  d.residual = to[3];
  d.Wx = to[4];
  d.bias_x = to[5];
  d.Wh = to[6];
  d.bias_h = to[7];
  d.keep = to[8];
  for (std::size_t k = 0; k < kSLSTMNorms; ++k)
    d.norm[k] = {to[kSNorm + 2 * k], to[kSNorm + 2 * k + 1]};
  cells().slstm_backward(s, d);
}

// --- gru and rnn: x [L, N, D], Wx, Wh, bias, bias_h, h0, mask; settings: reverse, zero_masked, and
// the activation or reset_after and update_first. One step is [N, D] or [D], its state and outputs
// like it. ---

enum OneStateInput { kOneX, kOneWx, kOneWh, kOneBias, kOneBiasH, kOneH0, kOneMask, kOneInputs };

template <int G>
Shapes one_state_shapes(const MaybeArrays& in, const Settings&) {
  const auto& x = *in[kOneX];
  const auto& Wh = *in[kOneWh];
  const int rank = static_cast<int>(x.ndim());
  if (rank < 1 || rank > 3 || Wh.ndim() != 2 || !x.size() || !Wh.size()) return {};
  const int D = x.shape(-1), H = Wh.shape(1);
  const int L = rank == 3 ? x.shape(0) : 1, N = rank > 1 ? x.shape(-2) : 1;
  const bool stated = rank > 1 ? has(in, kOneH0, {N, H}) : has(in, kOneH0, {H});
  if (!stated || !has(in, kOneWx, {G * H, D}) || !has(in, kOneWh, {G * H, H}) ||
      !has(in, kOneBias, {G * H}) || !has(in, kOneBiasH, {G * H}) || !has(in, kOneMask, {L, N}))
    return {};
  mx::Shape state = {H}, y = {H};
  if (rank > 1) state = y = {N, H};
  if (rank > 2) y = {L, N, H};
  if (G == 1) return {y, state};
  Shape s;
  s.H = H;
  return {y, state, {L, N, static_cast<int>(s.gate_row())}};
}

double one_state_work(const MaybeArrays& in) {
  const auto& x = *in[kOneX];
  const double rows = static_cast<double>(x.size()) / x.shape(-1);
  return 2.0 * rows * static_cast<double>(in[kOneWx]->size() + in[kOneWh]->size());
}

struct OneState {
  Shape shape;
  Weights weights;
  Inputs inputs;

  OneState(const OpCall& call, Scratch& scratch) {
    View x = call.in[kOneX];
    while (x.rank < 3) x = x.inside();
    const auto at = [&](int k) {
      return contiguous<float>(call.in[static_cast<std::size_t>(k)], scratch);
    };
    const std::ptrdiff_t H = call.size(kOneWh, 1);
    shape = {x.shape[0], x.shape[1], x.shape[2], H, H, call.settings[0] != 0, call.settings[1] != 0};
    weights.Wx = matrix(call.in[kOneWx]);
    weights.Wh = matrix(call.in[kOneWh]);
    weights.bias = at(kOneBias);
    weights.bias_h = at(kOneBiasH);
    const bool direct = shape.D == 1 || x.strides[2] == 1;
    inputs.x = direct ? static_cast<const float*>(x.data) : contiguous<float>(x, scratch);
    inputs.x_step = direct ? x.strides[0] : shape.N * shape.D;
    inputs.x_row = direct ? x.strides[1] : shape.D;
    inputs.h0 = at(kOneH0);
    inputs.mask = contiguous<bool>(call.in[kOneMask], scratch);
  }
};

GRUForm form(const OpCall& call) { return {call.settings[2] != 0, call.settings[3] != 0}; }

Squash squash_of(const OpCall& call) {
  return static_cast<Squash>(static_cast<int>(call.settings[2]));
}

void gru_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  const OneState c(call, scratch);
  Outputs to;
  to.y = out[0];
  to.h = out[1];
  to.gates = place(out, 2);
  cells().gru(c.shape, c.weights, c.inputs, form(call), to);
}

void rnn_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  const OneState c(call, scratch);
  Outputs to;
  to.y = out[0];
  to.h = out[1];
  cells().rnn(c.shape, c.weights, c.inputs, squash_of(call), to);
}

template <int G>
void one_state_back(const OpCall& call, const std::vector<View>& saved,
                    const std::vector<View>& down, const Places& to) {
  Scratch scratch;
  const OneState c(call, scratch);
  Cotangents d;
  d.y = contiguous<float>(saved[0], scratch);
  d.dy = cotangent(down[0], scratch);
  d.dh = cotangent(down[1], scratch);
  Gradients g;
  g.x = to[kOneX];
  g.Wx = to[kOneWx];
  g.Wh = to[kOneWh];
  g.bias = to[kOneBias];
  g.bias_h = to[kOneBiasH];
  g.h0 = to[kOneH0];
  if (G == 3) {
    d.gates = contiguous<float>(saved[2], scratch);
    cells().gru_backward(c.shape, c.weights, c.inputs, form(call), d, g);
  } else {
    cells().rnn_backward(c.shape, c.weights, c.inputs, squash_of(call), d, g);
  }
}

constexpr OpKind kKinds[] = {
    {"LSTMBridgeAffine", 3, 1, affine_shapes, affine_work, affine_forward, affine_back},
    {"LSTMBridgeSquash", 1, 1, squash_shapes, squash_work, squash_forward, squash_back, -1, Lies::kInAnyOrder},
    {"LSTMBridgeMLSTM", kMBranch + 4 * kBranches, 3, mlstm_shapes, mlstm_work, mlstm_forward, mlstm_back},
    {"LSTMBridgeSLSTM", kSNorm + 2 * kSLSTMNorms, 3, slstm_shapes, slstm_work, slstm_forward, slstm_back},
    {"LSTMBridgeGRU", kOneInputs, 2, one_state_shapes<3>, one_state_work, gru_forward, one_state_back<3>, kOneMask},
    {"LSTMBridgeRNN", kOneInputs, 2, one_state_shapes<1>, one_state_work, rnn_forward, one_state_back<1>, kOneMask},
};

}  // namespace

const OpKind* op_kind(const std::string& name) {
  for (const OpKind& kind : kKinds)
    if (name == kind.name) return &kind;
  return dense_kind(name);
}

}  // namespace lstm_bridge
