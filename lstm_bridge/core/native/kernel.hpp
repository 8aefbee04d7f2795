// The fused LSTM of one layer, one direction, without any knowledge of MLX or Python.
//
// Shape letters: N batch, L length, D input, H hidden, P projection (P = H without one).
// Gates stand in the order i, f, g, o. All numbers are float32, but for weights in half precision.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lstm_bridge {

// Half precision as it lies in memory.
struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};
enum class Half { kNone, kFloat16, kBFloat16 };

// A matrix that is read with any strides (in elements), so that transposed views need no copy.
template <class T>
struct MatrixOf {
  const T* data = nullptr;
  std::ptrdiff_t row = 0;
  std::ptrdiff_t column = 0;
};
using Matrix = MatrixOf<float>;

struct Shape {
  std::ptrdiff_t L = 0, N = 0, D = 0, H = 0, P = 0;
  bool reverse = false;      // start at the last step
  bool zero_masked = false;  // masked outputs are zero instead of repeating the output before

  // H in whole vectors of every variant; gates are saved in planes of this width.
  std::ptrdiff_t padded() const { return (H + 15) / 16 * 16; }
  // One row of saved gates. The 16 keep rows off equal cache sets where H is a power of two.
  std::ptrdiff_t gate_row() const { return 4 * padded() + 16; }
};

struct Weights {
  Matrix Wx;                    // [4H, D]
  Matrix Wh;                    // [4H, P]
  Matrix Wp;                    // [P, H], or no data
  const float* bias = nullptr;    // [4H], or null
  const float* bias_h = nullptr;  // [4H], added to it, or null
  // What the matrices' data points to, in truth; the forward pass of the LSTM reads it.
  Half half = Half::kNone;
};

struct Inputs {
  const float* x = nullptr;                // [L, N, D], D contiguous
  std::ptrdiff_t x_step = 0, x_row = 0;    // strides of L and N
  const float* h0 = nullptr;               // [N, P], or null for zeros
  const float* c0 = nullptr;               // [N, H], or null for zeros
  const bool* mask = nullptr;              // [L, N], or null for all steps
};

struct Outputs {
  float* y = nullptr;      // [L, N, P]
  float* h = nullptr;      // [N, P]
  float* c = nullptr;      // [N, H]
  float* cells = nullptr;  // [L, N, H], or null
  float* gates = nullptr;  // [L, N, gate_row()], or null
  // Strides of L and N, in elements; zeros stand for those of whole arrays.
  std::ptrdiff_t y_step = 0, y_row = 0, cells_step = 0, cells_row = 0;

  Outputs strided(const Shape& s) const {
    Outputs o = *this;
    if (!o.y_row) o.y_row = s.P, o.y_step = s.N * s.P;
    if (!o.cells_row) o.cells_row = s.H, o.cells_step = s.N * s.H;
    return o;
  }
};

// What a backward pass reads besides Inputs and Weights: the forward pass's own outputs, and the
// cotangents, each of which may be null for zeros.
struct Cotangents {
  const float* y = nullptr;      // values, [L, N, P]
  const float* cells = nullptr;  // values, [L, N, H]
  const float* gates = nullptr;  // values, [L, N, gate_row()]
  const float* dy = nullptr;     // [L, N, P]
  const float* dh = nullptr;     // [N, P]
  const float* dc = nullptr;     // [N, H]
  const float* dcells = nullptr; // [L, N, H]
};

// Each may be null where it is not wanted.
struct Gradients {
  float* x = nullptr;     // [L, N, D]
  float* Wx = nullptr;    // [4H, D]
  float* Wh = nullptr;    // [4H, P]
  float* Wp = nullptr;    // [P, H]
  float* bias = nullptr;  // [4H]
  float* h0 = nullptr;    // [N, P]
  float* c0 = nullptr;    // [N, H]
  float* bias_h = nullptr;  // [4H], the same numbers as bias
};

struct Cells;

// One instruction set's code.
struct Variant {
  const char* name;
  void (*forward)(const Shape&, const Weights&, const Inputs&, const Outputs&);
  void (*backward)(const Shape&, const Weights&, const Inputs&, const Cotangents&,
                   const Gradients&);
  void (*activations)(std::ptrdiff_t n, const float* z, float* sigmoid, float* tanh);
  void (*widen)(Half, std::ptrdiff_t count, const std::uint16_t* from, float* to);
  void (*narrow)(Half, std::ptrdiff_t count, const float* from, std::uint16_t* to);
  const Cells* cells;  // the rest of it
};

// Those that this processor can run, the fastest first; ends with a null name.
const Variant* variants();
// The one in use: the fastest, until one is chosen.
const Variant& variant();
// Use the named one; false if this processor has none of that name.
bool choose(const char* name);

}  // namespace lstm_bridge
