struct Chunk {
  unsigned segment, number;
};

// A number, stored as it is; and as many as a thread loads at once.
struct Full {
  typedef T One;
  typedef Vector All;
  static __device__ __forceinline__ T number(One stored) { return stored; }
  static __device__ __forceinline__ One stored(T number) { return number; }
};

// As many numbers as a thread loads at once.
struct Pack {
  T each[WIDTH];
};

template <class Stored> union StoredPack {
  typename Stored::All all;
  typename Stored::One each[WIDTH];
};

template <class Stored> static __device__ __forceinline__ Pack numbers(typename Stored::All all) {
  StoredPack<Stored> stored;
  stored.all = all;
  Pack pack;
#pragma unroll
  for (unsigned k = 0; k < WIDTH; k++) pack.each[k] = Stored::number(stored.each[k]);
  return pack;
}

template <class Stored> static __device__ __forceinline__ Pack read(const typename Stored::One *from) {
  return numbers<Stored>(*(const typename Stored::All *)from);
}

// Of what no thread of the kernel writes.
template <class Stored> static __device__ __forceinline__ Pack read_only(const typename Stored::One *from) {
  return numbers<Stored>(__ldg((const typename Stored::All *)from));
}

template <class Stored> static __device__ __forceinline__ void write(typename Stored::One *to, const Pack &pack) {
  StoredPack<Stored> stored;
#pragma unroll
  for (unsigned k = 0; k < WIDTH; k++) stored.each[k] = Stored::stored(pack.each[k]);
  *(typename Stored::All *)to = stored.all;
}
