// The kernel for x86-64 with AVX2 and FMA.
#include "variant.hpp"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2","fma","f16c")
#endif
#define NAME avx2
#define LABEL "avx2"
#define VW 8
#define MR 3
#include "variant.inc"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
