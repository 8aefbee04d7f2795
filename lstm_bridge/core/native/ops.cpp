// The kernel's operations as MLX primitives: one class for the way there, one for the way back.
#include "ops.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <stdexcept>
#include <utility>

#include "at_hand.hpp"
#include "casts.hpp"
#include "derivatives.hpp"
#include "kept.hpp"
#include "mlx/device.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"
#include "mlx/stream.h"
#include "mlx/transforms.h"
#include "mlx/utils.h"
#include "op_kinds.hpp"

namespace lstm_bridge {
namespace {

std::map<const OpKind*, ComposedOp>& composed() {
  static auto* const it = new std::map<const OpKind*, ComposedOp>;  // holds Python's: never ends
  return *it;
}

struct Request {
  const OpKind* kind;
  std::vector<bool> present;  // which of the kind's inputs are there
  Settings settings;
  std::vector<mx::Shape> shapes;  // of the outputs that are asked for

  bool operator==(const Request&) const = default;

  template <class List>
  OpCall call(const List& inputs) const {
    OpCall call{{}, settings};
    std::size_t next = 0;
    for (const bool there : present) call.in.push_back(there ? View(inputs[next++]) : View());
    return call;
  }

  std::size_t count() const {
    std::size_t n = 0;
    for (const bool there : present) n += there;
    return n;
  }

  Arrays run_composed(const Arrays& inputs) const {
    MaybeArrays all;
    std::size_t next = 0;
    for (const bool there : present)
      there ? all.emplace_back(inputs[next++]) : all.emplace_back(std::nullopt);
    return composed().at(kind)(all, settings);
  }
};

class Operation : public mx::Primitive {
 public:
  Operation(mx::Stream stream, Request request)
      : Primitive(stream), request_(std::move(request)) {}
  void eval_gpu(const Arrays&, Arrays&) override {
    throw std::runtime_error("lstm_bridge's fused operations run on the CPU only");
  }

 protected:
  const Request request_;
};

// From the primals, all outputs and the cotangents of the caller's outputs to some gradients.
class Back : public Operation {
 public:
  Back(mx::Stream stream, Request request, std::vector<int> wanted)
      : Operation(stream, std::move(request)), wanted_(std::move(wanted)) {}

  const char* name() const override { return "LSTMBridgeBackward"; }

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    const OpCall call = request_.call(inputs);
    const std::size_t first = request_.count();
    std::vector<View> saved, down;
    for (std::size_t k = first; k < inputs.size(); ++k)
      (k < first + request_.shapes.size() ? saved : down).emplace_back(inputs[k]);
    Places to(request_.present.size(), nullptr);
    for (std::size_t k = 0; k < wanted_.size(); ++k) to[place(wanted_[k])] = allocate_kept(outputs[k]);
    dispatch(stream(), inputs, outputs,
             [kind = request_.kind, call, saved, down, to] { kind->backward(call, saved, down, to); });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays&) override {
    return gradients(composed_gradients(), primals, cotangents, argnums);
  }

  Arrays jvp(const Arrays& primals, const Arrays& tangents,
             const std::vector<int>& argnums) override {
    return push(composed_gradients(), primals, tangents, argnums);
  }

  std::pair<Arrays, std::vector<int>> vmap(const Arrays& inputs,
                                           const std::vector<int>& axes) override {
    return {mx::vmap(composed_gradients(), axes)(inputs), std::vector<int>(wanted_.size(), 0)};
  }

 private:
  // Where the argnum-th array that is there stands among all inputs.
  std::size_t place(int argnum) const {
    std::size_t at = 0;
    for (; argnum > 0 || !request_.present[at]; ++at) argnum -= request_.present[at];
    return at;
  }

  // The outputs follow from the primals: all of a derivative goes through these.
  std::function<Arrays(const Arrays&)> composed_gradients() const {
    return [this](const Arrays& inputs) {
      const auto n = static_cast<std::ptrdiff_t>(request_.count());
      const auto m = n + static_cast<std::ptrdiff_t>(request_.shapes.size());
      const Arrays primals(inputs.begin(), inputs.begin() + n);
      const Arrays down(inputs.begin() + m, inputs.end());
      const auto f = [this](const Arrays& a) { return request_.run_composed(a); };
      return gradients(f, primals, down, wanted_);
    };
  }

  const std::vector<int> wanted_;
};

class There : public Operation {
 public:
  using Operation::Operation;

  const char* name() const override { return request_.kind->name; }

