// The sum of squares of each part of a gradient, in whole numbers: exact but for what is cut off at the end, so that no
// compiler and no order of additions changes it.
//
// With the exponent of the largest element of the part, an element is m * 2^(exponent - 150 - d), m of 24 bits. So m^2
// is shifted by 16 bits to the left, which fills 64 bits, and by 2 d bits to the right. The sum of all is divided by
// 2^62: then squares are below 4, and the largest one is at least 1 unless it is a denormal number.

const THREADS: u32 = 256u;
const EACH: u32 = 64u;
const INFINITE: u32 = 0x7f800000u;
const HAS_NAN: u32 = 1u;
const HAS_INFINITE: u32 = 2u;

struct Dispatch {
  len: u32,
  zero: u32,
  limit: u32,
  first_part: u32,
}

struct Part {
  // The sum; its least significant word comes first.
  sum: array<u32, 3>,
  exponent: u32,
  flags: u32,
  // The number of elements above the limit; the sum does not have them.
  above: u32,
}

@group(0) @binding(0) var<uniform> k: Dispatch;
@group(0) @binding(2) var<storage, read_write> parts: array<Part>;
@group(0) @binding(3) var<storage, read> g: array<u32>;

// The bits of a number of 16 bits.
fn half_of(i: u32) -> u32 { return (g[i / 2u] >> (i % 2u * 16u)) & 0xffffu; }

// A magnitude of 16-bit floating point in 32 bits.
fn magnitude_of_f16(m: u32) -> u32 {
  let small = bitcast<u32>(f32(m) * 0x1p-24f);
  return select(select(small, (m << 13u) + 0x38000000u, m >= 0x400u), INFINITE | (m << 13u), m >= 0x7c00u);
}

// The magnitude of an element: its bits in 32 bits, without the sign.
fn magnitude_of(i: u32) -> u32 { return MAGNITUDE; }

var<workgroup> largest: atomic<u32>;
var<workgroup> flags: atomic<u32>;
var<workgroup> above: atomic<u32>;
var<workgroup> sums: array<array<u32, 3>, THREADS>;

// Adds a number of 96 bits to another one.
fn plus(a: array<u32, 3>, b: array<u32, 3>) -> array<u32, 3> {
  let low = a[0] + b[0];
  let carry = select(0u, 1u, low < b[0]);
  let middle = a[1] + b[1];
  let carry_of_middle = select(0u, 1u, middle < b[1]);
  let middle_with_carry = middle + carry;
  let carry_of_carry = select(0u, 1u, middle_with_carry < carry);
  return array<u32, 3>(low, middle_with_carry, a[2] + b[2] + carry_of_middle + carry_of_carry);
}

fn exponent_of(magnitude: u32) -> u32 { return max(magnitude >> 23u, 1u); }

// The square of an element, divided by 4^(exponent - 127) and multiplied by 2^62.
fn square(magnitude: u32, exponent: u32) -> array<u32, 3> {
  let m = (magnitude & 0x7fffffu) | select(0u, 0x800000u, magnitude >= 0x800000u);
  let a = m >> 16u;
  let b = m & 0xffffu;
  let low = b * b;
  let twice = 2u * a * b;
  let low_sum = low + (twice << 16u);
  let high_sum = a * a + (twice >> 16u) + select(0u, 1u, low_sum < low);
  let high = (high_sum << 16u) | (low_sum >> 16u);
  let shift = 2u * (exponent - exponent_of(magnitude));
  if shift >= 64u { return array<u32, 3>(0u, 0u, 0u); }
  if shift >= 32u { return array<u32, 3>(high >> (shift - 32u), 0u, 0u); }
  // Two shifts, because one by 32 bits is one by 0.
  return array<u32, 3>(((low_sum << 16u) >> shift) | ((high << 1u) << (31u - shift)), high >> shift, 0u);
}

@compute @workgroup_size(THREADS)
fn measure(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let start = workgroup.x * THREADS * EACH;
  let end = min(start + THREADS * EACH, k.len);
  var own_largest = 0u;
  var own_flags = 0u;
  var own_above = 0u;
  for (var i = start + thread; i < end; i += THREADS) {
    let magnitude = magnitude_of(i);
    if magnitude > INFINITE {
      own_flags |= HAS_NAN;
    } else {
      own_flags |= select(0u, HAS_INFINITE, magnitude == INFINITE);
      if magnitude > k.limit {
        own_above += 1u;
      } else {
        own_largest = max(own_largest, magnitude);
      }
    }
  }
  atomicMax(&largest, own_largest);
  atomicOr(&flags, own_flags);
  atomicAdd(&above, own_above);
  workgroupBarrier();

  let exponent = exponent_of(atomicLoad(&largest));
  var sum = array<u32, 3>(0u, 0u, 0u);
  for (var i = start + thread; i < end; i += THREADS) {
    let magnitude = magnitude_of(i);
    if magnitude < INFINITE && magnitude <= k.limit {
      sum = plus(sum, square(magnitude, exponent));
    }
  }
  sums[thread] = sum;
  for (var half = THREADS / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if thread < half {
      sums[thread] = plus(sums[thread], sums[thread + half]);
    }
  }
  if thread == 0u {
    parts[k.first_part + workgroup.x] =
      Part(sums[0], exponent, atomicLoad(&flags), atomicLoad(&above));
  }
}
