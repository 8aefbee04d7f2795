// The operations over rows and single numbers: what each is given and returns.
//
// Shape letters: M numbers of a row, C channels.
#include <algorithm>

#include "op_kinds.hpp"

namespace lstm_bridge {
namespace {

using Shapes = std::vector<mx::Shape>;

// --- softmax: x [..., M], over the last axis. ---

Shapes row_shapes(const MaybeArrays& in, const Settings&) {
  if (!in[0]->size() || in[0]->ndim() < 1 || in[0]->ndim() > 4) return {};
  return {in[0]->shape()};
}

double row_work(const MaybeArrays& in) { return 40.0 * static_cast<double>(in[0]->size()); }

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
  auto shapes = row_shapes(in, settings);
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

// --- batch norm: x [..., C], mean [C], var [C], gamma [C] or none, beta [C] or none; settings: eps. ---

Shapes batch_norm_shapes(const MaybeArrays& in, const Settings& settings) {
  for (std::size_t k = 1; k < 5; ++k)
    if (in[k] && (in[k]->ndim() != 1 || in[k]->shape(0) != in[0]->shape(-1))) return {};
  return row_shapes(in, settings);
}

BatchNorm batch_norm_of(const OpCall& call, Scratch& scratch) {
  const auto at = [&](std::size_t k) { return contiguous<float>(call.in[k], scratch); };
  return {at(1), at(2), at(3), at(4), static_cast<float>(call.settings[0])};
}

void batch_norm_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  const Rows x(call.in[0]);
  cells().dense.batch_norm(x.rows, x.n, contiguous<float>(call.in[0], scratch),
                           batch_norm_of(call, scratch), out[0]);
}

void batch_norm_back(const OpCall& call, const std::vector<View>&, const std::vector<View>& down,
                     const Places& to) {
  Scratch scratch;
  const Rows x(call.in[0]);
  cells().dense.batch_norm_backward(x.rows, x.n, contiguous<float>(call.in[0], scratch),
                                    batch_norm_of(call, scratch),
                                    contiguous<float>(down[0], scratch),
                                    {to[0], to[1], to[2], to[3], to[4]});
}

// --- map: x of any shape; settings: which. ---

Map map_of(const OpCall& call) { return static_cast<Map>(static_cast<int>(call.settings[0])); }

void map_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  const View& x = call.in[0];
  cells().dense.map(map_of(call), x.size(), in_any_order(x, scratch), out[0]);
}

void map_back(const OpCall& call, const std::vector<View>&, const std::vector<View>& down,
              const Places& to) {
  Scratch scratch;
  const View& x = call.in[0];
  cells().dense.map_backward(map_of(call), x.size(), contiguous<float>(x, scratch),
                             contiguous<float>(down[0], scratch), to[0]);
}

// --- sum: two of one shape. ---

Shapes sum_shapes(const MaybeArrays& in, const Settings& settings) {
  return in[0]->shape() == in[1]->shape() ? row_shapes(in, settings) : Shapes{};
}

void sum_forward(const OpCall& call, const Places& out) {
  Scratch scratch;
  const View &a = call.in[0], &b = call.in[1];
  const View same = a.whole ? b.ordered_as(a) : b;
  cells().dense.sum(a.size(), in_any_order(a, scratch), contiguous<float>(same, scratch), out[0]);
}

void sum_back(const OpCall& call, const std::vector<View>&, const std::vector<View>& down,
              const Places& to) {
  Scratch scratch;
  const float* const dy = contiguous<float>(down[0], scratch);
  for (float* const one : to)
    if (one) std::copy_n(dy, call.in[0].size(), one);
}

constexpr OpKind kKinds[] = {
    {"LSTMBridgeSoftmax", 1, 1, row_shapes, row_work, softmax_forward, softmax_back},
    {"LSTMBridgeLayerNorm", 3, 1, layer_norm_shapes, row_work, layer_norm_forward, layer_norm_back},
    {"LSTMBridgeMap", 1, 1, row_shapes, row_work, map_forward, map_back, -1, Lies::kInAnyOrder},
    {"LSTMBridgeSum", 2, 1, sum_shapes, row_work, sum_forward, sum_back, -1, Lies::kInAnyOrder},
    {"LSTMBridgeBatchNorm", 5, 1, batch_norm_shapes, row_work, batch_norm_forward, batch_norm_back, -1, Lies::kInRows},
};

}  // namespace

const OpKind* row_kind(const std::string& name) {
  for (const OpKind& kind : kKinds)
    if (name == kind.name) return &kind;
  return nullptr;
}

}  // namespace lstm_bridge
