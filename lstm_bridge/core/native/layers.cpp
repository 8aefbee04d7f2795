// Layers, directions and single steps in one call each, computed at once where that is quicker.
//
// Shape letters: N batch, L length, D input, H hidden, P projection (P = H without one).

#include <algorithm>

#include "at_hand.hpp"
#include "casts.hpp"
#include "mlx/device.h"
#include "mlx/ops.h"
#include "primitive.hpp"

namespace lstm_bridge {
namespace {

double operations(double steps, const Given& g) {
  const double rows = g[kWh]->shape(0), D = g[kWx]->shape(1), P = g[kWh]->shape(1);
  return 2 * steps * (rows * (D + P) + (g[kWp] ? P * rows / 4 : 0));
}

// Nothing of it is traced, and there is nothing to wait for.
bool all_there(const Given& given) {
  return std::all_of(given.begin(), given.end(),
                     [](const mx::array* a) { return !a || at_hand(*a); });
}

// As the kernel reads them at once: weights in half precision as they lie, if all are of the same,
// and the rest in float32.
Call views(const Given& given, Scratch& scratch) {
  Call call;
  for (int k = 0; k < kPlaces; ++k)
    if (given[k]) call.at[k] = View(*given[k]);
  const auto lies = [&](Place place) {
    return !given[place] || call.at[place].half == call.at[kWh].half;
  };
  const bool even = lies(kWx) && lies(kWp);
  for (int k = 0; k < kPlaces; ++k)
    if (!even || (k != kWx && k != kWh && k != kWp)) call.at[k] = wide(call.at[k], scratch);
  return call;
}

void compute(const Call& call, const Outputs& to) {
  Scratch scratch;
  variant().forward(call.shape, call.weights(scratch), call.inputs(scratch), to);
}

// The fused primitive of the same in float32.
Arrays fused_wide(const Given& given, bool reverse, bool zero_masked, bool stacked, bool cells) {
  Arrays held;
  held.reserve(kPlaces);
  Given all = {};
  for (int k = 0; k < kPlaces; ++k)
    if (given[k]) all[k] = k == kMask ? given[k] : &held.emplace_back(widened(*given[k]));
  return fused(all, reverse, zero_masked, stacked, cells);
}

// The precision of the results, or none where the kernel does not serve.
std::optional<mx::Dtype> served(const Given& given, bool mixture) {
  for (int k = 0; k < kPlaces; ++k)
    if (given[k] && (k == kMask) != (given[k]->dtype() == mx::bool_)) return std::nullopt;
  if (mx::default_device().type != mx::Device::cpu) return std::nullopt;
  return precision({given.begin(), given.end()}, mixture);
}

// What is asked of a stack of layers.
struct Stack {
  const mx::array& x;
  std::vector<Given> all;  // layer by layer; x and the states are the whole stack's
  int K;                   // directions
  bool batch_first;
  mx::Dtype own = mx::float32;

  int count() const { return static_cast<int>(all.size()); }
  int L() const { return x.shape(batch_first ? 1 : 0); }
  int N() const { return x.shape(batch_first ? 0 : 1); }
  int H() const { return all[0][kWx]->shape(0) / 4; }
  int P() const { return all[0][kWh]->shape(1); }

  bool fit() const {
    const auto deep = [&](const mx::array* state, int width) {
      return !state || (state->ndim() == 3 && state->shape(0) == count() &&
                        state->shape(1) == N() && state->shape(2) == width);
    };
    for (int k = 0; k < count(); ++k)
      if (!served(all[k], false) || all[k][kWx]->shape(0) != 4 * H() || all[k][kWh]->ndim() != 2 ||
          all[k][kWh]->shape(1) != P() || !fits(all[k], L(), N(), k < K ? x.shape(2) : K * P()))
        return false;
    return deep(all[0][kH0], P()) && deep(all[0][kC0], H());
  }

  bool small() const {
    double work = 0;
    for (const Given& one : all) work += operations(double(L()) * N(), one);
    return work <= kAtOnce && std::all_of(all.begin(), all.end(), all_there);
  }

  Arrays at_once() const {
    const int width = K * P();
    Scratch scratch;
    Written y(batch_first ? mx::Shape{N(), L(), width} : mx::Shape{L(), N(), width}, own, scratch);
    Written h({count(), N(), P()}, own, scratch), c({count(), N(), H()}, own, scratch);
    const std::ptrdiff_t size = std::ptrdiff_t{L()} * N() * width;
    float* const between[2] = {count() > K ? scratch.floats(size) : nullptr,
                               count() > 2 * K ? scratch.floats(size) : nullptr};
    View states[2];
    for (const Place state : {kH0, kC0})
      if (all[0][state]) states[state - kH0] = wide(View(*all[0][state]), scratch);
    View in = wide(View(x), scratch);
    if (batch_first) in = in.turned();
    for (int k = 0; k < count(); ++k) {
      const int depth = k / K;
      Scratch own_scratch;
      Given weights = all[k];
      for (const Place place : {kX, kH0, kC0}) weights[place] = nullptr;
      Call call = views(weights, own_scratch);
      call.at[kX] = in;
      for (const Place state : {kH0, kC0})
        if (all[k][state]) call.at[state] = states[state - kH0].part(k);
      call.measure(k % K == 1, true);
      const bool last = k + K >= count(), turned = last && batch_first;
      float* const whole = last ? y.data() : between[depth % 2];
      Outputs to;
      to.y = whole + k % K * P();
      to.y_row = turned ? std::ptrdiff_t{L()} * width : width;
      to.y_step = turned ? width : std::ptrdiff_t{N()} * width;
      to.h = h.data() + std::ptrdiff_t{k} * N() * P();
      to.c = c.data() + std::ptrdiff_t{k} * N() * H();
      compute(call, to);
      if (k % K == K - 1) in = View(whole, L(), N(), width);
    }
    return {y.done(), h.done(), c.done()};
  }

