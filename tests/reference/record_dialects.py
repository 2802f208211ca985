"""Records runs of PyTorch, optax and timm, in the format of tests/golden.

    python3 -m venv venv
    venv/bin/pip install torch==2.15.0 optax==0.2.8 "jax[cpu]==0.10.2" timm==1.0.31
    venv/bin/python tests/reference/record_dialects.py tests/golden [dialects_adam.json ...]

One file for each rule is written: dialects_adam.json, dialects_sgd.json, dialects_nadam.json, dialects_radam.json,
dialects_novograd.json. Runs are in float64, unless their names say otherwise. The learning rate changes in the middle of
each.
"""

import json
import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from timm.optim import NvNovoGrad  # noqa: E402

# Otherwise PyTorch keeps its counters and products in 32 bits.
torch.set_default_dtype(torch.float64)

STEPS = 14
CHANGE = 7
SHAPES = {"kernel": (4, 3), "bias": (3,)}
ORACLE = {"torch": torch.__version__.split("+")[0], "optax": optax.__version__, "timm": timm.__version__}


def problem(seed, scale=1.0):
    """Variables, and gradients for each step."""
    rng = np.random.default_rng(seed)
    start = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    steps = [{name: scale * rng.normal(size=shape) for name, shape in SHAPES.items()} for _ in range(STEPS)]
    return start, steps


def absent(**steps):
    """Names the steps, counted from 0, in which variables have no gradient."""
    return lambda number, name: number in steps.get(name, ())


def run_torch(make, slots, rates, start, steps):
    """The variables and some slots after each step of a PyTorch optimizer."""
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
    optimizer = make(list(tensors.values()), rates[0])
    trace = []
    for number, gradients in enumerate(steps):
        if number == CHANGE:
            for group in optimizer.param_groups:
                group["lr"] = rates[1]
        for name, tensor in tensors.items():
            tensor.grad = None if gradients[name] is None else torch.tensor(gradients[name])
        optimizer.step()
        values = {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}
        kept = {
            name: {ours: optimizer.state[tensor][theirs].numpy().copy() for ours, theirs in slots.items()}
            for name, tensor in tensors.items()
            if optimizer.state[tensor]
        }
        trace.append((values, kept))
    return trace


