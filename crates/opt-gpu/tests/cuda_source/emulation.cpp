// Runs kernels on a CPU: the words of CUDA C that are not C++, the kernels (in place of KERNELS), and a program that reads
// launches from a file and writes what they leave into another one.

#include <barrier>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(threads)
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct Coordinates {
  unsigned x;
};
static thread_local Coordinates threadIdx, blockIdx;

template <class T> static T __ldg(const T *from) { return *from; }
static long long __double_as_longlong(double x) {
  long long bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
static double __longlong_as_double(long long bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

constexpr unsigned ALL_THREADS = 256;
static std::barrier<> together(ALL_THREADS);
static void __syncthreads() { together.arrive_and_wait(); }

// One thread after the other: for kernels whose threads do not wait for each other.
template <class Kernel> static void in_turn(size_t blocks, Kernel kernel) {
  for (unsigned block = 0; block < blocks; block++)
    for (unsigned thread = 0; thread < ALL_THREADS; thread++) {
      blockIdx.x = block;
      threadIdx.x = thread;
      kernel();
    }
}

// One block after the other, all its threads at once.
template <class Kernel> static void at_once(size_t blocks, Kernel kernel) {
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < ALL_THREADS; thread++)
    threads.emplace_back([=] {
      threadIdx.x = thread;
      for (unsigned block = 0; block < blocks; block++) {
        blockIdx.x = block;
        kernel();
        __syncthreads();
      }
    });
  for (std::thread &thread : threads) thread.join();
}

KERNELS

using Words = std::vector<unsigned long long>;

static Words words(size_t count, FILE *in) {
  Words words(count);
  if (fread(words.data(), sizeof words[0], count, in) != count) exit(2);
  return words;
}

// A launch: the kernel, the words of a segment, how many of them are addresses, and the words of the table of segments, of
// the table of chunks, of the parameters, of the results and of the memory; then all of these but the results. Addresses are
// places in the memory; 0 stays 0. Writes the results and the memory.
int main(int argc, char **argv) {
  if (argc != 3) return 2;
  FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
  unsigned long long head[8];
  if (!in || !out) return 2;
  while (fread(head, sizeof *head, 8, in) == 8) {
    Words segments = words(head[3], in), chunks = words(head[4], in), parameters = words(head[5], in);
    Words results(head[6]), contents = words(head[7], in);
    char *memory = (char *)aligned_alloc(4096, (head[7] * 8 + 4095) / 4096 * 4096);
    memcpy(memory, contents.data(), head[7] * 8);
    for (size_t segment = 0; segment < head[3]; segment += head[1])
      for (size_t address = segment; address < segment + head[2]; address++)
        if (segments[address]) segments[address] += (unsigned long long)memory;
    const size_t blocks = chunks.size();
    const void *s = segments.data(), *c = chunks.data(), *p = parameters.data();
    void *r = results.data();
    switch (head[0]) {
CALLS
    default:
      return 2;
    }
    if (fwrite(r, 8, head[6], out) != head[6] || fwrite(memory, 8, head[7], out) != head[7]) return 2;
    free(memory);
  }
  return fclose(out) ? 2 : 0;
}
