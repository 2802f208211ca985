"""Records state that Keras, TensorFlow Addons, PyTorch and timm saved, and how their runs went on from there.

    python3.11 -m venv keras
    keras/bin/pip install tensorflow-cpu==2.15.1 tensorflow-addons==0.23.0
    keras/bin/python tests/reference/record_imports.py keras tests/data/imports
    python3.11 -m venv torch
    torch/bin/pip install torch==2.15.0 timm==1.0.31 safetensors==0.8.0
    torch/bin/python tests/reference/record_imports.py torch tests/data/imports

Each run takes 6 steps, saves its state, and takes 5 more. keras.json and torch.json have the variables at that moment,
and the gradients and the variables of the steps after it; the state is in a file beside them.
"""

import json
import sys
from pathlib import Path

import numpy as np

BEFORE, AFTER = 6, 5
SHAPES = {"kernel": (4, 3), "bias": (3,)}


def problem(seed):
    """Variables, and gradients for each step."""
    rng = np.random.default_rng(seed)
    start = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    steps = [{name: rng.normal(size=shape) for name, shape in SHAPES.items()} for _ in range(BEFORE + AFTER)]
    return start, steps


def flat(arrays):
    """Numbers for JSON, by variable."""
    return {name: np.asarray(array, dtype=np.float64).ravel().tolist() for name, array in arrays.items()}


def case(name, dtype, config, saved, start, trace, tolerance):
    """One recorded run."""
    steps = [{"gradients": flat(gradients), "expect": flat(values)} for gradients, values in trace]
    return {
        "name": name,
        "dtype": dtype,
        "optimizer": config,
        "saved": saved,
        "iterations": BEFORE,
        "shapes": {name: list(shape) for name, shape in SHAPES.items()},
        "variables": flat(start),
        "steps": steps,
        "rtol": tolerance,
        "atol": tolerance / 100,
    }


def keras(folder):
    """Lists of weights as `np.savez` writes them."""
    import tensorflow as tf
    import tensorflow_addons as tfa

    new, old, addons = tf.keras.optimizers, tf.keras.optimizers.legacy, tfa.optimizers
    betas = {"beta_1": 0.875, "beta_2": 0.9921875}
    # Hyperparameters are exact in 32 bits, through which Keras passes some of them.
    rules = {
        "sgd": (lambda: new.SGD(0.125, momentum=0.875), {}),
        "sgd_plain": (lambda: new.SGD(0.125), {}),
        "sgd_ema": (lambda: new.SGD(0.125, momentum=0.875, use_ema=True, ema_momentum=0.75,
                                    ema_overwrite_frequency=4), {}),
        "sgd_legacy": (lambda: old.SGD(0.125, momentum=0.875, nesterov=True, decay=0.25), {}),
        "nadam": (lambda: new.Nadam(0.125, epsilon=0.0009765625, **betas), {}),
        "nadam_legacy": (lambda: old.Nadam(0.125, epsilon=0.0009765625, **betas), {}),
        "radam": (lambda: addons.RectifiedAdam(0.125, epsilon=0.0009765625, **betas), {}),
        "radam_amsgrad": (lambda: addons.RectifiedAdam(0.125, amsgrad=True, epsilon=0.0009765625, **betas), {}),
        # Addons writes neither into its configuration.
        "novograd": (lambda: addons.NovoGrad(0.125, beta_1=0.875, beta_2=0.75, amsgrad=True, epsilon=0.0009765625),
                     {"amsgrad": True, "decay": 0.0}),
        "lookahead": (lambda: addons.Lookahead(addons.RectifiedAdam(0.125, epsilon=0.0009765625, **betas), 4, 0.5), {}),
    }
    cases = []
    for number, (name, (make, completed)) in enumerate(rules.items()):
        for dtype in ["float64", "float32"] if name in ("sgd", "novograd") else ["float64"]:
            start, steps = problem(number)
            variables = {name: tf.Variable(value, name=name, dtype=dtype) for name, value in start.items()}
            optimizer = make()
            for gradients in steps[:BEFORE]:
                step_keras(tf, optimizer, gradients, variables, dtype)
            label = name if dtype == "float64" else f"{name}_float32"
            saved = f"keras_{label}.npz"
            weights = optimizer.variables if isinstance(optimizer, new.Optimizer) else optimizer.get_weights()
            save = np.savez_compressed if number % 2 else np.savez
            save(folder / saved, *[np.asarray(weight) for weight in weights])
            at = {name: variable.numpy() for name, variable in variables.items()}
            if label == "sgd":
                # What model.get_weights() returns.
                np.savez(folder / "keras_model.npz", *at.values())
            trace = []
            for gradients in steps[BEFORE:]:
                step_keras(tf, optimizer, gradients, variables, dtype)
                given = {name: np.asarray(value, dtype=dtype) for name, value in gradients.items()}
                trace.append((given, {name: variable.numpy() for name, variable in variables.items()}))
            config = tf.keras.optimizers.serialize(optimizer)
            config = json.loads(json.dumps(config, default=float))
            config["config"].update(completed)
            # The legacy Nadam holds the constant 0.96 in 32 bits.
            tolerance = 1e-5 if dtype == "float32" else 1e-6 if "nadam" in name else 1e-12
            cases.append(case(label, dtype, config, saved, at, trace, tolerance))
    return {"tensorflow": tf.__version__, "tensorflow-addons": tfa.__version__}, cases