  MaybeResults later() const {
    mx::array in = widened(batch_first ? mx::swapaxes(x, 0, 1) : x);
    const auto part = [&](const mx::array& state, int k) {
      return mx::slice(state, {k, 0, 0}, {k + 1, state.shape(1), state.shape(2)});
    };
    Arrays hs, cs;
    for (int k = 0; k < count(); k += K) {
      Arrays ys;
      for (int d = 0; d < K; ++d) {
        Given given = all[k + d];
        Maybe states[2];
        for (const Place state : {kH0, kC0}) {
          if (!given[state] || count() == 1) continue;
          states[state - kH0] = part(*given[state], k + d);
          given[state] = &*states[state - kH0];
        }
        given[kX] = &in;
        Arrays done = fused_wide(given, d == 1, true, true, false);
        ys.push_back(done[0]);
        hs.push_back(done[1]);
        cs.push_back(done[2]);
      }
      in = K == 1 ? ys[0] : mx::concatenate(ys, -1);
    }
    return narrowed(Arrays{batch_first ? mx::swapaxes(in, 0, 1) : in,
                           count() == 1 ? hs[0] : mx::concatenate(hs, 0),
                           count() == 1 ? cs[0] : mx::concatenate(cs, 0)},
                    own);
  }
};

std::optional<Arrays> lstm_of(const Given& given, bool reverse, bool zero_masked, bool cells) {
  const mx::array& x = *given[kX];
  const auto own = served(given, !given[kWp]);
  if (!own || x.ndim() != 3 || !fits(given, x.shape(0), x.shape(1), x.shape(2)) ||
      !states_fit(given, x.shape(1)))
    return std::nullopt;
  const int L = x.shape(0), N = x.shape(1), P = given[kWh]->shape(1);
  const int H = given[kWx]->shape(0) / 4;
  if (operations(double(L) * N, given) > kAtOnce || !all_there(given))
    return narrowed(fused_wide(given, reverse, zero_masked, false, cells), *own);
  Scratch scratch;
  Call call = views(given, scratch);
  call.measure(reverse, zero_masked);
  Written y({L, N, P}, *own, scratch), h({N, P}, *own, scratch), c({N, H}, *own, scratch);
  std::optional<Written> all;
  if (cells) all.emplace(mx::Shape{L, N, H}, *own, scratch);
  Outputs to;
  to.y = y.data();
  to.h = h.data();
  to.c = c.data();
  to.cells = cells ? all->data() : nullptr;
  compute(call, to);
  Arrays done = {y.done(), h.done(), c.done()};
  if (cells) done.push_back(all->done());
  return done;
}

// The same with another x, and states that have an axis for the batch.
struct Flat {
  Maybe states[2];
  Given given;

