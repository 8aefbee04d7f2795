// The Python module: one line per function.

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "kernel.hpp"
#include "mlx/version.h"
#include "ops.hpp"
#include "primitive.hpp"
#include "threads.hpp"

namespace nb = nanobind;

NB_MODULE(_fused, m) {
  using namespace lstm_bridge;
  m.attr("mlx_version") = std::to_string(MLX_VERSION_MAJOR) + "." +
                          std::to_string(MLX_VERSION_MINOR) + "." +
                          std::to_string(MLX_VERSION_PATCH);
  m.attr("sources") = LSTM_BRIDGE_SOURCES;
  m.def("lstm", &lstm, nb::arg("x"), nb::arg("Wx"), nb::arg("Wh"), nb::arg("bias").none(),
        nb::arg("Wp").none(), nb::arg("h0").none(), nb::arg("c0").none(), nb::arg("mask").none(),
        nb::arg("reverse"), nb::arg("zero_masked"), nb::arg("cells"));
  m.def("layers", &layers, nb::arg("x"), nb::arg("weights"), nb::arg("biased"),
        nb::arg("projected"), nb::arg("directions"), nb::arg("h0").none(), nb::arg("c0").none(),
        nb::arg("mask").none(), nb::arg("batch_first"));
  m.def("cell", &cell, nb::arg("x"), nb::arg("Wx"), nb::arg("Wh"), nb::arg("bias").none(),
        nb::arg("bias_h").none(), nb::arg("h0").none(), nb::arg("c0").none());
  m.def("trajectory", &trajectory, nb::arg("x"), nb::arg("Wx"), nb::arg("Wh"),
        nb::arg("bias").none(), nb::arg("h0").none(), nb::arg("c0").none());
  m.def("set_composed", [](nb::object f) {
    static PyObject* known = nullptr;  // never released, as the interpreter may end before us
    if (known == f.ptr()) return;
    known = f.release().ptr();
    set_composed([](const auto& inputs, const auto& flags) {
      nb::gil_scoped_acquire hold;
      return nb::cast<std::vector<mlx::core::array>>(nb::handle(known)(inputs, flags));
    });
  });
  m.def("run_op", &run_op, nb::arg("name"), nb::arg("inputs"), nb::arg("settings"));
  m.def("set_composed_op", [](const std::string& name, nb::object f) {
    PyObject* const held = f.release().ptr();  // never released, as above
    return set_composed_op(name, [held](const auto& inputs, const auto& settings) {
      nb::gil_scoped_acquire hold;
      return nb::cast<std::vector<mlx::core::array>>(nb::handle(held)(inputs, settings));
    });
  });
  m.def("variants", [] {
    std::vector<std::string> names;
    for (const Variant* v = variants(); v->name; ++v) names.emplace_back(v->name);
    return names;
  });
  m.def("variant", [] { return std::string(variant().name); });
  m.def("choose", [](const std::string& name) { return choose(name.c_str()); });
  m.def("threads", &thread_count);
}
