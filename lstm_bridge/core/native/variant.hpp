// The standard headers of the variants, read before any target pragma.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cells.hpp"
#include "kernel.hpp"
#include "threads.hpp"