  Flat(const Given& from, const mx::array& x, bool alone) : given(from) {
    given[kX] = &x;
    for (const Place state : {kH0, kC0}) {
      if (!alone || !from[state]) continue;
      Maybe& own = states[state - kH0];
      own = mx::expand_dims(*from[state], 0);
      given[state] = &*own;
    }
  }
};

std::optional<Arrays> cell_of(const Given& given) {
  const mx::array& x = *given[kX];
  const int rank = static_cast<int>(x.ndim());
  const auto own = served(given, false);
  if (rank < 1 || rank > 2 || !own) return std::nullopt;
  const int N = rank == 2 ? x.shape(0) : 1, D = x.shape(-1);
  if (!fits(given, 1, N, D)) return std::nullopt;
  const int H = given[kWx]->shape(0) / 4;
  mx::Shape shape = {H};
  if (rank == 2) shape = {N, H};
  for (const mx::array* const state : {given[kH0], given[kC0]})
    if (state && state->shape() != shape) return std::nullopt;
  if (operations(N, given) <= kAtOnce && all_there(given)) {
    Scratch scratch;
    Call call = views(given, scratch);
    for (const Place place : {kX, kH0, kC0})
      for (int k = place == kX ? rank : rank + 1; given[place] && k < 3; ++k)
        call.at[place] = call.at[place].inside();
    call.measure(false, false);
    Written h(shape, *own, scratch), c(shape, *own, scratch);
    Outputs to;
    to.y = scratch.floats(std::ptrdiff_t{N} * H);
    to.h = h.data();
    to.c = c.data();
    compute(call, to);
    return Arrays{h.done(), c.done()};
  }
  const mx::array x3 = mx::reshape(x, {1, N, D});
  const Flat flat(given, x3, rank == 1);
  const Arrays done = fused_wide(flat.given, false, false, false, false);
  const Arrays states = {done[1], done[2]};
  if (rank == 2) return narrowed(states, *own);
  return narrowed(Arrays{mx::reshape(done[1], shape), mx::reshape(done[2], shape)}, *own);
}

std::optional<Arrays> trajectory_of(const Given& given) {
  const mx::array& x = *given[kX];
  const int rank = static_cast<int>(x.ndim());
  const auto own = served(given, true);
  if (rank < 2 || rank > 3 || !own) return std::nullopt;
  const int N = rank == 3 ? x.shape(0) : 1, L = x.shape(-2), D = x.shape(-1);
  if (!fits(given, L, N, D)) return std::nullopt;
  const int H = given[kWx]->shape(0) / 4;
  mx::Shape state = {H}, all = {L, H};
  if (rank == 3) {
    state = {N, H};
    all = {N, L, H};
  }
  for (const mx::array* const one : {given[kH0], given[kC0]})
    if (one && one->shape() != state) return std::nullopt;
  if (operations(double(L) * N, given) <= kAtOnce && all_there(given)) {
    Scratch scratch;
    Call call = views(given, scratch);
    call.at[kX] = rank == 3 ? call.at[kX].turned() : call.at[kX].inside().turned();
    for (const Place place : {kH0, kC0})
      if (given[place] && rank == 2) call.at[place] = call.at[place].inside();
    call.measure(false, false);
    Written y(all, *own, scratch), cells(all, *own, scratch);
    Outputs to;
    to.y = y.data();
    to.cells = cells.data();
    to.h = scratch.floats(2 * std::ptrdiff_t{N} * H);
    to.c = to.h + std::ptrdiff_t{N} * H;
    to.y_row = to.cells_row = std::ptrdiff_t{L} * H;
    to.y_step = to.cells_step = H;
    compute(call, to);
    return Arrays{y.done(), cells.done()};
  }
  const mx::array steps = rank == 3 ? mx::swapaxes(x, 0, 1) : mx::expand_dims(x, 1);
  const Flat flat(given, steps, rank == 2);
  const Arrays done = fused_wide(flat.given, false, false, false, true);
  const auto back = [&](const mx::array& a) {
    return rank == 3 ? mx::swapaxes(a, 0, 1) : mx::squeeze(a, 1);
  };
  return narrowed(Arrays{back(done[0]), back(done[3])}, *own);
}

}  // namespace

std::optional<Arrays> lstm(const mx::array& x, const mx::array& Wx, const mx::array& Wh,
                           const Maybe& bias, const Maybe& Wp, const Maybe& h0, const Maybe& c0,
                           const Maybe& mask, bool reverse, bool zero_masked, bool cells) {
  return lstm_of({&x, &Wx, &Wh, at(bias), nullptr, at(Wp), at(h0), at(c0), at(mask)}, reverse,
                 zero_masked, cells);
}

std::optional<Arrays> layers(const mx::array& x, const Arrays& weights, bool biased, bool projected,
                             int directions, const Maybe& h0, const Maybe& c0, const Maybe& mask,
                             bool batch_first) {
  const std::size_t per = 2 + 2 * biased + projected;
  std::vector<const mx::array*> given = {&x, at(h0), at(c0)};
  for (const mx::array& w : weights) given.push_back(&w);
  const auto own = precision(given, false);
  if (!own || x.ndim() != 3 || weights.empty() || directions < 1 || directions > 2 ||
      weights.size() % (per * directions))
    return std::nullopt;
  Stack stack{x, std::vector<Given>(weights.size() / per), directions, batch_first, *own};
  for (std::size_t k = 0; k < stack.all.size(); ++k) {
    const mx::array* const first = &weights[k * per];
    stack.all[k] = {&x,     first,  first + 1, biased ? first + 2 : nullptr,
                    biased ? first + 3 : nullptr, projected ? first + per - 1 : nullptr,
                    at(h0), at(c0), at(mask)};
    if (first->ndim() != 2) return std::nullopt;
  }
  if (stack.all[0][kWh]->ndim() != 2 || !stack.fit()) return std::nullopt;
  if (stack.small()) return stack.at_once();
  return stack.later();
}

std::optional<Arrays> cell(const mx::array& x, const mx::array& Wx, const mx::array& Wh,
                           const Maybe& bias, const Maybe& bias_h, const Maybe& h0,
                           const Maybe& c0) {
  return cell_of({&x, &Wx, &Wh, at(bias), at(bias_h), nullptr, at(h0), at(c0), nullptr});
}

std::optional<Arrays> trajectory(const mx::array& x, const mx::array& Wx, const mx::array& Wh,
                                 const Maybe& bias, const Maybe& h0, const Maybe& c0) {
  return trajectory_of({&x, &Wx, &Wh, at(bias), nullptr, nullptr, at(h0), at(c0), nullptr});
}

}  // namespace lstm_bridge
