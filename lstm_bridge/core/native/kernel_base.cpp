// The kernel for what every processor of an architecture has: NEON on aarch64, SSE2 on x86-64.
#include "variant.hpp"

#define NAME base
#define VW 4
#if defined(__aarch64__)
#define LABEL "neon"
#define MR 6  // 32 registers hold 24 sums, four columns and a broadcast; 16 hold 12
#else
#define LABEL "baseline"
#define MR 3
#endif
#include "variant.inc"
