// The table of operations: what each is given, what it returns, and the kernel's code for it.
#pragma once

#include <string>
#include <vector>

#include "cells.hpp"
#include "ops.hpp"
#include "views.hpp"

namespace lstm_bridge {

// What an operation's code reads: its inputs, absent ones without data.
struct OpCall {
  std::vector<View> in;
  Settings settings;

  std::ptrdiff_t size(int input, int axis) const {
    return in[static_cast<std::size_t>(input)].shape[static_cast<std::size_t>(axis)];
  }
};

// Where its outputs go, and, on the way back, where they are. Saved ones are null or absent where
// nothing is differentiated.
using Places = std::vector<float*>;

// Where the first output of an operation on single numbers lies: where it likes; in the place of the
// first input if nobody else reads that, and it lies in rows, or has no gaps and any order of axes,
// which is then the output's, too.
enum class Lies { kAlone, kInRows, kInAnyOrder };

struct OpKind {
  const char* name;
  int inputs;
  int outputs;  // those that the caller gets; more are saved for the way back
  // Shapes of the outputs, then of what is saved; empty where the kernel does not serve.
  std::vector<mx::Shape> (*shapes)(const MaybeArrays&, const Settings&);
  // About how many operations it takes.
  double (*work)(const MaybeArrays&);
  void (*forward)(const OpCall&, const Places& out);
  // saved: all outputs of the way there. down: cotangents of the caller's outputs.
  void (*backward)(const OpCall&, const std::vector<View>& saved, const std::vector<View>& down,
                   const Places& to);
  int mask = -1;  // the one input that is boolean, if any
  Lies lies = Lies::kAlone;

  bool follows(const View& x) const {
    return lies == Lies::kInAnyOrder ? x.whole : lies == Lies::kInRows && x.compact;
  }
};

// The array's numbers in whichever order they lie in, if there are no gaps.
inline const float* in_any_order(const View& v, Scratch& scratch) {
  return v.whole ? static_cast<const float*>(v.data) : contiguous<float>(v, scratch);
}

// Null for an unknown name.
const OpKind* op_kind(const std::string& name);
// The same of those without a state alone.
const OpKind* dense_kind(const std::string& name);
// And of those over rows and single numbers alone.
const OpKind* row_kind(const std::string& name);

}  // namespace lstm_bridge
