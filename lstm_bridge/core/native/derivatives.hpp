// What MLX's transformations are asked of a primitive's composed form.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "views.hpp"

namespace lstm_bridge {

inline Arrays pick(const Arrays& all, const std::vector<int>& argnums) {
  Arrays some;
  for (const int k : argnums) some.push_back(all[static_cast<std::size_t>(k)]);
  return some;
}

// Some of f's gradients, no array twice, as those of two biases are: of a result that a function
// returns twice, MLX's vjp passes on the first cotangent alone.
template <class F>
Arrays gradients(const F& f, const Arrays& primals, const Arrays& cotangents,
                 const std::vector<int>& argnums) {
  Arrays some;
  for (const mx::array& one : pick(mx::vjp(f, primals, cotangents).second, argnums)) {
    const bool twice = std::any_of(some.begin(), some.end(),
                                   [&](const mx::array& other) { return other.id() == one.id(); });
    some.push_back(twice ? mx::copy(one) : one);
  }
  return some;
}

// f's results along the tangents of some of its inputs.
template <class F>
Arrays push(const F& f, const Arrays& primals, const Arrays& tangents,
            const std::vector<int>& argnums) {
  const auto of_some = [&](const Arrays& some) {
    Arrays all = primals;
    for (std::size_t k = 0; k < argnums.size(); ++k)
      all[static_cast<std::size_t>(argnums[k])] = some[k];
    return f(all);
  };
  return mx::jvp(of_some, pick(primals, argnums), tangents).second;
}

}  // namespace lstm_bridge