def run_optax(make, _slots, rates, start, steps):
    """The variables after each step of an optax transformation."""
    parameters = {name: jnp.asarray(value) for name, value in start.items()}
    transformation = optax.inject_hyperparams(make)(learning_rate=rates[0])
    state = transformation.init(parameters)
    trace = []
    for number, gradients in enumerate(steps):
        if number == CHANGE:
            state.hyperparams["learning_rate"] = jnp.asarray(rates[1])
        updates, state = transformation.update(gradients, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        trace.append(({name: np.asarray(value) for name, value in parameters.items()}, {}))
    return trace


def case(name, dialect, run, make, config, slots=None, rates=(0.125, 0.03125), seed=1, note=None, scale=1.0,
         absent=lambda number, name: False, dtype="float64", exclude=None):
    """One recorded run. `config` is our configuration, without the learning rate."""
    start, steps = problem(seed, scale)
    start = {name: value.astype(dtype) for name, value in start.items()}
    steps = [
        {name: None if absent(number, name) else value.astype(dtype) for name, value in gradients.items()}
        for number, gradients in enumerate(steps)
    ]
    trace = run(make, slots or {}, rates, start, steps)
    recorded = []
    for number, (gradients, (values, kept)) in enumerate(zip(steps, trace)):
        step = {"set_learning_rate": rates[1]} if number == CHANGE else {}
        given = [gradients[v] for v in SHAPES]
        step["gradients"] = [None if g is None else {"dense": g.ravel().tolist()} for g in given]
        step["expect"] = {
            "variables": [values[v].ravel().tolist() for v in SHAPES],
            "slots": {v: {s: a.ravel().tolist() for s, a in kept.get(v, {}).items()} for v in SHAPES},
            "iterations": number + 1,
        }
        recorded.append(step)
    class_name, fields = config
    return {
        "name": name,
        **({"note": note} if note else {}),
        "dialect": dialect,
        "dtype": dtype,
        "optimizer": {"class_name": class_name, "config": {"learning_rate": rates[0], **fields}},
        **({"exclude_from_weight_decay": {"var_names": exclude}} if exclude else {}),
        "variables": [{"name": v, "shape": list(SHAPES[v]), "value": start[v].ravel().tolist()} for v in SHAPES],
        "steps": recorded,
        **({"rtol": 1e-11, "atol": 1e-13} if dtype == "float64" else {"rtol": 2e-5, "atol": 1e-7}),
    }


def sgd():
    """SGD with the learning rate outside the velocity."""
    outside = {"learning_rate_outside": True}
    buffer = {"momentum": "momentum_buffer"}

    def torch_sgd(**options):
        return lambda tensors, rate: torch.optim.SGD(tensors, lr=rate, **options)

    def optax_sgd(**options):
        return lambda learning_rate: optax.sgd(learning_rate, **options)

    return [
        case("torch_plain", "pytorch", run_torch, torch_sgd(), ("SGD", {})),
        case("torch_momentum", "pytorch", run_torch, torch_sgd(momentum=0.875),
             ("SGD", {"momentum": 0.875, **outside}), buffer),
        case("torch_nesterov", "pytorch", run_torch, torch_sgd(momentum=0.875, nesterov=True),
             ("SGD", {"momentum": 0.875, "nesterov": True, **outside}), buffer),
        case("torch_dampening", "pytorch", run_torch, torch_sgd(momentum=0.875, dampening=0.25),
             ("SGD", {"momentum": 0.875, "dampening": 0.25, **outside}), buffer,
             note="the first gradient is not dampened"),
        case("optax_momentum", "optax", run_optax, optax_sgd(momentum=0.875), ("SGD", {"momentum": 0.875, **outside})),
        case("optax_nesterov", "optax", run_optax, optax_sgd(momentum=0.875, nesterov=True),
             ("SGD", {"momentum": 0.875, "nesterov": True, **outside})),
    ]


def nadam():
    """Nadam with PyTorch's momentum decay, and with optax's constant momentum."""
    betas = {"beta_1": 0.875, "beta_2": 0.9921875}
    new = {"is_legacy_optimizer": False, **betas}
    moments = {"m": "exp_avg", "v": "exp_avg_sq"}

    def torch_nadam(**options):
        return lambda tensors, rate: torch.optim.NAdam(tensors, lr=rate, betas=(0.875, 0.9921875), **options)

    def optax_nadam(learning_rate):
        return optax.nadam(learning_rate, b1=0.875, b2=0.9921875, eps=1e-3)

    return [
        case("torch", "pytorch", run_torch, torch_nadam(eps=1e-3),
             ("Nadam", {**betas, "decay": 0.004, "epsilon": 1e-3}), moments),
        case("torch_momentum_decay", "pytorch", run_torch, torch_nadam(momentum_decay=0.25),
             ("Nadam", {**betas, "decay": 0.25, "epsilon": 1e-8}), moments),
        case("torch_momentum_decay_one", "pytorch", run_torch, torch_nadam(momentum_decay=1.0),
             ("Nadam", {**betas, "dialect": "pytorch", "epsilon": 1e-8, "momentum_decay": 1.0}), moments,
             note="the formula of Keras since 2.11"),
        case("optax", "optax", run_optax, optax_nadam,
             ("Nadam", {**new, "epsilon": 1e-3, "momentum_schedule": "constant"})),
    ]


def radam():
    """RAdam: PyTorch adds epsilon before the bias correction, and its threshold is strict."""
    betas = {"beta_1": 0.875, "beta_2": 0.9921875}
    torch_fields = {**betas, "strict_threshold": True, "epsilon_placement": "before_correction"}
    moments = {"m": "exp_avg", "v": "exp_avg_sq"}

    def torch_radam(**options):
        return lambda tensors, rate: torch.optim.RAdam(tensors, lr=rate, betas=(0.875, 0.9921875), **options)

    def optax_radam(**options):
        return lambda learning_rate: optax.radam(learning_rate, b1=0.875, b2=0.9921875, **options)

    return [
        case("torch", "pytorch", run_torch, torch_radam(eps=1e-2),
             ("RectifiedAdam", {**torch_fields, "epsilon": 1e-2}), moments,
             note="epsilon is large, so that its place is seen"),
        case("torch_coupled_weight_decay", "pytorch", run_torch, torch_radam(weight_decay=0.0625),
             ("RectifiedAdam", {**torch_fields, "epsilon": 1e-8, "weight_decay": 0.0625, "coupled_weight_decay": True}),
             moments),
        case("optax", "optax", run_optax, optax_radam(eps=1e-2), ("RectifiedAdam", {**betas, "epsilon": 1e-2})),
        case("optax_threshold", "optax", run_optax, optax_radam(eps=1e-8, threshold=4.0),
             ("RectifiedAdam", {**betas, "epsilon": 1e-8, "sma_threshold": 4.0})),
        case("optax_eps_root", "optax", run_optax, optax_radam(eps=1e-3, eps_root=1e-2),
             ("RectifiedAdam", {**betas, "epsilon": 1e-3, "epsilon_root": 1e-2})),
    ]


def novograd():
    """NovoGrad: the learning rate is outside the velocity."""
    outside = {"beta_1": 0.875, "beta_2": 0.75, "learning_rate_outside": True}

    def optax_novograd(**options):
        return lambda learning_rate: optax.novograd(learning_rate, b1=0.875, b2=0.75, **options)

    def nv_novograd(**options):
        return lambda tensors, rate: NvNovoGrad(tensors, lr=rate, betas=(0.875, 0.75), **options)

    moment = {"m": "exp_avg"}
    averaged = {"grad_averaging": True, "average_first_step": True}
    return [
        case("optax", "optax", run_optax, optax_novograd(eps=1e-3), ("NovoGrad", {**outside, "epsilon": 1e-3})),
        case("optax_weight_decay", "optax", run_optax, optax_novograd(eps=1e-6, weight_decay=0.0625),
             ("NovoGrad", {**outside, "epsilon": 1e-6, "weight_decay": 0.0625})),
        case("nvidia", "nvidia", run_torch, nv_novograd(eps=1e-3), ("NovoGrad", {**outside, "epsilon": 1e-3}), moment),
        case("nvidia_grad_averaging", "nvidia", run_torch, nv_novograd(eps=1e-8, grad_averaging=True),
             ("NovoGrad", {**outside, **averaged, "epsilon": 1e-8}), moment,
             note="the first step is averaged, too"),
        case("nvidia_weight_decay", "nvidia", run_torch, nv_novograd(eps=1e-8, weight_decay=0.0625),
             ("NovoGrad", {**outside, "epsilon": 1e-8, "weight_decay": 0.0625}), moment),
        case("nvidia_amsgrad", "nvidia", run_torch, nv_novograd(eps=1e-8, amsgrad=True),
             ("NovoGrad", {**outside, "epsilon": 1e-8, "amsgrad": True}), moment),
    ]


def adam():
    """Adam and AdamW: PyTorch and optax add epsilon after the bias correction, and PyTorch counts by variable."""
    betas = {"beta_1": 0.875, "beta_2": 0.9921875}
    moments = {"m": "exp_avg", "v": "exp_avg_sq", "step": "step"}
    largest = {**moments, "vhat": "max_exp_avg_sq"}
    late, never = absent(bias=range(5)), absent(bias=range(STEPS))
    sometimes = absent(kernel=[2, 3, 10], bias=[0, 4, 9, 13])

    def pytorch(name, kind="Adam", eps=1e-3, ours=None, slots=moments, exclude=None, **options):
        recorder = {key: options.pop(key) for key in ("note", "absent", "dtype", "seed", "scale") if key in options}
        fields = {"dialect": "pytorch", **betas, "epsilon": eps, **(ours or {})}

        def make(tensors, rate):
            groups = tensors
            if exclude:
                groups = [{"params": tensors[:1]}, {"params": tensors[1:], "weight_decay": 0.0}]
            return getattr(torch.optim, kind)(groups, lr=rate, betas=(0.875, 0.9921875), eps=eps, **options)

        return case(name, "pytorch", run_torch, make, (kind, fields), slots, exclude=exclude, **recorder)

    def of_optax(name, function="adam", kind="Adam", eps=1e-3, ours=None, exclude=None, **options):
        recorder = {key: options.pop(key) for key in ("note", "seed", "scale") if key in options}
        fields = {"dialect": "optax", **betas, "epsilon": eps, **(ours or {})}
        if exclude:
            options["mask"] = {name: name not in exclude for name in SHAPES}

        def make(learning_rate):
            return getattr(optax, function)(learning_rate, b1=0.875, b2=0.9921875, eps=eps, **options)

        return case(name, "optax", run_optax, make, (kind, fields), exclude=exclude, **recorder)

    def defaults(kind, dialect, run, make):
        return case(f"{dialect}_{kind.lower()}_defaults", dialect, run, make, (kind, {"dialect": dialect}))

    single = {"dtype": "float32", "eps": 1e-8}
    return [
        defaults("Adam", "pytorch", run_torch, lambda tensors, rate: torch.optim.Adam(tensors, lr=rate)),
        defaults("AdamW", "pytorch", run_torch, lambda tensors, rate: torch.optim.AdamW(tensors, lr=rate)),
        defaults("Adam", "optax", run_optax, lambda learning_rate: optax.adam(learning_rate)),
        defaults("AdamW", "optax", run_optax, lambda learning_rate: optax.adamw(learning_rate)),
        pytorch("torch_epsilon", eps=0.25, note="epsilon is large, so that its place is seen"),
        pytorch("torch_no_epsilon", eps=0.0),
        pytorch("torch_amsgrad", amsgrad=True, ours={"amsgrad": True}, slots=largest, scale=2.0),
        pytorch("torch_weight_decay", weight_decay=0.0625, ours={"weight_decay": 0.0625}),
        pytorch("torch_decoupled_weight_decay", weight_decay=0.0625, decoupled_weight_decay=True,
                ours={"weight_decay": 0.0625, "decoupled_weight_decay": True}),
        pytorch("torch_late", absent=late, note="bias has its first gradient in step 6"),
        pytorch("torch_late_amsgrad_weight_decay", absent=late, amsgrad=True, weight_decay=0.0625, slots=largest,
                ours={"amsgrad": True, "weight_decay": 0.0625}),
        pytorch("torch_never", absent=never),
        pytorch("torch_missing", absent=sometimes, amsgrad=True, ours={"amsgrad": True}, slots=largest, seed=2),
        pytorch("torch_float32", absent=sometimes, **single),
        pytorch("torch_adamw", "AdamW", weight_decay=0.0625, ours={"weight_decay": 0.0625}),
        pytorch("torch_adamw_amsgrad_late", "AdamW", absent=late, amsgrad=True, weight_decay=0.125, slots=largest,
                ours={"amsgrad": True, "weight_decay": 0.125}),
        pytorch("torch_adamw_missing", "AdamW", absent=sometimes, weight_decay=0.5, ours={"weight_decay": 0.5}, seed=3,
                note="a variable without a gradient does not decay"),
        pytorch("torch_adamw_excluding_bias", "AdamW", weight_decay=0.25, ours={"weight_decay": 0.25}, exclude=["bias"]),
        pytorch("torch_adamw_float32", "AdamW", **single),
        of_optax("optax_epsilon", eps=0.25, note="epsilon is large, so that its place is seen"),
        of_optax("optax_eps_root", eps_root=0.0625, ours={"epsilon_root": 0.0625}),
        of_optax("optax_eps_root_alone", eps=0.0, eps_root=0.0625, ours={"epsilon_root": 0.0625}),
        of_optax("optax_amsgrad", "amsgrad", ours={"amsgrad": True}, scale=2.0,
                 note="the largest of the corrected second moments"),
        of_optax("optax_amsgrad_eps_root", "amsgrad", eps_root=0.0625, ours={"amsgrad": True, "epsilon_root": 0.0625},
                 seed=2),
        of_optax("optax_adamw", "adamw", "AdamW", weight_decay=0.0625, ours={"weight_decay": 0.0625}),
        of_optax("optax_adamw_eps_root", "adamw", "AdamW", eps_root=0.015625, weight_decay=0.5,
                 ours={"epsilon_root": 0.015625, "weight_decay": 0.5}, seed=3),
        of_optax("optax_adamw_mask", "adamw", "AdamW", weight_decay=0.25, ours={"weight_decay": 0.25}, exclude=["bias"]),
    ]


FILES = {
    "dialects_adam.json": adam,
    "dialects_nadam.json": nadam,
    "dialects_novograd.json": novograd,
    "dialects_radam.json": radam,
    "dialects_sgd.json": sgd,
}


def main(folder, *only):
    for name, cases in FILES.items():
        if only and name not in only:
            continue
        text = json.dumps({"format": 1, "oracle": ORACLE, "cases": cases()})
        (Path(folder) / name).write_text(text + "\n")
        print("wrote", Path(folder) / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
