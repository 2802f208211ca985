"""Puts a checkpoint of this library back into files of PyTorch.

    python interop/to_torch.py checkpoint.safetensors training.pt resumed.pt

LIKE is a file with {"model": state_dict, "optimizer": state_dict} of the same model and optimizer; usually the one from
which the training started. The result has its form, with the numbers of the checkpoint.

In a program that has the model, no file is needed:

    from to_torch import restore
    restore(model, optimizer, "checkpoint.safetensors")
"""

import argparse
from pathlib import Path

from checkpoint import Checkpoint, Problem, run
from torch_to_safetensors import CLASSES, check, class_of, clean, cleaned, load, names_of, parts


def restore(model, optimizer, path):
    """Gives a live model and its optimizer the numbers of a checkpoint."""
    parameters = {id(parameter): clean(name) for name, parameter in model.named_parameters()}
    names = [parameters[id(p)] for group in optimizer.param_groups for p in group["params"]]
    values, state = convert(Checkpoint(path), model.state_dict(), optimizer.state_dict(), names)
    model.load_state_dict(values)
    optimizer.load_state_dict(state)


def convert(checkpoint, model, optimizer, names=None):
    """The two dictionaries, with the numbers of the checkpoint."""
    import torch

    names = names or names_of(cleaned(model), optimizer)
    check(cleaned(model), optimizer, names)
    # The tensors of a state_dict are those of the model itself.
    values = {name: value.clone() for name, value in model.items()}
    by_name = {clean(name): name for name in model}
    checkpoint.adopt_names(by_name)
    for name, numbers in checkpoint.variables.items():
        if name not in by_name:
            raise Problem(f"the model has no parameter {name!r}; it has {', '.join(by_name)}")
        like = values[by_name[name]]
        if tuple(like.shape) != numbers.shape:
            raise Problem(f"{name} has shape {numbers.shape} in the checkpoint, {tuple(like.shape)} in the model")
        values[by_name[name]] = torch.as_tensor(numbers).to(like.dtype)
    kind = class_of(optimizer["param_groups"][0])
    found = (checkpoint.config or {}).get("class_name", CLASSES[kind])
    if {found, CLASSES[kind]} not in ({found}, {"Adam", "AdamW"}):
        raise Problem(f"the checkpoint is one of {found}, the optimizer is {kind}")
    state = {}
    for index, name in enumerate(names):
        entries = ENTRIES[kind](checkpoint, name, optimizer["param_groups"][0])
        if entries:
            dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
            state[index] = {
                key: torch.as_tensor(value, dtype=dtype if key in ("step", "mu_product") else None)
                for key, value in entries.items()
            }
    rate = checkpoint.hyperparameters().get("learning_rate")
    groups = [dict(group) for group in optimizer["param_groups"]]
    if isinstance(rate, (int, float)):
        for group in groups:
            group["lr"] = rate
    return values, {"state": state, "param_groups": groups}


def sgd(checkpoint, name, _group):
    """PyTorch has no buffer before the first gradient, which it does not dampen."""
    momentum, started = checkpoint.slot(name, "momentum"), checkpoint.slot(name, "started")
    return {} if momentum is None or started == 0 else {"momentum_buffer": momentum}


def moments(checkpoint, name):
    """The moments of a parameter that took a step."""
    step = checkpoint.slot(name, "step")
    step = float(checkpoint.iterations if step is None else step)
    m, v = checkpoint.slot(name, "m"), checkpoint.slot(name, "v")
    return {} if m is None or step == 0 else {"step": step, "exp_avg": m, "exp_avg_sq": v}


def adam(checkpoint, name, _group):
    entries, largest = moments(checkpoint, name), checkpoint.slot(name, "vhat")
    return {**entries, "max_exp_avg_sq": largest} if entries and largest is not None else entries


def nadam(checkpoint, name, group):
    entries = moments(checkpoint, name)
    if entries:
        product = 1.0
        for step in range(1, int(entries["step"]) + 1):
            product *= group["betas"][0] * (1.0 - 0.5 * 0.96 ** (step * group["momentum_decay"]))
        kept = [checkpoint.slot(name, "momentum_cache"), checkpoint.state.get("momentum_cache")]
        entries["mu_product"] = next((float(number) for number in kept if number is not None), product)
    return entries


def radam(checkpoint, name, _group):
    return moments(checkpoint, name)


ENTRIES = {"SGD": sgd, "Adam": adam, "AdamW": adam, "NAdam": nadam, "RAdam": radam}


def main():
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of this library")
    parser.add_argument("like", type=Path, help="a file of torch.save with the same model and optimizer")
    parser.add_argument("result", type=Path, help="the file to write")
    parser.add_argument("--names", metavar="NAMES",
                        help="the names of the parameters in the order of the optimizer, with commas between them")
    arguments = parser.parse_args()
    loaded = load(arguments.like)
    model, optimizer = parts(loaded, arguments.like)
    names = arguments.names and arguments.names.split(",")
    values, state = convert(Checkpoint(arguments.checkpoint), model, optimizer, names)
    torch.save({**loaded, **{key: values for key in loaded if loaded[key] is model},
                **{key: state for key in loaded if loaded[key] is optimizer}}, arguments.result)
    print("wrote", arguments.result)


if __name__ == "__main__":
    run(main)
