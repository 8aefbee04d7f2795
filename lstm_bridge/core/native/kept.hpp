// Memory of large arrays that every training step makes anew.
#pragma once

#include "mlx/array.h"

namespace lstm_bridge {

// Give an array memory that returns to us when the array ends, for the next one: MLX's own allocator
// keeps 32 MB on a CPU, and the system's fresh memory is filled page by page.
float* allocate_kept(mlx::core::array& a);

}  // namespace lstm_bridge
