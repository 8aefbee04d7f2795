// What the kernel computes besides the LSTM: the other cells, and a table of all that it has.
//
// Shape letters: N batch, L length, D input, H hidden. All numbers are float32.
#pragma once

#include <cstddef>

#include "dense.hpp"
#include "kernel.hpp"

namespace lstm_bridge {

constexpr int kBranches = 5;  // of an mLSTM: k, v, i, f, o

// The values of an mLSTM: what goes in, and what its own forward pass found.
struct MLSTM {
  std::ptrdiff_t L = 0, N = 0, D = 0, H = 0;
  const float* x = nullptr;            // [L, N, D]
  const float* c0 = nullptr;           // [N, H]
  const float* n0 = nullptr;           // [N, H]
  const float* residual = nullptr;     // [L, N, H], added to the output, or null
  Matrix W[kBranches];                 // [H, D]
  const float* bias[kBranches] = {};   // [H], or null
  Norm norm[kBranches];                // over H
  float* y = nullptr;                  // [L, N, H]
  float* c = nullptr;                  // [N, H]
  float* n = nullptr;                  // [N, H]
  float* z = nullptr;                  // [L, N, z_row()] what the way back reads, or null

  static constexpr std::ptrdiff_t kFront = 16;  // a row's moments
  std::ptrdiff_t padded() const { return (H + 15) / 16 * 16; }
  std::ptrdiff_t branch_row() const { return kFront + kBranches * padded(); }
  std::ptrdiff_t z_row() const { return branch_row() + 2 * padded(); }
};

struct MLSTMGradients {
  const float* dy = nullptr;  // cotangents, each null for zeros: [L, N, H]
  const float* dc = nullptr;  // [N, H]
  const float* dn = nullptr;  // [N, H]
  float* x = nullptr;         // wanted gradients, each null where it is not
  float* c0 = nullptr;
  float* n0 = nullptr;
  float* residual = nullptr;
  float* W[kBranches] = {};
  float* bias[kBranches] = {};
  NormGradients norm[kBranches];
};

enum SLSTMNorm { kNormX, kNormH, kNormC, kNormOut, kNormLayer, kSLSTMNorms };

// The values of an sLSTM layer: gates in the order i, f, g, o.
struct SLSTM {
  std::ptrdiff_t L = 0, N = 0, D = 0, H = 0;
  const float* x = nullptr;         // [L, N, D]
  const float* h0 = nullptr;        // [N, H]
  const float* c0 = nullptr;        // [N, H]
  const float* residual = nullptr;  // [L, N, H], or null
  const float* keep = nullptr;      // [L, N, H] multiplies h before it goes into a step, or null
  Matrix Wx, Wh;                    // [4H, D], [4H, H]
  const float* bias_x = nullptr;    // [4H], or null
  const float* bias_h = nullptr;    // [4H], or null
  Norm norm[kSLSTMNorms];           // of both parts of the gates (4H), of c, of tanh c, of h (H)
  float* y = nullptr;               // [L, N, H]
  float* h = nullptr;               // [N, H]
  float* c = nullptr;               // [N, H]
  float* z = nullptr;               // [L, N, z_row()] what the way back reads, or null

  static constexpr std::ptrdiff_t kFront = 16;  // a row's moments
  // A gate stands at 4H's own place: the norms run over all four.
  std::ptrdiff_t gates() const { return (4 * H + 15) / 16 * 16; }
  std::ptrdiff_t z_row() const { return kFront + 2 * gates() + (H + 15) / 16 * 16; }
};

struct SLSTMGradients {
  const float* dy = nullptr;
  const float* dh = nullptr;
  const float* dc = nullptr;
  float* x = nullptr;
  float* h0 = nullptr;
  float* c0 = nullptr;
  float* residual = nullptr;
  float* keep = nullptr;
  float* Wx = nullptr;
  float* Wh = nullptr;
  float* bias_x = nullptr;
  float* bias_h = nullptr;
  NormGradients norm[kSLSTMNorms];
};

// Cells whose output is their only state are described by the LSTM's own structs, P being H: a GRU's
// weights have rows r, z, n, a simple RNN's one row per unit. Of Outputs they have y, h and, a GRU,
// gates: r, z, n and the state's part of n, [L, N, gate_row()].

// Of a GRU: whether r is a factor after the product with the state, or before, and whether the
// weights' rows are z, r, n instead.
struct GRUForm {
  bool reset_after, update_first;
};

// One instruction set's code.
struct Cells {
  void (*affine)(const Affine&);
  // y holds the values, dy [M, O] their cotangent.
  void (*affine_backward)(const Affine&, const float* dy, const AffineGradients&);
  void (*squash)(Squash, std::ptrdiff_t count, const float* x, float* y);
  void (*unsquash)(Squash, std::ptrdiff_t count, const float* y, const float* dy, float* dx);
  void (*mlstm)(const MLSTM&);
  void (*mlstm_backward)(const MLSTM&, const MLSTMGradients&);
  void (*slstm)(const SLSTM&);
  void (*slstm_backward)(const SLSTM&, const SLSTMGradients&);
  void (*gru)(const Shape&, const Weights&, const Inputs&, GRUForm, const Outputs&);
  void (*gru_backward)(const Shape&, const Weights&, const Inputs&, GRUForm,
                       const Cotangents&, const Gradients&);
  void (*rnn)(const Shape&, const Weights&, const Inputs&, Squash, const Outputs&);
  void (*rnn_backward)(const Shape&, const Weights&, const Inputs&, Squash, const Cotangents&,
                       const Gradients&);
  Dense dense;
};

// Of the variant in use.
const Cells& cells();

}  // namespace lstm_bridge
