// Half precision around the float32 kernel: what comes in is widened, what goes out narrowed.
#pragma once

#include <optional>
#include <vector>

#include "mlx/array.h"
#include "views.hpp"

namespace lstm_bridge {

using MaybeResults = std::optional<std::vector<mlx::core::array>>;

// The arrays' own precision, float32 or a half one, booleans and null aside; float32 of several,
// where a mixture is allowed. None for others.
std::optional<mlx::core::Dtype> precision(const std::vector<const mlx::core::array*>& arrays,
                                          bool mixture);

// What stands there in float32.
View wide(const View& v, Scratch& scratch);

// An output that the kernel writes in float32, in its own precision. It lies as another array of as
// many numbers, without gaps, if that is given.
class Written {
 public:
  Written(mlx::core::Shape shape, mlx::core::Dtype own, Scratch& scratch,
          const mlx::core::array* like = nullptr);
  float* data() const { return floats_; }
  mlx::core::array done();  // once the kernel has written it

 private:
  mlx::core::array array_;
  float* floats_;
};

// The array in float32, or float32 in another precision; at the call where the array is there.
mlx::core::array widened(const mlx::core::array& a);
MaybeResults narrowed(MaybeResults done, mlx::core::Dtype own);

}  // namespace lstm_bridge
