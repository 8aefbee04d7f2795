// The inputs of one layer's one direction, and how the kernel gets them.
//
// Shape letters: N batch, L length, D input, H hidden, P projection (P = H without one).
#pragma once

#include <array>
#include <cstddef>

#include "kernel.hpp"
#include "views.hpp"

namespace lstm_bridge {

// Inputs stand in this order, those that are absent left out. The second bias is added to the first.
enum Place { kX, kWx, kWh, kBias, kBiasH, kWp, kH0, kC0, kMask, kPlaces };

// One direction's inputs, null where absent.
using Given = std::array<const mx::array*, kPlaces>;

// The inputs as the kernel wants them.
struct Call {
  Shape shape;
  View at[kPlaces];

  // From x time-major.
  void measure(bool reverse, bool zero_masked) {
    shape = {at[kX].shape[0],   at[kX].shape[1], at[kX].shape[2], at[kWx].shape[0] / 4,
             at[kWh].shape[1], reverse,         zero_masked};
  }

  Weights weights(Scratch& scratch) const {
    return {matrix(at[kWx]), matrix(at[kWh]), matrix(at[kWp]),
            contiguous<float>(at[kBias], scratch), contiguous<float>(at[kBiasH], scratch),
            at[kWh].half};
  }

  Inputs inputs(Scratch& scratch) const {
    Inputs in;
    const View& x = at[kX];
    const bool direct = shape.D == 1 || x.strides[2] == 1;
    in.x = direct ? static_cast<const float*>(x.data) : contiguous<float>(x, scratch);
    in.x_step = direct ? x.strides[0] : shape.N * shape.D;
    in.x_row = direct ? x.strides[1] : shape.D;
    in.h0 = contiguous<float>(at[kH0], scratch);
    in.c0 = contiguous<float>(at[kC0], scratch);
    in.mask = contiguous<bool>(at[kMask], scratch);
    return in;
  }
};

}  // namespace lstm_bridge
