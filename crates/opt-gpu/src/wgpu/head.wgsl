struct Dispatch {
  // The number of elements that are visited.
  len: u32,
  // 0.
  zero: u32,
  // The place of the first parameter.
  parameters: u32,
  // The first element of the bound chunk of the variable, and the number of its elements, which is also that of each
  // array of the state.
  chunk_start: u32,
  chunk_len: u32,
  // The first visited element: of all rows for which there is an index.
  first: u32,
  // The number of elements of a row.
  width: u32,
  // The first row whose index is bound.
  first_row: u32,
  // Where random numbers come from: two pairs for moments, one for masters.
  moments: vec4<u32>,
  masters: vec2<u32>,
}
@group(0) @binding(0) var<uniform> k: Dispatch;

// The same number. Compilers do not know that.
fn exact(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) ^ k.zero); }

fn magnitude(x: f32) -> u32 { return bitcast<u32>(x) & 0x7fffffffu; }

fn is_nan(x: f32) -> bool { return magnitude(x) > 0x7f800000u; }

// Whole numbers in the order of the numbers.
fn order(x: f32) -> i32 { return select(i32(magnitude(x)), -i32(magnitude(x)), bitcast<u32>(x) > 0x7fffffffu); }

// a > b || a is NaN ? a : b
fn larger(a: f32, b: f32) -> f32 {
  return select(b, a, is_nan(a) || (!is_nan(b) && order(a) > order(b)));
}

// |a| < b ? 0 : a
fn flushed(a: f32, b: f32) -> f32 {
  return select(a, 0.0f, bitcast<u32>(b) <= 0x7f800000u && magnitude(a) < bitcast<u32>(b));
}

// a > b ? b : a < 0 - b ? 0 - b : a
fn clamped(a: f32, b: f32) -> f32 {
  if is_nan(a) || is_nan(b) { return a; }
  if order(a) > order(b) { return b; }
  // 0 - 0 is 0, not -0.
  if order(a) < -order(b) { return bitcast<f32>(select(bitcast<u32>(b) ^ 0x80000000u, 0u, order(b) == 0)); }
  return a;
}

