/* Numbers in 16 bits, as numbers in 32 bits. `f16` tells the 16-bit floating point from bfloat16. */
#ifndef NARROW
#define NARROW static inline
#endif
#ifndef NARROW_C
#define NARROW_C

NARROW unsigned bits_of(float number) {
  union { float number; unsigned bits; } both;
  both.number = number;
  return both.bits;
}

NARROW float number_of(unsigned bits) {
  union { float number; unsigned bits; } both;
  both.bits = bits;
  return both.number;
}

/* The digits of 32 bits that a master in 24 bits does not have. */
NARROW unsigned dropped_of(unsigned f16) { return f16 ? 5u : 8u; }

/* The magnitude from which on numbers in 16 bits are not finite. */
NARROW unsigned infinity_of(unsigned f16) { return f16 ? 0x7c00u : 0x7f80u; }

/* The magnitude as an integer, of which the last digits are rounded away by a random number. */
NARROW unsigned magnitude_of(float x, unsigned f16, unsigned dropped, unsigned random) {
  const float a = number_of(bits_of(x) & 0x7fffffffu);
  return (bits_of(f16 ? a * 0x1p-112f : a) + (random & ((1u << dropped) - 1u))) >> dropped;
}

/* A magnitude in 16 bits; what is too large becomes infinite, and what x says is NaN becomes NaN. */
NARROW unsigned limited(float x, unsigned f16, unsigned magnitude) {
  const unsigned infinity = infinity_of(f16);
  if ((bits_of(x) & 0x7fffffffu) > 0x7f800000u) return infinity | (f16 ? 0x200u : 0x40u);
  return magnitude < infinity ? magnitude : infinity;
}

/* The number with the sign of x and a magnitude in 16 bits, followed by more digits in the last bits. */
NARROW float signed_number(float x, unsigned f16, unsigned magnitude, unsigned more) {
  const unsigned bits = magnitude << (8u + dropped_of(f16) - more), sign = bits_of(x) & 0x80000000u;
  const float finite = f16 ? number_of(bits) * 0x1p112f : number_of(bits);
  return number_of(sign | (magnitude < infinity_of(f16) << more ? bits_of(finite) : 0x7f800000u | bits));
}

/* The bits in which a number of 16 bits is stored. */
NARROW unsigned stored_bits(float x, unsigned f16) {
  return limited(x, f16, magnitude_of(x, f16, 8u + dropped_of(f16), 0u)) | (bits_of(x) >> 16 & 0x8000u);
}

/* The number that is stored in 16 bits. */
NARROW float stored_number(unsigned bits, unsigned f16) {
  return signed_number(number_of(bits << 16), f16, bits & 0x7fffu, 0u);
}

NARROW float rounded_moment(float x, float random) {
  const unsigned bits = bits_of(x), is_large = (bits & 0x7f000000u) == 0x7f000000u;
  return number_of((bits + (is_large ? 0u : (unsigned)random)) & 0xffff0000u);
}

NARROW float nearest_number(float x, unsigned f16) {
  const unsigned bits = bits_of(x), magnitude = bits & 0x7fffffffu, sign = bits & 0x80000000u;
  if (magnitude > 0x7f800000u) return x;
  if (!f16) return number_of((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
  /* The last digit of the sum is that of denormal numbers. */
  if (magnitude < 0x38800000u) return number_of(bits_of((number_of(magnitude) + 0.5f) - 0.5f) | sign);
  const unsigned rounded = (magnitude + 0xfffu + (magnitude >> 13 & 1u)) & 0xffffe000u;
  return number_of((rounded < 0x47800000u ? rounded : 0x7f800000u) | sign);
}

NARROW float current_master(float master, float x, unsigned f16) {
  return stored_bits(nearest_number(master, f16), f16) == stored_bits(x, f16) ? master : x;
}

NARROW float joined_master(float x, float correction, unsigned f16) {
  const unsigned magnitude = stored_bits(x, f16) & 0x7fffu;
  const int wide = (int)(magnitude << 8) + (int)correction;
  return signed_number(x, f16, magnitude < infinity_of(f16) ? wide > 0 ? (unsigned)wide : 0u : magnitude << 8, 8u);
}

NARROW unsigned master_of(float x, float random, unsigned f16) {
  return magnitude_of(x, f16, dropped_of(f16), (unsigned)random);
}

NARROW float part_of_master(float x, float random, unsigned f16) {
  const unsigned half = (master_of(x, random, f16) + 0x80u) >> 8;
  return signed_number(x, f16, limited(x, f16, half), 0u);
}

NARROW float correction_of_master(float x, float random, unsigned f16) {
  const unsigned wide = master_of(x, random, f16);
  if ((wide + 0x80u) >> 8 >= infinity_of(f16)) return 0.0f;
  return (float)((int)((wide & 0xffu) ^ 0x80u) - 0x80);
}

NARROW float rounded_alone(float x, float random, unsigned f16) {
  const unsigned infinity = infinity_of(f16), dropped = 8u + dropped_of(f16);
  const unsigned rounded = magnitude_of(x, f16, dropped, (unsigned)random);
  /* Only what rounding to nearest makes infinite becomes infinite. */
  const unsigned nearest = magnitude_of(x, f16, dropped, 1u << (dropped - 1u));
  const unsigned finite = rounded < infinity ? rounded : infinity - 1u;
  return signed_number(x, f16, limited(x, f16, nearest < infinity ? finite : nearest), 0u);
}

#endif
