// Conversions between float32 and half precision, by the kernel's own code: MLX's is scalar on x86.
#include "casts.hpp"

#include <utility>

#include "at_hand.hpp"
#include "mlx/ops.h"
#include "mlx/primitives.h"
#include "views.hpp"

namespace lstm_bridge {
namespace {

bool is_half(mx::Dtype dtype) { return half_of(dtype) != Half::kNone; }

mx::array cast(const mx::array& a, mx::Dtype to);

// One array's numbers in another precision, in their order in memory if they have no gaps.
struct Copy {
  View from;
  std::size_t count = 0;
  bool widens = false;
  Half half = Half::kFloat16;
  void* to = nullptr;

  // Gives `out` its memory and its axes.
  Copy(const mx::array& in, mx::array& out)
      : from(in),
        count(in.size()),
        widens(out.dtype() == mx::float32),
        half(half_of((widens ? in : out).dtype())) {
    auto memory = mx::allocator::malloc(out.nbytes());
    if (from.whole) {
      out.set_data(std::move(memory), count, in.strides(), in.flags());
    } else {
      out.set_data(std::move(memory));
    }
    to = out.data<char>();
  }

  void operator()() const {
    Scratch scratch;
    const auto n = static_cast<std::ptrdiff_t>(count);
    if (widens) {
      const void* const halves = from.whole ? from.data : contiguous<std::uint16_t>(from, scratch);
      variant().widen(half, n, static_cast<const std::uint16_t*>(halves), static_cast<float*>(to));
    } else {
      const void* const floats = from.whole ? from.data : contiguous<float>(from, scratch);
      variant().narrow(half, n, static_cast<const float*>(floats), static_cast<std::uint16_t*>(to));
    }
  }
};

class Cast : public mx::Primitive {
 public:
  Cast(mx::Stream stream, mx::Dtype to) : Primitive(stream), to_(to) {}

  const char* name() const override { return "LSTMBridgeCast"; }
  bool is_equivalent(const Primitive& other) const override {
    return to_ == static_cast<const Cast&>(other).to_;
  }
  void eval_gpu(const Arrays&, Arrays&) override {
    throw std::runtime_error("lstm_bridge's conversions run on the CPU only");
  }
  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    const Copy copy(inputs[0], outputs[0]);
    dispatch(stream(), inputs, outputs, [copy] { copy(); });
  }
  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>&,
             const Arrays&) override {
    return {cast(cotangents[0], primals[0].dtype())};
  }
  Arrays jvp(const Arrays&, const Arrays& tangents, const std::vector<int>&) override {
    return {cast(tangents[0], to_)};
  }
  std::pair<Arrays, std::vector<int>> vmap(const Arrays& inputs,
                                           const std::vector<int>& axes) override {
    return {{mx::astype(inputs[0], to_)}, axes};
  }

 private:
  const mx::Dtype to_;
};

mx::array cast(const mx::array& a, mx::Dtype to) {
  if (a.ndim() > 3) return mx::astype(a, to);
  const bool now = static_cast<double>(a.size()) <= kAtOnce && at_hand(a);
  if (!now)
    return mx::array(a.shape(), to,
                     std::make_shared<Cast>(mx::default_stream(mx::Device::cpu), to), {a});
  mx::array out(a.shape(), to, nullptr, {});
  const Copy copy(a, out);
  copy();
  out.set_status(mx::array::Status::available);
  return out;
}

}  // namespace

std::optional<mx::Dtype> precision(const std::vector<const mx::array*>& arrays, bool mixture) {
  std::optional<mx::Dtype> own;
  for (const mx::array* const a : arrays) {
    if (!a || a->dtype() == mx::bool_) continue;
    const mx::Dtype one = a->dtype();
    if (one != mx::float32 && !is_half(one)) return std::nullopt;
    if (own && one != *own && !mixture) return std::nullopt;
    own = !own || one == *own ? one : mx::float32;
  }
  return own;
}

View wide(const View& v, Scratch& scratch) {
  if (v.half == Half::kNone) return v;
  const std::ptrdiff_t count = v.size();
  float* const to = scratch.floats(count);
  Scratch between;
  const auto* const from = v.whole ? static_cast<const std::uint16_t*>(v.data)
                                   : contiguous<std::uint16_t>(v, between);
  variant().widen(v.half, count, from, to);
  View floats = v;
  floats.data = to;
  floats.half = Half::kNone;
  if (v.whole) return floats;
  floats.compact = floats.whole = true;
  std::ptrdiff_t step = 1;
  for (int k = v.rank; k-- > 0; step *= v.shape[k]) floats.strides[k] = step;
  return floats;
}

Written::Written(mx::Shape shape, mx::Dtype own, Scratch& scratch, const mx::array* like)
    : array_(empty(std::move(shape), own, like)),
      floats_(is_half(own) ? scratch.floats(static_cast<std::ptrdiff_t>(array_.size()))
                           : array_.data<float>()) {}

mx::array Written::done() {
  if (is_half(array_.dtype()))
    variant().narrow(half_of(array_.dtype()), static_cast<std::ptrdiff_t>(array_.size()), floats_,
                     array_.data<std::uint16_t>());
  return array_;
}

mx::array widened(const mx::array& a) {
  return is_half(a.dtype()) ? cast(a, mx::float32) : a;
}

MaybeResults narrowed(MaybeResults done, mx::Dtype own) {
  if (done && is_half(own))
    for (mx::array& a : *done) a = cast(a, own);
  return done;
}

}  // namespace lstm_bridge
