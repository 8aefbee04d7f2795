// The operations without a state, besides affine maps and those over rows: what each is given and
// returns.
//
// Shape letters: M rows, D input, O output, N batch, C channels.
#include <algorithm>
#include <utility>

#include "op_kinds.hpp"

namespace lstm_bridge {
namespace {

using Shapes = std::vector<mx::Shape>;

float* only_read(const View& v, Scratch& scratch) {
  return const_cast<float*>(contiguous<float>(v, scratch));
}

// --- products: a [B, b, M, D], c [B, b, D, O]. ---

Shapes products_shapes(const MaybeArrays& in, const Settings&) {
  const auto &a = *in[0], &b = *in[1];
  if (a.ndim() != 4 || b.ndim() != 4 || !a.size() || !b.size()) return {};
  if (a.shape(0) != b.shape(0) || a.shape(1) != b.shape(1) || a.shape(3) != b.shape(2)) return {};
  return {{a.shape(0), a.shape(1), a.shape(2), b.shape(3)}};
}

double products_work(const MaybeArrays& in) {
  return 2.0 * static_cast<double>(in[0]->size()) * in[1]->shape(3);
}

Matrices matrices(const View& v) {
  return {{static_cast<const float*>(v.data), v.strides[2], v.strides[3]}, v.strides[0],
          v.strides[1]};
}

void multiply(const View& a, const View& b, float* y) {
  cells().dense.products({a.shape[0], a.shape[1], a.shape[2], a.shape[3], b.shape[3], matrices(a),
                          matrices(b), y});
}

View turned(View v) {
  std::swap(v.shape[2], v.shape[3]);
  std::swap(v.strides[2], v.strides[3]);
  return v;
}

void products_forward(const OpCall& call, const Places& out) {
  multiply(call.in[0], call.in[1], out[0]);
}

void products_back(const OpCall& call, const std::vector<View>&, const std::vector<View>& down,
                   const Places& to) {
  if (to[0]) multiply(down[0], turned(call.in[1]), to[0]);
  if (to[1]) multiply(turned(call.in[0]), down[0], to[1]);
}

// --- convolution: x [N, in, in', C], W [O, window, window', C], bias [O] or none; settings: the
// activation, then of both axes the stride, the dilation, the zeros in front and behind, and the
// spread of x. ---

enum ConvolutionSetting { kActivation, kStride, kDilation = 3, kBefore = 5, kBehind = 7, kSpread = 9 };

std::ptrdiff_t setting(const Settings& settings, int first, int axis) {
  return static_cast<std::ptrdiff_t>(settings[static_cast<std::size_t>(first + axis)]);
}

Convolution convolution_of(const Settings& settings, const std::ptrdiff_t* x,
                           const std::ptrdiff_t* W) {
  Convolution a;
  a.squash = static_cast<Squash>(setting(settings, kActivation, 0));
  a.N = x[0];
  a.C = x[3];
  a.O = W[0];
  for (int axis = 0; axis < 2; ++axis) {
    a.in[axis] = x[axis + 1];
    a.window[axis] = W[axis + 1];
    a.stride[axis] = setting(settings, kStride, axis);
    a.dilation[axis] = setting(settings, kDilation, axis);
    a.before[axis] = setting(settings, kBefore, axis);
    a.spread[axis] = setting(settings, kSpread, axis);
    const std::ptrdiff_t whole = (a.in[axis] - 1) * a.spread[axis] + 1 + a.before[axis] +
                                 setting(settings, kBehind, axis);
    const std::ptrdiff_t room = whole - (a.window[axis] - 1) * a.dilation[axis] - 1;
    a.out[axis] = room < 0 ? 0 : room / a.stride[axis] + 1;
  }
  return a;
}

Convolution convolution_of(const mx::array& x, const mx::array& W, const Settings& settings) {
  std::ptrdiff_t sizes[2][4];
  for (int k = 0; k < 4; ++k) {
    sizes[0][k] = x.shape(k);
    sizes[1][k] = W.shape(k);
  }
  return convolution_of(settings, sizes[0], sizes[1]);
}

Convolution convolution_of(const OpCall& call, Scratch& scratch, bool any_order) {
  const View &x = call.in[0], &W = call.in[1];
  Convolution a = convolution_of(call.settings, x.shape, W.shape);
  a.x = static_cast<const float*>(x.data);
  std::copy_n(x.strides, 4, a.x_step);
  const std::ptrdiff_t column = W.strides[3];
  const bool even = (W.shape[2] == 1 || W.strides[2] == W.shape[3] * column) &&
                    (W.shape[1] == 1 || W.strides[1] == W.shape[2] * W.shape[3] * column);
  // As torch keeps them.
  a.channels_first = any_order && !even && W.strides[2] == 1 && W.strides[1] == W.shape[2] &&
                     column == W.shape[1] * W.shape[2];
  if (even || a.channels_first) {
    a.W = {static_cast<const float*>(W.data), W.strides[0], even ? column : 1};
  } else {
    a.W = {contiguous<float>(W, scratch), a.depth(), 1};
  }
  a.bias = contiguous<float>(call.in[2], scratch);
  return a;
}

Shapes convolution_shapes(const MaybeArrays& in, const Settings& settings) {
  const auto &x = *in[0], &W = *in[1];
  if (x.ndim() != 4 || W.ndim() != 4 || !x.size() || !W.size() || x.shape(3) != W.shape(3)) return {};
  if (in[2] && (in[2]->ndim() != 1 || in[2]->shape(0) != W.shape(0))) return {};
  const Convolution a = convolution_of(x, W, settings);
  if (!a.pixels()) return {};
  return {{static_cast<int>(a.N), static_cast<int>(a.out[0]), static_cast<int>(a.out[1]),
           static_cast<int>(a.O)}};
}

double convolution_work(const MaybeArrays& in) {
  // Of as many windows as x has elements: the settings are not at hand.
  return 2.0 * static_cast<double>(in[0]->size()) * static_cast<double>(in[1]->size()) /
         in[1]->shape(3);
}

void convolution_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  Convolution a = convolution_of(call, scratch, true);
  a.y = out[0];
  cells().dense.convolution(a);
}

void convolution_back(const OpCall& call, const std::vector<View>& saved,
                      const std::vector<View>& down, const Places& to) {
  Scratch scratch;
  Convolution a = convolution_of(call, scratch, false);
  a.y = only_read(saved[0], scratch);
  cells().dense.convolution_backward(a, contiguous<float>(down[0], scratch), {to[0], to[1], to[2]});
}

// --- attention: q [N, L, h E], k [N, S, h E], v [N, S, h V], or one array [N, L, 3 h E] of all
// three; settings: h, and the scale. ---

struct AttentionSizes {
  int N, L, S, E, V;  // E, V: of all heads

