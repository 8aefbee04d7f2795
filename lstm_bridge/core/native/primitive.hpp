// What the Python module binds: the fused LSTM on MLX's arrays.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "mlx/array.h"

namespace lstm_bridge {

using Maybe = std::optional<mlx::core::array>;

// y, h, c and, if asked for, cells; none where the fused primitive does not serve.
std::optional<std::vector<mlx::core::array>> lstm(
    const mlx::core::array& x, const mlx::core::array& Wx, const mlx::core::array& Wh,
    const Maybe& bias, const Maybe& Wp, const Maybe& h0, const Maybe& c0, const Maybe& mask,
    bool reverse, bool zero_masked, bool cells);

// The same equations composed of MLX's own operations, for the transformations that a fused
// primitive has not: from the inputs that are there, and flags that say which these are, then
// reverse and zero_masked, to y, h, c and cells.
using Composed = std::function<std::vector<mlx::core::array>(
    const std::vector<mlx::core::array>&, const std::vector<bool>&)>;
void set_composed(Composed f);

}  // namespace lstm_bridge
