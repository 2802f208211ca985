// A network of two dense layers, and its gradients: see network.rs. Each entry point computes one array, one number or
// one row for each invocation.

const PIXELS = 64u;
const HIDDEN = 32u;
const DIGITS = 10u;

struct Batch {
    // The number of images.
    count: u32,
}

@group(0) @binding(0) var<uniform> batch: Batch;
// The images of the batch, by their places among all images.
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> pixels: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> hidden_kernel: array<f32>;
@group(0) @binding(5) var<storage, read> hidden_bias: array<f32>;
@group(0) @binding(6) var<storage, read> output_kernel: array<f32>;
@group(0) @binding(7) var<storage, read> output_bias: array<f32>;
// The hidden layer, the logarithm of the softmax of the output, and the gradients of both before the nonlinearity.
@group(0) @binding(8) var<storage, read_write> h: array<f32>;
@group(0) @binding(9) var<storage, read_write> scores: array<f32>;
@group(0) @binding(10) var<storage, read_write> dz: array<f32>;
@group(0) @binding(11) var<storage, read_write> dh: array<f32>;
@group(0) @binding(12) var<storage, read_write> hidden_kernel_gradient: array<f32>;
@group(0) @binding(13) var<storage, read_write> hidden_bias_gradient: array<f32>;
@group(0) @binding(14) var<storage, read_write> output_kernel_gradient: array<f32>;
@group(0) @binding(15) var<storage, read_write> output_bias_gradient: array<f32>;

@compute @workgroup_size(64)
fn compute_h(@builtin(global_invocation_id) id: vec3<u32>) {
    let image = id.x / HIDDEN;
    let unit = id.x % HIDDEN;
    if (image >= batch.count) { return; }
    var sum = hidden_bias[unit];
    for (var pixel = 0u; pixel < PIXELS; pixel++) {
        sum += pixels[rows[image] * PIXELS + pixel] * hidden_kernel[pixel * HIDDEN + unit];
    }
    h[id.x] = tanh(sum);
}

@compute @workgroup_size(64)
fn compute_scores(@builtin(global_invocation_id) id: vec3<u32>) {
    let image = id.x;
    if (image >= batch.count) { return; }
    var logits: array<f32, DIGITS>;
    var largest = -3.4e38;
    for (var digit = 0u; digit < DIGITS; digit++) {
        var sum = output_bias[digit];
        for (var unit = 0u; unit < HIDDEN; unit++) {
            sum += h[image * HIDDEN + unit] * output_kernel[unit * DIGITS + digit];
        }
        logits[digit] = sum;
        largest = max(largest, sum);
    }
    var total = 0.0;
    for (var digit = 0u; digit < DIGITS; digit++) {
        total += exp(logits[digit] - largest);
    }
    for (var digit = 0u; digit < DIGITS; digit++) {
        scores[image * DIGITS + digit] = logits[digit] - largest - log(total);
    }
}

@compute @workgroup_size(64)
fn compute_dz(@builtin(global_invocation_id) id: vec3<u32>) {
    let image = id.x / DIGITS;
    let digit = id.x % DIGITS;
    if (image >= batch.count) { return; }
    let target_score = select(0.0, 1.0, labels[rows[image]] == digit);
    dz[id.x] = (exp(scores[id.x]) - target_score) / f32(batch.count);
}

@compute @workgroup_size(64)
fn compute_dh(@builtin(global_invocation_id) id: vec3<u32>) {
    let image = id.x / HIDDEN;
    let unit = id.x % HIDDEN;
    if (image >= batch.count) { return; }
    var sum = 0.0;
    for (var digit = 0u; digit < DIGITS; digit++) {
        sum += dz[image * DIGITS + digit] * output_kernel[unit * DIGITS + digit];
    }
    dh[id.x] = sum * (1.0 - h[id.x] * h[id.x]);
}

@compute @workgroup_size(64)
fn compute_output_gradients(@builtin(global_invocation_id) id: vec3<u32>) {
    let unit = id.x / DIGITS;
    let digit = id.x % DIGITS;
    if (unit > HIDDEN) { return; }
    var sum = 0.0;
    for (var image = 0u; image < batch.count; image++) {
        let error = dz[image * DIGITS + digit];
        // The bias is the kernel of a unit that is always 1.
        if (unit == HIDDEN) { sum += error; } else { sum += h[image * HIDDEN + unit] * error; }
    }
    if (unit == HIDDEN) { output_bias_gradient[digit] = sum; } else { output_kernel_gradient[id.x] = sum; }
}

@compute @workgroup_size(64)
fn compute_hidden_gradients(@builtin(global_invocation_id) id: vec3<u32>) {
    let pixel = id.x / HIDDEN;
    let unit = id.x % HIDDEN;
    if (pixel > PIXELS) { return; }
    var sum = 0.0;
    for (var image = 0u; image < batch.count; image++) {
        let error = dh[image * HIDDEN + unit];
        if (pixel == PIXELS) { sum += error; } else { sum += pixels[rows[image] * PIXELS + pixel] * error; }
    }
    if (pixel == PIXELS) { hidden_bias_gradient[unit] = sum; } else { hidden_kernel_gradient[id.x] = sum; }
}
