
struct Question {
  const Gradient::One *gradient;
  Index count;
  double limit; // infinite if there is none
  Index is_aligned;
};

struct Part {
  double sum;
  int exponent;
  unsigned is_finite;
};

// WIDTH elements; those behind the end are 0. Which thread gets which element depends on its place alone.
static __device__ __forceinline__ Pack elements(const Question &question, Index at, Index end) {
  if (question.is_aligned && at + WIDTH <= end) return read_only<Gradient>(question.gradient + at);
  Pack pack;
#pragma unroll
  for (unsigned k = 0; k < WIDTH; k++)
    pack.each[k] = at + k < end ? Gradient::number(__ldg(question.gradient + at + k)) : (T)0;
  return pack;
}

static __device__ __forceinline__ double magnitude(const Question &question, T x) {
  const double of = fabs((double)x);
  return of > question.limit ? question.limit : of;
}

static __device__ __forceinline__ bool is_finite(double x) { return fabs(x) <= 0x1.fffffffffffffp1023; }

// The exponent of the largest finite magnitude of a part; less if 2 to the power of minus it were no normal number.
static __device__ __forceinline__ int exponent_of(double largest) {
  if (largest == 0.0) return 0;
  const int exponent = (int)(__double_as_longlong(largest) >> 52) - 1023;
  return exponent > 1022 ? 1022 : exponent;
}

extern "C" __global__ void __launch_bounds__(THREADS) measure(const Question *questions, const Chunk *chunks, Part *parts) {
  __shared__ double numbers[THREADS];
  __shared__ unsigned are_finite[THREADS];
  const unsigned thread = threadIdx.x;
  const Chunk chunk = chunks[blockIdx.x];
  const Question question = questions[chunk.segment];
  const Index begin = (Index)chunk.number * PART;
  const Index end = begin + PART < question.count ? begin + PART : question.count;
  const Index first = begin + thread * WIDTH;
  int exponent = 0;
  // Squares of 32-bit numbers are neither too large nor too small in 64 bits.
  if (sizeof(T) == sizeof(double)) {
    double largest = 0.0;
    for (Index at = first; at < end; at += THREADS * WIDTH) {
      const Pack pack = elements(question, at, end);
#pragma unroll
      for (unsigned k = 0; k < WIDTH; k++) {
        const double of = magnitude(question, pack.each[k]);
        if (of > largest && is_finite(of)) largest = of;
      }
    }
    numbers[thread] = largest;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
      __syncthreads();
      if (thread < half && numbers[thread + half] > numbers[thread]) numbers[thread] = numbers[thread + half];
    }
    __syncthreads();
    exponent = exponent_of(numbers[0]);
    __syncthreads();
  }
  const double scale = __longlong_as_double((long long)(1023 - exponent) << 52);
  double sum = 0.0;
  bool all = true;
  for (Index at = first; at < end; at += THREADS * WIDTH) {
    const Pack pack = elements(question, at, end);
#pragma unroll
    for (unsigned k = 0; k < WIDTH; k++) {
      const double of = magnitude(question, pack.each[k]) * scale;
      all = all && is_finite((double)pack.each[k]);
      sum += of * of;
    }
  }
  numbers[thread] = sum;
  are_finite[thread] = all;
  for (unsigned half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) {
      numbers[thread] += numbers[thread + half];
      are_finite[thread] &= are_finite[thread + half];
    }
  }
  if (thread == 0) {
    const Part part = {numbers[0], exponent, are_finite[0]};
    parts[blockIdx.x] = part;
  }
}
