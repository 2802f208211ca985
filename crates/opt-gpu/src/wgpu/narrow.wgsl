// Numbers in 16 bits, as numbers in 32 bits. `f16` tells the 16-bit floating point from bfloat16. As `narrow.c` of
// opt-core, but without denormal numbers of 32 bits, which a device may take for 0.

// The digits of 32 bits that a master in 24 bits does not have.
fn dropped_of(f16: bool) -> u32 { return select(8u, 5u, f16); }

// The magnitude from which on numbers in 16 bits are not finite.
fn infinity_of(f16: bool) -> u32 { return select(0x7f80u, 0x7c00u, f16); }

// The number that is stored in 16 bits.
fn stored_number(bits: u32, f16: bool) -> f32 {
  if !f16 { return bitcast<f32>(bits << 16u); }
  let m = bits & 0x7fffu;
  let small = bitcast<u32>(f32(m) * 0x1p-24f);
  let finite = select(small, (m << 13u) + 0x38000000u, m >= 0x400u);
  return bitcast<f32>(select(finite, 0x7f800000u | (m << 13u), m >= 0x7c00u) | ((bits & 0x8000u) << 16u));
}

// The bits in which a number of 16 bits is stored.
fn stored_bits(x: f32, f16: bool) -> u32 {
  let bits = bitcast<u32>(x);
  if !f16 { return (bits | select(0u, 0x400000u, is_nan(x))) >> 16u; }
  let m = magnitude(x);
  let small = u32(bitcast<f32>(min(m, 0x38800000u)) * 0x1p24f);
  let finite = select(small, (m - 0x38000000u) >> 13u, m >= 0x38800000u);
  let infinite = select(0x7c00u, 0x7e00u, is_nan(x));
  return select(finite, infinite, m >= 0x7f800000u) | ((bits >> 16u) & 0x8000u);
}

// The bits of a magnitude times 2^-112: with the exponent that it has in 16-bit floating point.
fn scaled_down(m: u32) -> u32 {
  let small = u32(round(bitcast<f32>(min(m, 0x38800000u)) * 0x1p37f));
  return select(small, m - 0x38000000u, m >= 0x38800000u);
}

// The bits of a magnitude times 2^112.
fn scaled_up(m: u32) -> u32 {
  return select(bitcast<u32>(f32(min(m, 0x800000u)) * 0x1p-37f), m + 0x38000000u, m >= 0x800000u);
}

// The magnitude as an integer, of which the last digits are rounded away by a random number.
fn magnitude_of(x: f32, f16: bool, dropped: u32, random: u32) -> u32 {
  let scaled = select(magnitude(x), scaled_down(magnitude(x)), f16);
  return (scaled + (random & ((1u << dropped) - 1u))) >> dropped;
}

// A magnitude in 16 bits; what is too large becomes infinite, and what x says is NaN becomes NaN.
fn limited(x: f32, f16: bool, m: u32) -> u32 {
  let infinity = infinity_of(f16);
  return select(min(m, infinity), infinity | select(0x40u, 0x200u, f16), is_nan(x));
}

// The number with the sign of x and a magnitude in 16 bits, followed by more digits in the last bits.
fn signed_number(x: f32, f16: bool, m: u32, more: u32) -> f32 {
  let bits = m << (8u + dropped_of(f16) - more);
  let finite = select(bits, scaled_up(bits), f16);
  let sign = bitcast<u32>(x) & 0x80000000u;
  return bitcast<f32>(sign | select(0x7f800000u | bits, finite, m < infinity_of(f16) << more));
}

fn rounded_moment(x: f32, random: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let is_large = (bits & 0x7f000000u) == 0x7f000000u;
  return bitcast<f32>((bits + select(u32(random), 0u, is_large)) & 0xffff0000u);
}

fn nearest_number(x: f32, f16: bool) -> f32 {
  let bits = bitcast<u32>(x);
  let m = magnitude(x);
  let sign = bits & 0x80000000u;
  if is_nan(x) { return x; }
  if !f16 { return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u); }
  // The last digit of the sum is that of denormal numbers.
  let small = exact(exact(bitcast<f32>(min(m, 0x38800000u)) + 0.5f) - 0.5f);
  let rounded = (m + 0xfffu + ((m >> 13u) & 1u)) & 0xffffe000u;
  let large = select(0x7f800000u, rounded, rounded < 0x47800000u);
  return bitcast<f32>(select(large, bitcast<u32>(small), m < 0x38800000u) | sign);
}

fn current_master(master: f32, x: f32, f16: bool) -> f32 {
  return select(x, master, stored_bits(nearest_number(master, f16), f16) == stored_bits(x, f16));
}

fn joined_master(x: f32, correction: f32, f16: bool) -> f32 {
  let m = stored_bits(x, f16) & 0x7fffu;
  let wide = u32(max(i32(m << 8u) + i32(correction), 0));
  return signed_number(x, f16, select(m << 8u, wide, m < infinity_of(f16)), 8u);
}

fn part_of_master(x: f32, random: f32, f16: bool) -> f32 {
  let half = (magnitude_of(x, f16, dropped_of(f16), u32(random)) + 0x80u) >> 8u;
  return signed_number(x, f16, limited(x, f16, half), 0u);
}

fn correction_of_master(x: f32, random: f32, f16: bool) -> f32 {
  let wide = magnitude_of(x, f16, dropped_of(f16), u32(random));
  let correction = f32(i32((wide & 0xffu) ^ 0x80u) - 0x80);
  return select(correction, 0.0f, (wide + 0x80u) >> 8u >= infinity_of(f16));
}

fn rounded_alone(x: f32, random: f32, f16: bool) -> f32 {
  let infinity = infinity_of(f16);
  let dropped = 8u + dropped_of(f16);
  let rounded = magnitude_of(x, f16, dropped, u32(random));
  // Only what rounding to nearest makes infinite becomes infinite.
  let nearest = magnitude_of(x, f16, dropped, 1u << (dropped - 1u));
  return signed_number(x, f16, limited(x, f16, select(nearest, min(rounded, infinity - 1u), nearest < infinity)), 0u);
}

// 32 random bits of an element, from a pair of numbers.
fn random_bits(pair: vec2<u32>, i: u32) -> u32 {
  var x = (pair.x + i) ^ pair.y;
  x = (x ^ (x >> 16u)) * 0x7feb352du;
  x = (x ^ (x >> 15u)) * 0x846ca68bu;
  return x ^ (x >> 16u);
}
