// The kernel for x86-64 with AVX-512.
#include "variant.hpp"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f","avx512bw","avx512dq","avx512vl","avx2","fma","f16c")
#endif
#define NAME avx512
#define LABEL "avx512"
#define VW 16
#define MR 6
#include "variant.inc"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
