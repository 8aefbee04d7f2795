// The kernel of the LSTM as two MLX primitives, forward and backward.
//
// Shape letters: N batch, L length, D input, H hidden, P projection (P = H without one).
#include "primitive.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "kernel.hpp"
#include "mlx/device.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"
#include "mlx/transforms.h"
#include "mlx/utils.h"
#include "views.hpp"

namespace lstm_bridge {
namespace {

// Inputs stand in this order, those that are absent left out.
enum Place { kX, kWx, kWh, kBias, kWp, kH0, kC0, kMask, kPlaces };

struct Options {
  bool present[kPlaces] = {};
  bool reverse = false, zero_masked = false;
  int outputs = 3;  // of y, h, c, cells, gates, the first so many

  bool operator==(const Options&) const = default;

  int index(Place place) const {
    if (!present[place]) return -1;
    int at = 0;
    for (int k = 0; k < place; ++k) at += present[k];
    return at;
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
  return (*composed)(inputs, bits(options));
}

// The inputs of either primitive, as the kernel wants them.
struct Call {
  Shape shape;
  View at[kPlaces];

  Call(const Options& o, const Arrays& inputs) {
    for (int k = 0, next = 0; k < kPlaces; ++k)
      if (o.present[k]) at[k] = View(inputs[next++]);
    shape = {at[kX].shape[0], at[kX].shape[1], at[kX].shape[2], at[kWx].shape[0] / 4,
             at[kWh].shape[1], o.reverse,      o.zero_masked};
  }

  Weights weights(Scratch& scratch) const {
    return {matrix(at[kWx]), matrix(at[kWh]), matrix(at[kWp]),
            contiguous<float>(at[kBias], scratch)};
  }

  Inputs inputs(Scratch& scratch) const {
    Inputs in;
    const View& x = at[kX];
    const bool direct = shape.D == 1 || x.strides[2] == 1;
    in.x = direct ? static_cast<const float*>(x.data) : contiguous<float>(x, scratch);
    in.x_step = direct ? x.strides[0] : shape.N * shape.D;
    in.x_row = direct ? x.strides[1] : shape.D;
    in.h0 = contiguous<float>(at[kH0], scratch);
    in.c0 = contiguous<float>(at[kC0], scratch);
    in.mask = contiguous<bool>(at[kMask], scratch);
    return in;
  }
};

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
    const Call call(options_, inputs);
    const std::size_t first = options_.count();
    View saved[3], down[4];
    for (int k = 0; k < 3; ++k) saved[k] = View(inputs[first + k]);
    for (int k = 0; k < 4; ++k) down[k] = View(inputs[first + 3 + k]);
    Gradients to;
    float** const places[] = {&to.x, &to.Wx, &to.Wh, &to.bias, &to.Wp, &to.h0, &to.c0};
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
    auto all = mx::vjp([this](const Arrays& a) { return composed_gradients(a); }, primals,
                       cotangents).second;
    return pick(all, argnums);
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

  static Arrays pick(const Arrays& all, const std::vector<int>& argnums) {
    Arrays some;
    for (const int k : argnums) some.push_back(all[k]);
    return some;
  }

  template <class F>
  static Arrays push(const F& f, const Arrays& primals, const Arrays& tangents,
                     const std::vector<int>& argnums) {
    const auto of_some = [&](const Arrays& some) {
      Arrays all = primals;
      for (std::size_t k = 0; k < argnums.size(); ++k) all[argnums[k]] = some[k];
      return f(all);
    };
    return mx::jvp(of_some, pick(primals, argnums), tangents).second;
  }

 private:
  // The saved outputs follow from the primals: all of a derivative goes through these.
  Arrays composed_gradients(const Arrays& inputs) const {
    const auto n = static_cast<std::ptrdiff_t>(options_.count());
    const Arrays primals(inputs.begin(), inputs.begin() + n);
    const Arrays down(inputs.begin() + n + 3, inputs.end());
    const auto f = [this](const Arrays& a) { return run_composed(options_, a); };
    return pick(mx::vjp(f, primals, down).second, wanted_);
  }

