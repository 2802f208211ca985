"""Converts what PyTorch saved into files that this library reads.

    python interop/torch_to_safetensors.py training.pt FOLDER         ({"model": state_dict, "optimizer": state_dict})
    python interop/torch_to_safetensors.py model.pt optimizer.pt FOLDER

Written are FOLDER/model.safetensors, FOLDER/optimizer.safetensors (`state.NAME.KEY`) and FOLDER/optimizer.json (the
configuration). Prefixes that `DataParallel` and `torch.compile` add to names (`module.`, `_orig_mod.`) are removed.

A state_dict of an optimizer knows parameters by number, in the order of its groups. Their names are found in the
groups (`param_names`, if the optimizer was made from `model.named_parameters()`), else in the order of the model.
If there are several groups without names, or parameters that are not trained, say the order: --names NAMES.

In a program that has the model, no file is needed:

    from torch_to_safetensors import convert
    convert(model, optimizer, "FOLDER")
"""

import argparse
import json
import re
from pathlib import Path

from checkpoint import Problem, run

# Values that are no parameters.
BUFFERS = re.compile(r"(running_mean|running_var|num_batches_tracked)$")
PREFIX = re.compile(r"(^|\.)(module|_orig_mod)\.")
CLASSES = {"SGD": "SGD", "Adam": "Adam", "AdamW": "AdamW", "NAdam": "Nadam", "RAdam": "RectifiedAdam"}


def convert(model, optimizer, folder):
    """Writes the three files of a live model and its optimizer."""
    parameters = {id(parameter): clean(name) for name, parameter in model.named_parameters()}
    names = [parameters[id(p)] for group in optimizer.param_groups for p in group["params"]]
    write(folder, model.state_dict(), optimizer.state_dict(), names)