def step_keras(tf, optimizer, gradients, variables, dtype):
    pairs = [(tf.constant(gradients[name], dtype=dtype), variable) for name, variable in variables.items()]
    optimizer.apply_gradients(pairs)


def torch(folder):
    """`state_dict`s as safetensors: state.INDEX.KEY, or state.NAME.KEY."""
    import timm
    import torch
    from safetensors.torch import save_file
    from timm.optim import NvNovoGrad

    # Otherwise PyTorch keeps its counters and products in 32 bits.
    torch.set_default_dtype(torch.float64)
    betas, ours = (0.875, 0.9921875), {"beta_1": 0.875, "beta_2": 0.9921875}
    pytorch, nvidia = ({"learning_rate": 0.125, "dialect": dialect} for dialect in ("pytorch", "nvidia"))
    novograd = {**nvidia, "beta_1": 0.875, "beta_2": 0.75, "epsilon": 1e-3}
    rules = {
        "sgd": (lambda t: torch.optim.SGD(t, lr=0.125, momentum=0.875), ("SGD", {**pytorch, "momentum": 0.875})),
        "sgd_dampening": (lambda t: torch.optim.SGD(t, lr=0.125, momentum=0.875, dampening=0.25),
                          ("SGD", {**pytorch, "momentum": 0.875, "dampening": 0.25})),
        "nadam": (lambda t: torch.optim.NAdam(t, lr=0.125, betas=betas, eps=1e-3),
                  ("Nadam", {**pytorch, "momentum_decay": 0.004, "epsilon": 1e-3, **ours})),
        "radam": (lambda t: torch.optim.RAdam(t, lr=0.125, betas=betas, eps=1e-2),
                  ("RectifiedAdam", {**pytorch, "epsilon": 1e-2, **ours})),
        "novograd": (lambda t: NvNovoGrad(t, lr=0.125, betas=(0.875, 0.75), eps=1e-3),
                     ("NovoGrad", novograd)),
        "novograd_amsgrad": (lambda t: NvNovoGrad(t, lr=0.125, betas=(0.875, 0.75), eps=1e-3, amsgrad=True),
                             ("NovoGrad", {**novograd, "amsgrad": True})),
    }
    cases = []
    for number, (name, (make, (class_name, config))) in enumerate(rules.items()):
        start, steps = problem(100 + number)
        tensors = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
        optimizer = make(list(tensors.values()))
        for gradients in steps[:BEFORE]:
            step_torch(torch, optimizer, gradients, tensors)
        saved, state = f"torch_{name}.safetensors", {}
        for index, entries in optimizer.state_dict()["state"].items():
            # As torch.optim has it, and as torch.distributed's get_optimizer_state_dict has it.
            label = index if number % 2 == 0 else list(tensors)[index]
            for key, value in entries.items():
                if value is not None:
                    state[f"state.{label}.{key}"] = torch.as_tensor(value).clone().contiguous()
        save_file(state, folder / saved)
        at = {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}
        if name == "sgd":
            # What save_file(model.state_dict(), ...) writes.
            save_file({name: torch.tensor(value) for name, value in at.items()}, folder / "torch_model.safetensors")
        trace = []
        for gradients in steps[BEFORE:]:
            step_torch(torch, optimizer, gradients, tensors)
            trace.append((gradients, {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}))
        config = {"class_name": class_name, "config": config}
        cases.append(case(name, "float64", config, saved, at, trace, 1e-12))
    return {"torch": torch.__version__.split("+")[0], "timm": timm.__version__}, cases


def step_torch(torch, optimizer, gradients, tensors):
    for name, tensor in tensors.items():
        tensor.grad = torch.tensor(gradients[name])
    optimizer.step()


def main(system, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    oracle, cases = {"keras": keras, "torch": torch}[system](folder)
    (folder / f"{system}.json").write_text(json.dumps({"format": 1, "oracle": oracle, "cases": cases}) + "\n")
    print("wrote", len(cases), "cases to", folder)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