  explicit AttentionSizes(const MaybeArrays& in) : N(in[0]->shape(0)), L(in[0]->shape(1)), S(L) {
    E = V = in[0]->shape(2) / 3;
    if (!in[1]) return;
    S = in[1]->shape(1);
    E = in[0]->shape(2);
    V = in[2]->shape(2);
  }
};

Shapes attention_shapes(const MaybeArrays& in, const Settings& settings) {
  const int heads = static_cast<int>(setting(settings, 0, 0));
  for (const auto& one : in)
    if (one && (one->ndim() != 3 || !one->size())) return {};
  if (in[1].has_value() != in[2].has_value() || heads < 1 || !(settings[1] > 0)) return {};
  const AttentionSizes n(in);
  if (n.E % heads || n.V % heads || (!in[1] && in[0]->shape(2) % 3)) return {};
  if (in[1] && (in[1]->shape() != mx::Shape{n.N, n.S, n.E} || in[2]->shape(0) != n.N ||
                in[2]->shape(1) != n.S))
    return {};
  return {{n.N, n.L, n.V}, {n.N, heads, n.L, n.S}};
}

double attention_work(const MaybeArrays& in) {
  const AttentionSizes n(in);
  return 2.0 * n.N * n.L * n.S * (n.E + n.V);
}

Attention attention_of(const OpCall& call, Scratch& scratch) {
  const bool packed = !call.in[1].data;
  const std::ptrdiff_t heads = setting(call.settings, 0, 0), parts = packed ? 3 : 1;
  Attention a;
  a.heads = heads;
  a.scale = static_cast<float>(call.settings[1]);
  a.N = call.size(0, 0);
  a.L = call.size(0, 1);
  a.S = call.size(packed ? 0 : 1, 1);
  a.E = call.size(0, 2) / parts / heads;
  a.V = call.size(packed ? 0 : 2, 2) / parts / heads;
  Matrices* const sides[] = {&a.q, &a.k, &a.v};
  for (std::size_t k = 0; k < 3; ++k) {
    if (packed && k) {
      *sides[k] = a.q;
      sides[k]->first.data += static_cast<std::ptrdiff_t>(k) * heads * a.E;
      continue;
    }
    const View& x = call.in[k];
    const std::ptrdiff_t width = x.shape[2];
    const bool direct = x.strides[2] == 1 || width == 1;
    const float* const data =
        direct ? static_cast<const float*>(x.data) : contiguous<float>(x, scratch);
    const std::ptrdiff_t row = direct ? x.strides[1] : width;
    *sides[k] = {{data, row, 1}, direct ? x.strides[0] : x.shape[1] * width, width / parts / heads};
  }
  return a;
}

void attention_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  Attention a = attention_of(call, scratch);
  a.y = out[0];
  a.weights = out.size() > 1 ? out[1] : nullptr;
  cells().dense.attention(a);
}

