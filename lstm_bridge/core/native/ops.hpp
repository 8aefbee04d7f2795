// Any other operation of the kernel as an MLX primitive: a row in a table.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mlx/array.h"

namespace lstm_bridge {

using MaybeArrays = std::vector<std::optional<mlx::core::array>>;
using Settings = std::vector<double>;

// Run the named operation, or return none where the kernel does not serve: another device, arrays
// that do not fit each other, another dtype than float32 or one half precision.
//
// inputs: in the operation's own order, some of them none.
// settings: the operation's own numbers.
std::optional<std::vector<mlx::core::array>> run_op(const std::string& name,
                                                    const MaybeArrays& inputs,
                                                    const Settings& settings);

// The same equations composed of MLX's own operations, for the transformations that a fused
// primitive has not: inputs and settings as above, to the operation's outputs.
using ComposedOp = std::function<std::vector<mlx::core::array>(const MaybeArrays&, const Settings&)>;
bool set_composed_op(const std::string& name, ComposedOp f);

}  // namespace lstm_bridge
