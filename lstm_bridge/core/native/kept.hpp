// Memory of large arrays that every call or training step makes anew.
#pragma once

#include "mlx/array.h"

namespace lstm_bridge {

// Give an array memory that returns to us when the array ends, for the next one: MLX's own allocator
// keeps 32 MB on a CPU, and the system's fresh memory is filled page by page. It lies as another of
// as many numbers, without gaps, if that is given.
float* allocate_kept(mlx::core::array& a, const mlx::core::array* like = nullptr);

}  // namespace lstm_bridge