void attention_back(const OpCall& call, const std::vector<View>& saved,
                    const std::vector<View>& down, const Places& to) {
  Scratch scratch;
  Attention a = attention_of(call, scratch);
  a.weights = only_read(saved[1], scratch);
  AttentionGradients d;
  d.y = contiguous<float>(down[0], scratch);
  if (down.size() > 1) d.weights = cotangent(down[1], scratch);
  const std::ptrdiff_t E = a.heads * a.E, V = a.heads * a.V;
  if (!call.in[1].data) {
    d.q = to[0];
    d.k = to[0] + E;
    d.v = to[0] + 2 * E;
    d.q_row = d.k_row = d.v_row = 3 * E;
  } else {
    d.q = to[0] ? to[0] : scratch.floats(a.N * a.L * E);
    d.k = to[1] ? to[1] : scratch.floats(a.N * a.S * E);
    d.v = to[2] ? to[2] : scratch.floats(a.N * a.S * V);
    d.q_row = d.k_row = E;
    d.v_row = V;
  }
  cells().dense.attention_backward(a, d);
}

// --- pooling: x [N, in, in', C]; settings: of both axes the window, the stride, the dilation, what
// lies in front, and the outputs. ---

Pooling pooling_of(const Settings& settings, const std::ptrdiff_t* x) {
  Pooling p;
  p.N = x[0];
  p.C = x[3];
  for (int axis = 0; axis < 2; ++axis) {
    p.in[axis] = x[axis + 1];
    p.window[axis] = setting(settings, 0, axis);
    p.stride[axis] = setting(settings, 2, axis);
    p.dilation[axis] = setting(settings, 4, axis);
    p.before[axis] = setting(settings, 6, axis);
    p.out[axis] = setting(settings, 8, axis);
  }
  return p;
}

Shapes pooling_shapes(const MaybeArrays& in, const Settings& settings) {
  const auto& x = *in[0];
  if (x.ndim() != 4 || !x.size()) return {};
  const int rows = static_cast<int>(setting(settings, 8, 0));
  const int columns = static_cast<int>(setting(settings, 8, 1));
  if (rows < 1 || columns < 1) return {};
  return {{x.shape(0), rows, columns, x.shape(3)}};
}

double pooling_work(const MaybeArrays& in) { return 40.0 * static_cast<double>(in[0]->size()); }

void pooling_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  Pooling p = pooling_of(call.settings, call.in[0].shape);
  p.x = contiguous<float>(call.in[0], scratch);
  p.y = out[0];
  cells().dense.pool(p);
}

void pooling_back(const OpCall& call, const std::vector<View>& saved, const std::vector<View>& down,
                  const Places& to) {
  Scratch scratch;
  Pooling p = pooling_of(call.settings, call.in[0].shape);
  p.x = contiguous<float>(call.in[0], scratch);
  p.y = only_read(saved[0], scratch);
  cells().dense.pool_backward(p, contiguous<float>(down[0], scratch), to[0]);
}

constexpr OpKind kKinds[] = {
    {"LSTMBridgeProducts", 2, 1, products_shapes, products_work, products_forward, products_back},
    {"LSTMBridgeConvolution", 3, 1, convolution_shapes, convolution_work, convolution_forward, convolution_back},
    {"LSTMBridgePooling", 1, 1, pooling_shapes, pooling_work, pooling_forward, pooling_back},
    {"LSTMBridgeAttention", 3, 1, attention_shapes, attention_work, attention_forward, attention_back},
    {"LSTMBridgeAttentionWeights", 3, 2, attention_shapes, attention_work, attention_forward, attention_back},
};

}  // namespace

const OpKind* dense_kind(const std::string& name) {
  for (const OpKind& kind : kKinds)
    if (name == kind.name) return &kind;
  return row_kind(name);
}

}  // namespace lstm_bridge
