"""Compares formats of moments with few bits: how far are the updates of Adam from those in full?

Needs NumPy. The gradients of an element have a mean of 0.3 standard deviations; deviations differ from element to
element by a log-normal factor ("spread"), and all fall to a tenth at half time. Each format gets the same gradients.
"""

import argparse

import numpy as np

GROUP = 32


def flashoptim(signed, floor=False):
    """Nearest rounding to 8 bits after companding, with a scale in float16 (arXiv 2602.23349)."""

    def store(x, _):
        groups = (x if signed else np.sqrt(x)).reshape(-1, GROUP)
        scale = np.float16(np.abs(groups).max(1, keepdims=True)).astype(float)
        part = np.clip(groups / np.where(scale == 0, 1, scale), -1, 1)
        if signed:
            code = np.rint(127 * 2 * part / (1 + np.abs(part))) / 127
            return (scale * code / (2 - np.abs(code))).ravel()
        code = np.maximum(np.rint(255 * part), (groups > 0) * floor) / 255
        return ((scale * code) ** 2).ravel()

    return store


def dynamic(signed, block):
    """The dynamic tables of bitsandbytes, nearest rounding."""
    table = [0.0, 1.0]
    for i in range(7):
        edges = np.linspace(0.1, 1, 2 ** (i + (0 if signed else 1)) + 1)
        numbers = 10.0 ** (i - 6) * (edges[:-1] + edges[1:]) / 2
        table += list(numbers) + (list(-numbers) if signed else [])
    table = np.array(sorted(table))
    between = (table[:-1] + table[1:]) / 2

    def store(x, _):
        blocks = x.reshape(-1, block)
        scale = np.abs(blocks).max(1, keepdims=True)
        return (table[np.searchsorted(between, blocks / np.where(scale == 0, 1, scale))] * scale).ravel()

    return store


def floating(mantissa, octaves, floor=None, stochastic=True):
    """A floating-point number beside a common power of two. Small numbers become 0, or the smallest with `floor`."""

    def store(x, random):
        groups = x.reshape(-1, GROUP)
        largest = np.abs(groups).max(1, keepdims=True)
        scale = 2.0 ** np.floor(np.log2(np.where(largest > 0, largest, 1) * (1 + 2.0**-mantissa)))
        y = np.abs(groups) / scale
        digit = 2.0 ** (np.floor(np.log2(np.maximum(y, 1e-300))) - mantissa)
        y = digit * (np.floor(y / digit + random.random(y.shape)) if stochastic else np.rint(y / digit))
        if octaves is not None:
            smallest = 2.0 ** (1 - octaves) * (1 + 2.0**-mantissa)
            y = np.where(groups == 0, 0, np.maximum(y, smallest)) if floor else np.where(y < smallest, 0, y)
        return (np.sign(groups) * scale * y).ravel()

    return store


FORMATS = {
    "bfloat16, stochastic": (floating(7, None), floating(7, None)),
    "FlashOptim": (flashoptim(True), flashoptim(False)),
    "FlashOptim, v above 0": (flashoptim(True), flashoptim(False, floor=True)),
    "bitsandbytes, blocks of 64": (dynamic(True, 64), dynamic(False, 64)),
    "bitsandbytes, blocks of 256": (dynamic(True, 256), dynamic(False, 256)),
    "4 + 3 and 4 + 4 bits": (floating(3, 16), floating(4, 16, floor=True)),
    "4 + 3 and 5 + 3 bits": (floating(3, 16), floating(3, 32, floor=True)),
    "the same, to nearest": (floating(3, 16, stochastic=False), floating(3, 32, floor=True, stochastic=False)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--elements", type=int, default=12_800)
    args = parser.parse_args()
    first, second, epsilon = 0.9, 0.999, 1e-8
    for spread in (0.5, 1.0, 1.5, 2.0):
        random = np.random.default_rng(0)
        factor = np.exp(spread * random.standard_normal(args.elements))
        mean = 0.3 * random.standard_normal(args.elements)
        full = [np.zeros(args.elements), np.zeros(args.elements)]
        stored = {name: [np.zeros(args.elements), np.zeros(args.elements), [], []] for name in FORMATS}

        def update(state, gradient, step):
            m, v = first * state[0] + (1 - first) * gradient, second * state[1] + (1 - second) * gradient**2
            return m, v, (m / (1 - first**step)) / (np.sqrt(v / (1 - second**step)) + epsilon)

        for step in range(1, args.steps + 1):
            size = 1.0 if step < args.steps // 2 else 0.1
            gradient = size * factor * (mean + random.standard_normal(args.elements))
            full[0], full[1], right = update(full, gradient, step)
            for name, (store_m, store_v) in FORMATS.items():
                state = stored[name]
                m, v, found = update(state, gradient, step)
                if step % 20 == 0 and step > 50:
                    state[2].append(np.sqrt(np.mean((found - right) ** 2) / np.mean(right**2)))
                    state[3].append(np.dot(found, right) / np.dot(right, right) - 1)
                state[0], state[1] = store_m(m, random), store_v(v, random)
        print(f"spread {spread}")
        for name, (_, _, errors, biases) in stored.items():
            print(f"  {name:28s} error {np.mean(errors):10.3f}  bias {np.mean(biases):+9.3f}")


main()
