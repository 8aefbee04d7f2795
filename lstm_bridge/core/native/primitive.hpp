// What the Python module binds: the fused LSTM on MLX's arrays.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "call.hpp"

namespace lstm_bridge {

using Maybe = std::optional<mx::array>;

inline const mx::array* at(const Maybe& maybe) { return maybe ? &*maybe : nullptr; }

// Whether weights and mask fit without broadcasting: the kernel reads them by these sizes.
bool fits(const Given& given, int L, int N, int D);
// Whether the initial states do, [N, P] and [N, H].
bool states_fit(const Given& given, int N);

// One direction of one layer as a primitive: y, h, c, then, if asked for or traced, cells. States
// that are stacked have an axis of one in front.
Arrays fused(const Given& given, bool reverse, bool zero_masked, bool stacked, bool cells);

// The four below are computed at the call where they are small and all their inputs are there:
// MLX's scheduler costs more than such a sequence. None where the kernel does not serve.

// y, h, c and, if asked for, cells, of one direction of one layer.
std::optional<Arrays> lstm(const mx::array& x, const mx::array& Wx, const mx::array& Wh,
                           const Maybe& bias, const Maybe& Wp, const Maybe& h0, const Maybe& c0,
                           const Maybe& mask, bool reverse, bool zero_masked, bool cells);

// Layers × directions, from weights (Wx, Wh, two biases if biased, Wp if projected) of each layer's
// each direction: y, h, c.
std::optional<Arrays> layers(const mx::array& x, const Arrays& weights, bool biased, bool projected,
                             int directions, const Maybe& h0, const Maybe& c0, const Maybe& mask,
                             bool batch_first);

// One step over [N, D], or [D] alone: h, c.
std::optional<Arrays> cell(const mx::array& x, const mx::array& Wx, const mx::array& Wh,
                           const Maybe& bias, const Maybe& bias_h, const Maybe& h0,
                           const Maybe& c0);

// All states of one layer over [N, L, D], or [L, D] alone: y, cells, of the same axes.
std::optional<Arrays> trajectory(const mx::array& x, const mx::array& Wx, const mx::array& Wh,
                                 const Maybe& bias, const Maybe& h0, const Maybe& c0);

// The same equations composed of MLX's own operations, for the transformations that a fused
// primitive has not: from the inputs that are there, and flags that say which these are, then
// reverse and zero_masked, to y, h, c and cells.
using Composed = std::function<Arrays(const Arrays&, const std::vector<bool>&)>;
void set_composed(Composed f);

}  // namespace lstm_bridge
