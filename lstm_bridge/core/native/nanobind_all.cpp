// nanobind's own code, compiled with this extension.
#include "nb_combined.cpp"