  const std::vector<int> wanted_;
};

class LSTM : public Fused {
 public:
  using Fused::Fused;

  const char* name() const override { return "LSTMBridgeLSTM"; }

  bool is_equivalent(const Primitive& other) const override {
    return options_ == static_cast<const LSTM&>(other).options_;
  }

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    const Call call(options_, inputs);
    Outputs to;
    to.y = allocate(outputs[0]);
    to.h = allocate(outputs[1]);
    to.c = allocate(outputs[2]);
    if (outputs.size() > 3) to.cells = allocate(outputs[3]);
    if (outputs.size() > 4) to.gates = allocate(outputs[4]);
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
    return LSTMBackward::push(f, primals, tangents, argnums);
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

// Whether the arrays fit each other without broadcasting: the kernel reads them by these sizes.
bool fits(const mx::array* const (&all)[kPlaces]) {
  const auto has = [&](Place place, const std::vector<int>& wanted) {
    if (!all[place]) return true;
    const auto& shape = all[place]->shape();
    return std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end());
  };
  if (all[kX]->ndim() != 3 || all[kWh]->ndim() != 2 || !all[kX]->size()) return false;
  const int L = all[kX]->shape(0), N = all[kX]->shape(1), D = all[kX]->shape(2);
  const int rows = all[kWh]->shape(0), P = all[kWh]->shape(1), H = rows / 4;
  return H > 0 && P > 0 && rows == 4 * H && has(kWx, {rows, D}) && has(kBias, {rows}) &&
         (all[kWp] ? has(kWp, {P, H}) : P == H) && has(kH0, {N, P}) && has(kC0, {N, H}) &&
         has(kMask, {L, N});
}

}  // namespace

void set_composed(Composed f) {
  delete composed;
  composed = new Composed(std::move(f));
}

std::optional<Arrays> lstm(const mx::array& x, const mx::array& Wx, const mx::array& Wh,
                           const Maybe& bias, const Maybe& Wp, const Maybe& h0, const Maybe& c0,
                           const Maybe& mask, bool reverse, bool zero_masked, bool cells) {
  const mx::Device device = mx::default_device();
  if (device.type != mx::Device::cpu) return std::nullopt;
  Options options;
  options.reverse = reverse;
  options.zero_masked = zero_masked;
  Arrays inputs;
  const mx::array* const all[kPlaces] = {&x,
                                         &Wx,
                                         &Wh,
                                         bias ? &*bias : nullptr,
                                         Wp ? &*Wp : nullptr,
                                         h0 ? &*h0 : nullptr,
                                         c0 ? &*c0 : nullptr,
                                         mask ? &*mask : nullptr};
  if (!fits(all)) return std::nullopt;
  bool traced = false;
  for (int k = 0; k < kPlaces; ++k) {
    if (!all[k]) continue;
    if (all[k]->dtype() != (k == kMask ? mx::bool_ : mx::float32)) return std::nullopt;
    options.present[k] = true;
    inputs.push_back(*all[k]);
    traced = traced || all[k]->is_tracer();
  }
  const int L = x.shape(0), N = x.shape(1), H = Wx.shape(0) / 4, P = Wh.shape(1);
  std::vector<mx::Shape> shapes = {{L, N, P}, {N, P}, {N, H}};
  if (cells || traced) shapes.push_back({L, N, H});
  if (traced) {
    lstm_bridge::Shape shape;
    shape.H = H;
    shapes.push_back({L, N, static_cast<int>(shape.gate_row())});
  }
  options.outputs = static_cast<int>(shapes.size());
  const std::vector<mx::Dtype> dtypes(shapes.size(), mx::float32);
  return mx::array::make_arrays(std::move(shapes), dtypes,
                                std::make_shared<LSTM>(mx::default_stream(device), options), inputs);
}

}  // namespace lstm_bridge
