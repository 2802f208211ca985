"""PyTorch's optimizers in all their modes, and pytorch-optimizer's NovoGrad and Lookahead."""

import gc

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from protocol import offer, serve

LEARNING_RATE = 1e-5
LIMIT = 0.5
PERIOD = 6
# Each tensor is inlined into the compiled step: a thousand of them take too long to compile.
COMPILED_TENSORS = 200

MODES = {"for": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
RULES = {
    "sgd": (torch.optim.SGD, {}, ["for", "foreach", "fused"]),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}, ["for", "foreach", "fused", "compile"]),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, ["for", "foreach", "fused"]),
    "adam": (torch.optim.Adam, {}, ["for", "foreach", "fused", "compile"]),
    "adam-amsgrad": (torch.optim.Adam, {"amsgrad": True}, ["for", "foreach", "fused"]),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.004}, ["for", "foreach", "fused", "compile"]),
    "nadam": (torch.optim.NAdam, {}, ["for", "foreach", "compile"]),
    "radam": (torch.optim.RAdam, {}, ["for", "foreach", "compile"]),
}


def parameters(tensors):
    """Weights with constant gradients between 0.01 and 1 in size."""
    generator = torch.Generator().manual_seed(0x5EED)

    def random(shape):
        size = 0.01 + 0.99 * torch.rand(shape, generator=generator)
        return torch.where(torch.rand(shape, generator=generator) < 0.5, size, -size)

    made = [torch.nn.Parameter(random(shape)) for shape in tensors]
    for parameter in made:
        parameter.grad = random(parameter.shape)
    return made


def plain(rule, mode):
    kind, options, _ = RULES[rule]

    def make(weights):
        flags = {"foreach": True} if mode == "compile" else MODES[mode]
        step = kind(weights, lr=LEARNING_RATE, **options, **flags).step
        return torch.compile(step) if mode == "compile" else step

    return make


def momentum(weights):
    return torch.optim.SGD(weights, lr=LEARNING_RATE, momentum=0.9, fused=True)


def clip_momentum(weights):
    optimizer = momentum(weights)

    def step():
        torch.nn.utils.clip_grad_norm_(weights, LIMIT)
        optimizer.step()

    return step


def momentum_ema(weights):
    optimizer = momentum(weights)
    averages = [weight.detach().clone() for weight in weights]
    average = get_ema_multi_avg_fn(0.999)

    def step():
        optimizer.step()
        average(averages, [weight.detach() for weight in weights], 1)

    return step


def novograd(weights):
    import pytorch_optimizer

    return pytorch_optimizer.NovoGrad(weights, lr=LEARNING_RATE).step


def lookahead_momentum(weights):
    import pytorch_optimizer

    return pytorch_optimizer.Lookahead(momentum(weights), k=PERIOD, alpha=0.5, pullback_momentum="none").step


def contestants():
    """By id: the offer, and what makes the step of a list of parameters."""
    found = {}
    for rule, (kind, _, modes) in RULES.items():
        for mode in modes:
            name = f"{kind.__name__} {mode}"
            limit = COMPILED_TENSORS if mode == "compile" else None
            found[f"{rule}-{mode}"] = (offer(f"{rule}-{mode}", rule, name, limit), plain(rule, mode))
    others = [
        ("clip-momentum", "clip_grad_norm_ + SGD fused", clip_momentum),
        ("momentum-ema", "SGD fused + swa_utils", momentum_ema),
        ("novograd", "pytorch-optimizer NovoGrad", novograd),
        ("lookahead-momentum", "pytorch-optimizer Lookahead(SGD fused)", lookahead_momentum),
    ]
    for rule, name, make in others:
        found[rule] = (offer(rule, rule, name), make)
    return found


def main():
    found = contestants()

    def open_contestant(id, tensors, threads):
        gc.collect()
        torch.set_num_threads(threads)
        # Each compilation starts from nothing: sizes of an earlier shape must not become symbols in this one.
        torch._dynamo.reset()
        step = found[id][1](parameters(tensors))
        step()

        def run(steps):
            for _ in range(steps):
                step()

        return run

    serve(f"torch {torch.__version__.split('+')[0]}", [offer for offer, _ in found.values()], open_contestant)


if __name__ == "__main__":
    main()
