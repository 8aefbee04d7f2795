// The kernel of the LSTM as two MLX primitives, forward and backward.
//
// Shape letters: N batch, L length, D input, H hidden, P projection (P = H without one).
#include "primitive.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "call.hpp"
#include "derivatives.hpp"
#include "kept.hpp"
#include "mlx/device.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"
#include "mlx/transforms.h"
#include "mlx/utils.h"

namespace lstm_bridge {
namespace {

struct Options {
  bool present[kPlaces] = {};
  bool reverse = false, zero_masked = false;
  bool stacked = false;  // states have an axis of one in front
  int outputs = 3;  // of y, h, c, cells, gates, the first so many

  int index(Place place) const {
    if (!present[place]) return -1;
    int at = 0;
    for (int k = 0; k < place; ++k) at += present[k];
    return at;
  }
  Call call(const Arrays& inputs) const {
    Call call;
    for (int k = 0, next = 0; k < kPlaces; ++k) {
      if (!present[k]) continue;
      call.at[k] = View(inputs[next++]);
      if (stacked && (k == kH0 || k == kC0)) call.at[k] = call.at[k].part(0);
    }
    call.measure(reverse, zero_masked);
    return call;
  }
  std::size_t count() const {
    std::size_t n = 0;
    for (const bool one : present) n += one;
    return n;
  }
};

// Never destroyed: it may hold a Python function, and the interpreter may end before us.
Composed* composed = nullptr;

std::vector<bool> bits(const Options& o) {
  std::vector<bool> all(o.present, o.present + kPlaces);
  all.push_back(o.reverse);
  all.push_back(o.zero_masked);
  return all;
}

// y, h, c and cells.
Arrays run_composed(const Options& options, const Arrays& inputs) {
  if (!options.stacked) return (*composed)(inputs, bits(options));
  Arrays flat = inputs;
  for (const Place state : {kH0, kC0})
    if (const int k = options.index(state); k >= 0) flat[k] = mx::squeeze(flat[k], 0);
  Arrays all = (*composed)(flat, bits(options));
  for (const int state : {1, 2}) all[state] = mx::expand_dims(all[state], 0);
  return all;
}

class Fused : public mx::Primitive {
 public:
  Fused(mx::Stream stream, Options options) : Primitive(stream), options_(options) {}
  void eval_gpu(const Arrays&, Arrays&) override {
    throw std::runtime_error("lstm_bridge's fused LSTM runs on the CPU only");
  }

 protected:
  const Options options_;
};

// y, h, c, cells and gates of dh_t ..., from cotangents of y, h, c and cells.
class LSTMBackward : public Fused {
 public:
  LSTMBackward(mx::Stream stream, Options options, std::vector<int> wanted)
      : Fused(stream, options), wanted_(std::move(wanted)) {}

  const char* name() const override { return "LSTMBridgeLSTMBackward"; }

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    const Call call = options_.call(inputs);
    const std::size_t first = options_.count();
    View saved[3], down[4];
    for (int k = 0; k < 3; ++k) saved[k] = View(inputs[first + k]);
    for (int k = 0; k < 4; ++k) down[k] = View(inputs[first + 3 + k]);
    Gradients to;
    float** const places[] = {&to.x, &to.Wx, &to.Wh, &to.bias, &to.bias_h, &to.Wp, &to.h0, &to.c0};
    for (std::size_t k = 0; k < wanted_.size(); ++k) {
      float* const data = allocate(outputs[k]);
      for (int place = 0; place < kMask; ++place)
        if (options_.index(static_cast<Place>(place)) == wanted_[k]) *places[place] = data;
    }
    dispatch(stream(), inputs, outputs, [call, saved, down, to] {
      Scratch scratch;
      const Cotangents d{contiguous<float>(saved[0], scratch), contiguous<float>(saved[1], scratch),
                         contiguous<float>(saved[2], scratch), cotangent(down[0], scratch),
                         cotangent(down[1], scratch),          cotangent(down[2], scratch),
                         cotangent(down[3], scratch)};
      variant().backward(call.shape, call.weights(scratch), call.inputs(scratch), d, to);
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays&) override {
    return gradients([this](const Arrays& a) { return composed_gradients(a); }, primals, cotangents,
                     argnums);
  }

  Arrays jvp(const Arrays& primals, const Arrays& tangents,
             const std::vector<int>& argnums) override {
    return push([this](const Arrays& a) { return composed_gradients(a); }, primals, tangents,
                argnums);
  }

  std::pair<Arrays, std::vector<int>> vmap(const Arrays& inputs,
                                           const std::vector<int>& axes) override {
    auto f = [this](const Arrays& a) { return composed_gradients(a); };
    return {mx::vmap(f, axes)(inputs), std::vector<int>(wanted_.size(), 0)};
  }

 private:
  // The saved outputs follow from the primals: all of a derivative goes through these.
  Arrays composed_gradients(const Arrays& inputs) const {
    const auto n = static_cast<std::ptrdiff_t>(options_.count());
    const Arrays primals(inputs.begin(), inputs.begin() + n);
    const Arrays down(inputs.begin() + n + 3, inputs.end());
    const auto f = [this](const Arrays& a) { return run_composed(options_, a); };
    return gradients(f, primals, down, wanted_);
  }

  const std::vector<int> wanted_;
};

class LSTM : public Fused {
 public:
  using Fused::Fused;

