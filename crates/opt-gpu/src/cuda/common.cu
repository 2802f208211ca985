union Pack {
  Vector all;
  T each[WIDTH];
};

struct Chunk {
  unsigned segment, number;
};

static __device__ __forceinline__ Pack read(const T *from) {
  Pack pack;
  pack.all = *(const Vector *)from;
  return pack;
}

// Of what no thread of the kernel writes.
static __device__ __forceinline__ Pack read_only(const T *from) {
  Pack pack;
  pack.all = __ldg((const Vector *)from);
  return pack;
}
