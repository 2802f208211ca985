"""Times PyTorch's optimizers on a GPU: one JSON object on standard output.

The argument is a JSON object: `device` (`cuda` or `cpu`), `seconds` (no measurement begins after as many), `batch` (the
shortest batch of steps, in seconds), and `shapes`, each with a `name` and the shapes of its `tensors`.
"""

import json
import statistics
import sys
import time

LEARNING_RATE = 1e-5
WARM_UP = 12
BATCHES = 7


def rules(torch):
    """By the names of our contestants: the optimizer and its options."""
    return {
        "momentum": (torch.optim.SGD, {"momentum": 0.9}),
        "adam": (torch.optim.Adam, {}),
        "adamw": (torch.optim.AdamW, {"weight_decay": 0.004}),
        "nadam": (torch.optim.NAdam, {}),
        "radam": (torch.optim.RAdam, {}),
    }


def parameters(torch, device, tensors):
    """Weights with constant gradients between 0.01 and 1 in size."""
    generator = torch.Generator(device).manual_seed(0x5EED)

    def random(shape):
        size = 0.01 + 0.99 * torch.rand(shape, generator=generator, device=device)
        return torch.where(torch.rand(shape, generator=generator, device=device) < 0.5, size, -size)

    made = [torch.nn.Parameter(random(shape)) for shape in tensors]
    for parameter in made:
        parameter.grad = random(parameter.shape)
    return made


def batch_seconds(torch, device, step, steps):
    """The time of a batch of steps; on a GPU between two events of its stream."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(steps):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def median_seconds(torch, device, step, batch):
    """The median time of a step over several batches."""
    for _ in range(WARM_UP):
        step()
    steps = 1
    while (took := batch_seconds(torch, device, step, steps)) < batch and steps < 1 << 20:
        steps *= min(max(2, round(batch / max(took, 1e-9))), 64)
    return statistics.median(batch_seconds(torch, device, step, steps) for _ in range(BATCHES)) / steps


def main():
    request = json.loads(sys.argv[1])
    end = time.monotonic() + request["seconds"]
    try:
        import torch
    except ImportError as error:
        return {"missing": f"{error}"}
    device = request["device"]
    if device == "cuda" and not torch.cuda.is_available():
        return {"missing": f"torch {torch.__version__} finds no CUDA"}
    rows, left_out = [], []
    for shape in request["shapes"]:
        params = sum(torch.Size(tensor).numel() for tensor in shape["tensors"])
        for rule, (kind, options) in rules(torch).items():
            for mode in ("fused", "foreach"):
                place = {"rule": rule, "shape": shape["name"], "mode": mode}
                if time.monotonic() > end:
                    left_out.append({**place, "reason": "no time is left"})
                    continue
                try:
                    weights = parameters(torch, device, shape["tensors"])
                    optimizer = kind(weights, lr=LEARNING_RATE, **options, **{mode: True})
                    seconds = median_seconds(torch, device, optimizer.step, request["batch"])
                    rows.append({**place, "ns_per_param": seconds * 1e9 / params})
                except TypeError:
                    left_out.append({**place, "reason": f"{kind.__name__} has no option {mode}"})
                except RuntimeError as error:
                    left_out.append({**place, "reason": f"{error}".splitlines()[0]})
                weights = optimizer = None
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"torch": torch.__version__, "device": name, "rows": rows, "left_out": left_out}


if __name__ == "__main__":
    answer = main()
    print(json.dumps(answer))