  const char* name() const override { return "LSTMBridgeLSTM"; }

  // Equal to none: mx.compile merges equals, and fails where they have several outputs.
  bool is_equivalent(const Primitive&) const override { return false; }

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    const Call call = options_.call(inputs);
    Outputs to;
    to.y = allocate(outputs[0]);
    to.h = allocate(outputs[1]);
    to.c = allocate(outputs[2]);
    if (outputs.size() > 3) to.cells = allocate_kept(outputs[3]);
    if (outputs.size() > 4) to.gates = allocate_kept(outputs[4]);
    dispatch(stream(), inputs, outputs, [call, to] {
      Scratch scratch;
      variant().forward(call.shape, call.weights(scratch), call.inputs(scratch), to);
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    if (outputs.size() < 5)
      throw std::runtime_error("lstm_bridge's fused LSTM was traced without its gates");
    std::vector<mx::Shape> shapes;
    std::vector<mx::Dtype> dtypes;
    for (const int k : argnums) {
      shapes.push_back(primals[k].shape());
      dtypes.push_back(primals[k].dtype());
    }
    Arrays inputs = primals;
    for (const int k : {0, 3, 4}) inputs.push_back(outputs[k]);
    inputs.insert(inputs.end(), cotangents.begin(), cotangents.begin() + 4);
    return mx::array::make_arrays(
        std::move(shapes), dtypes, std::make_shared<LSTMBackward>(stream(), options_, argnums),
        inputs);
  }

  Arrays jvp(const Arrays& primals, const Arrays& tangents,
             const std::vector<int>& argnums) override {
    const auto f = [this](const Arrays& a) { return outputs(a); };
    return push(f, primals, tangents, argnums);
  }

  std::pair<Arrays, std::vector<int>> vmap(const Arrays& inputs,
                                           const std::vector<int>& axes) override {
    const auto f = [this](const Arrays& a) { return outputs(a); };
    return {mx::vmap(f, axes)(inputs), std::vector<int>(static_cast<std::size_t>(options_.outputs), 0)};
  }

 private:
  // All outputs, composed. Gates are read by the backward primitive's kernel alone, never by its
  // own transformations: zeros stand for them.
  Arrays outputs(const Arrays& inputs) const {
    Arrays all = run_composed(options_, inputs);
    if (options_.outputs > 4) {
      lstm_bridge::Shape shape;
      shape.H = inputs[1].shape(0) / 4;
      const auto& y = all[0].shape();
      // Zeros that hang on y, so that vmap maps them like the rest.
      all.push_back(mx::broadcast_to(mx::zeros_like(mx::slice(all[0], {0, 0, 0}, {y[0], y[1], 1})),
                                     {y[0], y[1], static_cast<int>(shape.gate_row())}));
    }
    all.erase(all.begin() + options_.outputs, all.end());
    return all;
  }
};

}  // namespace

void set_composed(Composed f) {
  delete composed;
  composed = new Composed(std::move(f));
}

bool fits(const Given& given, int L, int N, int D) {
  const auto has = [&](Place place, std::initializer_list<int> wanted) {
    if (!given[place]) return true;
    const auto& shape = given[place]->shape();
    return std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end());
  };
  if (given[kWh]->ndim() != 2 || L < 1 || N < 1 || D < 1) return false;
  const int rows = given[kWh]->shape(0), P = given[kWh]->shape(1), H = rows / 4;
  return H > 0 && P > 0 && rows == 4 * H && has(kWx, {rows, D}) && has(kBias, {rows}) &&
         has(kBiasH, {rows}) && (given[kWp] ? has(kWp, {P, H}) : P == H) && has(kMask, {L, N});
}

bool states_fit(const Given& given, int N) {
  const auto has = [&](const mx::array* state, int width) {
    return !state || state->shape() == mx::Shape{N, width};
  };
  return has(given[kH0], given[kWh]->shape(1)) && has(given[kC0], given[kWh]->shape(0) / 4);
}

Arrays fused(const Given& given, bool reverse, bool zero_masked, bool stacked, bool cells) {
  Options options;
  options.reverse = reverse;
  options.zero_masked = zero_masked;
  options.stacked = stacked;
  Arrays inputs;
  bool traced = false;
  for (int k = 0; k < kPlaces; ++k) {
    if (!given[k]) continue;
    options.present[k] = true;
    inputs.push_back(*given[k]);
    traced = traced || given[k]->is_tracer();
  }
  const int L = given[kX]->shape(0), N = given[kX]->shape(1);
  const int H = given[kWx]->shape(0) / 4, P = given[kWh]->shape(1);
  std::vector<mx::Shape> shapes = {{L, N, P}, {N, P}, {N, H}};
  for (const int state : {1, 2})
    if (stacked) shapes[state].insert(shapes[state].begin(), 1);
  if (cells || traced) shapes.push_back({L, N, H});
  if (traced) {
    lstm_bridge::Shape shape;
    shape.H = H;
    shapes.push_back({L, N, static_cast<int>(shape.gate_row())});
  }
  options.outputs = static_cast<int>(shapes.size());
  const std::vector<mx::Dtype> dtypes(shapes.size(), mx::float32);
  const mx::Stream stream = mx::default_stream(mx::Device::cpu);
  return mx::array::make_arrays(std::move(shapes), dtypes, std::make_shared<LSTM>(stream, options),
                                inputs);
}

}  // namespace lstm_bridge
