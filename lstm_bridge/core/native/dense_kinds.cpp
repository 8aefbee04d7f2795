// The operations without a state, besides affine maps: what each is given and returns.
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

Convolution convolution_of(const OpCall& call, Scratch& scratch) {
  const View &x = call.in[0], &W = call.in[1];
  Convolution a = convolution_of(call.settings, x.shape, W.shape);
  a.x = static_cast<const float*>(x.data);
  std::copy_n(x.strides, 4, a.x_step);
  const std::ptrdiff_t column = W.strides[3];
  const bool even = (W.shape[2] == 1 || W.strides[2] == W.shape[3] * column) &&
                    (W.shape[1] == 1 || W.strides[1] == W.shape[2] * W.shape[3] * column);
  a.W = even ? Matrix{static_cast<const float*>(W.data), W.strides[0], column}
             : Matrix{contiguous<float>(W, scratch), a.depth(), 1};
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
  Convolution a = convolution_of(call, scratch);
  a.y = out[0];
  cells().dense.convolution(a);
}

void convolution_back(const OpCall& call, const std::vector<View>& saved,
                      const std::vector<View>& down, const Places& to) {
  Scratch scratch;
  Convolution a = convolution_of(call, scratch);
  a.y = only_read(saved[0], scratch);
  cells().dense.convolution_backward(a, contiguous<float>(down[0], scratch), {to[0], to[1], to[2]});
}

// --- softmax: x [..., M], over the last axis. ---

Shapes softmax_shapes(const MaybeArrays& in, const Settings&) {
  if (!in[0]->size() || in[0]->ndim() < 1 || in[0]->ndim() > 4) return {};
  return {in[0]->shape()};
}

double softmax_work(const MaybeArrays& in) { return 40.0 * static_cast<double>(in[0]->size()); }

struct Rows {
  std::ptrdiff_t rows, n;

  explicit Rows(const View& x) : n(x.shape[x.rank - 1]) { rows = x.size() / n; }
};

void softmax_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  const Rows x(call.in[0]);
  cells().dense.softmax(x.rows, x.n, contiguous<float>(call.in[0], scratch), out[0]);
}

void softmax_back(const OpCall& call, const std::vector<View>& saved, const std::vector<View>& down,
                  const Places& to) {
  Scratch scratch;
  const Rows x(call.in[0]);
  cells().dense.softmax_backward(x.rows, x.n, contiguous<float>(saved[0], scratch),
                                 contiguous<float>(down[0], scratch), to[0]);
}

// --- layer norm: x [..., M], gamma [M], beta [M] or none; settings: eps. ---

Shapes layer_norm_shapes(const MaybeArrays& in, const Settings& settings) {
  auto shapes = softmax_shapes(in, settings);
  for (int k = 1; k < 3; ++k)
    if (in[k] && (in[k]->ndim() != 1 || in[k]->shape(0) != in[0]->shape(-1))) return {};
  return shapes;
}

Norm norm_of(const OpCall& call, Scratch& scratch) {
  return {contiguous<float>(call.in[1], scratch), contiguous<float>(call.in[2], scratch),
          static_cast<float>(call.settings[0])};
}

void layer_norm_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  const Rows x(call.in[0]);
  cells().dense.layer_norm(x.rows, x.n, contiguous<float>(call.in[0], scratch),
                           norm_of(call, scratch), out[0]);
}

void layer_norm_back(const OpCall& call, const std::vector<View>&, const std::vector<View>& down,
                     const Places& to) {
  Scratch scratch;
  const Rows x(call.in[0]);
  cells().dense.layer_norm_backward(x.rows, x.n, contiguous<float>(call.in[0], scratch),
                                    norm_of(call, scratch), contiguous<float>(down[0], scratch),
                                    to[0], {to[1], to[2]});
}

// --- map: x of any shape; settings: which. ---

Map map_of(const OpCall& call) { return static_cast<Map>(setting(call.settings, 0, 0)); }

void map_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  const View& x = call.in[0];
  cells().dense.map(map_of(call), x.size(), contiguous<float>(x, scratch), out[0]);
}

void map_back(const OpCall& call, const std::vector<View>&, const std::vector<View>& down,
              const Places& to) {
  Scratch scratch;
  const View& x = call.in[0];
  cells().dense.map_backward(map_of(call), x.size(), contiguous<float>(x, scratch),
                             contiguous<float>(down[0], scratch), to[0]);
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
    {"LSTMBridgeSoftmax", 1, 1, softmax_shapes, softmax_work, softmax_forward, softmax_back},
    {"LSTMBridgeLayerNorm", 3, 1, layer_norm_shapes, softmax_work, layer_norm_forward, layer_norm_back},
    {"LSTMBridgeMap", 1, 1, softmax_shapes, softmax_work, map_forward, map_back},
    {"LSTMBridgePooling", 1, 1, pooling_shapes, softmax_work, pooling_forward, pooling_back},
};

}  // namespace

const OpKind* dense_kind(const std::string& name) {
  for (const OpKind& kind : kKinds)
    if (name == kind.name) return &kind;
  return nullptr;
}

}  // namespace lstm_bridge