def write(folder, model, optimizer, names=None):
    import torch
    from safetensors.torch import save_file

    model = cleaned(model)
    names = names or names_of(model, optimizer)
    check(model, optimizer, names)
    state = {
        f"state.{names[index]}.{key}": torch.as_tensor(value).clone().contiguous()
        for index, entries in optimizer["state"].items()
        for key, value in entries.items()
        if value is not None
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Tied weights are stored under each of their names.
    save_file({name: value.clone().contiguous() for name, value in model.items()}, folder / "model.safetensors")
    save_file(state, folder / "optimizer.safetensors")
    (folder / "optimizer.json").write_text(json.dumps(configuration(optimizer), indent=1) + "\n")


def clean(name):
    """A name without the prefixes of wrappers."""
    while PREFIX.search(name):
        name = PREFIX.sub(r"\1", name)
    return name


def cleaned(model):
    renamed = {clean(name): value for name, value in model.items()}
    if len(renamed) < len(model):
        raise Problem("without the prefixes of DataParallel and torch.compile, two parameters have the same name")
    return renamed


def names_of(model, optimizer):
    """The names of the parameters in the order of the optimizer."""
    groups = optimizer["param_groups"]
    if all("param_names" in group for group in groups):
        return [clean(name) for group in groups for name in group["param_names"]]
    count = sum(len(group["params"]) for group in groups)
    names = [name for name in model if not BUFFERS.search(name)]
    if len(groups) > 1:
        raise Problem(f"the optimizer has {len(groups)} groups and no names: say them in its order, --names")
    if len(names) != count:
        raise Problem(f"the model has {len(names)} parameters, the optimizer {count}: say their names, --names")
    return names


def check(model, optimizer, names):
    """Names and shapes must fit each other."""
    count = sum(len(group["params"]) for group in optimizer["param_groups"])
    if len(names) != count:
        raise Problem(f"{len(names)} names for {count} parameters of the optimizer")
    for name in names:
        if name not in model:
            raise Problem(f"the model has no parameter {name!r}; it has {', '.join(model)}")
    for index, entries in optimizer["state"].items():
        for key, value in entries.items():
            shape = tuple(getattr(value, "shape", ()))
            if shape and shape != tuple(model[names[index]].shape):
                expected = tuple(model[names[index]].shape)
                raise Problem(f"{key} of parameter {index} has shape {shape}, {names[index]} has {expected}: "
                              "the order is another one, say the names in the optimizer's order, --names")


def class_of(group):
    if "momentum_decay" in group:
        return "NAdam"
    if "dampening" in group:
        return "SGD"
    if "decoupled_weight_decay" in group and "betas" in group and "amsgrad" not in group:
        return "RAdam"
    if "amsgrad" in group and "betas" in group:
        if "decoupled_weight_decay" not in group and group["weight_decay"]:
            raise Problem("a file of this older PyTorch does not say whether the optimizer is Adam or AdamW: load it into "
                          "the optimizer, and save it again with a newer one")
        return "AdamW" if group.get("decoupled_weight_decay") else "Adam"
    raise Problem("the optimizer has no counterpart here; known are SGD, Adam, AdamW, NAdam and RAdam")


def configuration(optimizer):
    """The configuration of the first group; other groups must have the same one."""
    kept = ["lr", "momentum", "dampening", "nesterov", "weight_decay", "decoupled_weight_decay", "momentum_decay",
            "eps", "betas", "amsgrad", "maximize"]
    groups = [{key: group[key] for key in kept if key in group} for group in optimizer["param_groups"]]
    differing = sorted(key for key in groups[0] if any(group.get(key) != groups[0][key] for group in groups))
    if differing:
        raise Problem(f"the groups of the optimizer differ in {', '.join(differing)}; here an optimizer has one value "
                      "for all variables: convert each group with an optimizer of its own")
    group, name = groups[0], class_of(optimizer["param_groups"][0])
    if group.pop("maximize", False):
        raise Problem("maximize has no counterpart here: negate the gradients")
    if name in ("Adam", "AdamW"):
        # The class says it.
        group.pop("decoupled_weight_decay", None)
    fields = {"learning_rate": float(group.pop("lr")), "dialect": "pytorch"}
    if "betas" in group:
        fields["beta_1"], fields["beta_2"] = group.pop("betas")
    if "eps" in group:
        fields["epsilon"] = group.pop("eps")
    return {"class_name": CLASSES[name], "config": {**fields, **group}}


def load(path):
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Problem(f"{path} does not exist") from None
    except Exception:  # noqa: BLE001: torch raises many kinds
        raise Problem(f"{path} holds more than tensors, numbers and names, or is no file of torch.save: save "
                      "{'model': model.state_dict(), 'optimizer': optimizer.state_dict()}") from None


def parts(loaded, path):
    """The two dictionaries in one file, under the names that people give them."""
    def find(keys):
        return next((loaded[key] for key in keys if isinstance(loaded.get(key), dict)), None)

    model = find(["model", "model_state_dict", "state_dict", "net"])
    optimizer = find(["optimizer", "optimizer_state_dict", "optim"])
    if model is None or optimizer is None:
        raise Problem(f"{path} has the keys {', '.join(map(str, loaded))}; expected are 'model' and 'optimizer'")
    return model, optimizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="one file with both, or two: model and optimizer")
    parser.add_argument("folder", type=Path, help="where to write the three files")
    parser.add_argument("--names", metavar="NAMES",
                        help="the names of the parameters in the order of the optimizer, with commas between them")
    arguments = parser.parse_args()
    if len(arguments.files) > 2:
        raise Problem(f"{len(arguments.files)} files were given: one or two are expected")
    loaded = [load(path) for path in arguments.files]
    model, optimizer = loaded if len(loaded) == 2 else parts(loaded[0], arguments.files[0])
    if "state" not in optimizer or "param_groups" not in optimizer:
        raise Problem("the optimizer's dictionary has no 'state' and 'param_groups'")
    write(arguments.folder, model, optimizer, arguments.names and arguments.names.split(","))
    print("wrote", ", ".join(str(path) for path in sorted(arguments.folder.iterdir())))
    if class_of(optimizer["param_groups"][0]) == "SGD":
        print("note: PyTorch's SGD does not count its steps; say how many it took when the state is loaded")


if __name__ == "__main__":
    run(main)
