// Whether a call has something to wait for.
#pragma once

#include "mlx/array.h"

namespace lstm_bridge {

// Whether an array's numbers are there, or are those of one that is, seen otherwise. MLX leaves
// x.T and x[0] for later too, though nothing is computed for them: such views are made here.
bool at_hand(const mlx::core::array& a);

}  // namespace lstm_bridge
