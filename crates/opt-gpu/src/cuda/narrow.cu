
// Numbers that are stored in fewer bits. What is stored is such a number already.
struct Bf16 {
  typedef unsigned short One;
  typedef Index All;
  static __device__ __forceinline__ T number(One stored) { return number_of((unsigned)stored << 16); }
  // NaN stays NaN, also if only its last bits say so.
  static __device__ __forceinline__ One stored(T number) {
    return (One)(bits_of(number) >> 16 | (number != number ? 0x40u : 0u));
  }
};

struct F16 {
  typedef unsigned short One;
  typedef Index All;
  static __device__ __forceinline__ T number(One stored) { return stored_number(stored, 1u); }
  static __device__ __forceinline__ One stored(T number) { return (One)stored_bits(number, 1u); }
};

struct I8 {
  typedef signed char One;
  typedef unsigned All;
  static __device__ __forceinline__ T number(One stored) { return (T)stored; }
  static __device__ __forceinline__ One stored(T number) { return (One)number; }
};

// Random numbers, as the engine makes them: from the numbers of the step, that of the variable, and the place of an
// element. The first part, in 64 bits, is the same for many elements.
static __device__ __forceinline__ Index mixed(Index x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

struct Pair {
  unsigned first, flip;
};

// For all elements whose places have the same upper 32 bits.
static __device__ __forceinline__ Pair pair_at(Index source, unsigned number, Index place) {
  const Index key = mixed(mixed(source ^ (place >> 32)) + number);
  const Pair pair = {(unsigned)key, (unsigned)(key >> 32)};
  return pair;
}

// Two numbers of 16 bits for an element.
static __device__ __forceinline__ unsigned drawn(const Pair &pair, Index place) {
  unsigned x = ((unsigned)place + pair.first) ^ pair.flip;
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}