  bool is_equivalent(const Primitive& other) const override {
    // mx.compile merges equals, and fails where they have several outputs.
    return request_.shapes.size() == 1 && request_ == static_cast<const There&>(other).request_;
  }

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    Places out;
    const bool follows = request_.kind->follows(View(inputs[0]));
    for (auto& one : outputs) {
      if (!out.empty() || !follows) {
        out.push_back(allocate_kept(one));
      } else if (inputs[0].is_donatable()) {
        one.copy_shared_buffer(inputs[0]);
        out.push_back(one.data<float>());
      } else {
        out.push_back(allocate_kept(one, &inputs[0]));
      }
    }
    dispatch(stream(), inputs, outputs,
             [kind = request_.kind, call = request_.call(inputs), out] { kind->forward(call, out); });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    std::vector<mx::Shape> shapes;
    std::vector<mx::Dtype> dtypes;  // a mask's gradient is wanted where it follows from an input
    for (const int k : argnums) {
      shapes.push_back(primals[static_cast<std::size_t>(k)].shape());
      dtypes.push_back(primals[static_cast<std::size_t>(k)].dtype());
    }
    Arrays inputs = primals;
    inputs.insert(inputs.end(), outputs.begin(), outputs.end());
    inputs.insert(inputs.end(), cotangents.begin(), cotangents.begin() + request_.kind->outputs);
    return mx::array::make_arrays(std::move(shapes), dtypes,
                                  std::make_shared<Back>(stream(), request_, argnums), inputs);
  }

  Arrays jvp(const Arrays& primals, const Arrays& tangents,
             const std::vector<int>& argnums) override {
    return push([this](const Arrays& a) { return all_outputs(a); }, primals, tangents, argnums);
  }

  std::pair<Arrays, std::vector<int>> vmap(const Arrays& inputs,
                                           const std::vector<int>& axes) override {
    const auto f = [this](const Arrays& a) { return all_outputs(a); };
    return {mx::vmap(f, axes)(inputs), std::vector<int>(request_.shapes.size(), 0)};
  }

 private:
  // Saved outputs are read by the way back's kernel alone, never by its own transformations: zeros
  // stand for them, which hang on the first output, so that vmap maps them like the rest.
  Arrays all_outputs(const Arrays& inputs) const {
    Arrays all = request_.run_composed(inputs);
    while (all.size() < request_.shapes.size()) {
      const mx::Shape& shape = request_.shapes[all.size()];
      const mx::array zero = mx::zeros_like(
          mx::slice(mx::reshape(all[0], {-1}), {0}, {1}));
      all.push_back(mx::broadcast_to(mx::reshape(zero, mx::Shape(shape.size(), 1)), shape));
    }
    return all;
  }
};

Arrays at_once(const OpKind& kind, const MaybeArrays& inputs, const Settings& settings,
               const std::vector<mx::Shape>& shapes, mx::Dtype own) {
  Scratch scratch;
  OpCall call{{}, settings};
  for (const auto& one : inputs) call.in.push_back(one ? wide(View(*one), scratch) : View());
  std::vector<Written> all;
  Places out;
  const mx::array* like = kind.follows(View(*inputs[0])) ? &*inputs[0] : nullptr;
  for (const auto& shape : shapes) {
    out.push_back(all.emplace_back(shape, own, scratch, like).data());
    like = nullptr;
  }
  kind.forward(call, out);
  Arrays done;
  for (Written& one : all) done.push_back(one.done());
  return done;
}

std::optional<Arrays> run(const OpKind* kind, const MaybeArrays& inputs, const Settings& settings,
                          mx::Dtype own) {
  Request request{kind, {}, settings, {}};
  Arrays given;
  bool traced = false;
  for (const auto& one : inputs) {
    request.present.push_back(one.has_value());
    if (!one) continue;
    const bool mask = static_cast<int>(request.present.size()) == kind->mask + 1;
    if (mask != (one->dtype() == mx::bool_)) return std::nullopt;
    given.push_back(*one);
    traced = traced || one->is_tracer();
  }
  auto shapes = kind->shapes(inputs, settings);
  if (shapes.empty()) return std::nullopt;
  if (!traced) shapes.resize(static_cast<std::size_t>(kind->outputs));
  if (!traced && kind->work(inputs) <= kAtOnce &&
      std::all_of(given.begin(), given.end(), at_hand))
    return at_once(*kind, inputs, settings, shapes, own);
  for (auto& one : given) one = widened(one);
  request.shapes = shapes;
  const std::vector<mx::Dtype> dtypes(shapes.size(), mx::float32);
  auto all = mx::array::make_arrays(
      std::move(shapes), dtypes,
      std::make_shared<There>(mx::default_stream(mx::Device::cpu), std::move(request)), given);
  all.erase(all.begin() + kind->outputs, all.end());
  return narrowed(std::move(all), own);
}

}  // namespace

std::optional<Arrays> run_op(const std::string& name, const MaybeArrays& inputs,
                             const Settings& settings) {
  const OpKind* const kind = op_kind(name);
  if (!kind || mx::default_device().type != mx::Device::cpu ||
      inputs.size() != static_cast<std::size_t>(kind->inputs))
    return std::nullopt;
  std::vector<const mx::array*> all;
  for (const auto& one : inputs) all.push_back(one ? &*one : nullptr);
  const auto own = precision(all, false);
  return own ? run(kind, inputs, settings, *own) : std::nullopt;
}

bool set_composed_op(const std::string& name, ComposedOp f) {
  const OpKind* const kind = op_kind(name);
  if (kind) composed()[kind] = std::move(f);
  return kind != nullptr;
}

}  // namespace lstm_bridge
