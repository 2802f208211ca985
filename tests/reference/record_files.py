"""Writes small files of Keras, TensorFlow and PyTorch for the tests of imports: `tests/data/imports/files`.

    python3.11 -m venv keras2
    keras2/bin/pip install tensorflow-cpu==2.15.1 tensorflow-addons==0.23.0
    keras2/bin/python tests/reference/record_files.py keras2 tests/data/imports/files
    python3.11 -m venv keras3
    keras3/bin/pip install tensorflow-cpu==2.21.0 keras==3.15.1
    keras3/bin/python tests/reference/record_files.py keras3 tests/data/imports/files
    python3.11 -m venv torch
    torch/bin/pip install torch==2.15.0 safetensors==0.8.0
    torch/bin/python tests/reference/record_files.py torch tests/data/imports/files

All of them have taken two steps with the gradients 1 and 2, for the variables dense/kernel (2, 1) and dense/bias (1,).
"""

import sys
from pathlib import Path

import numpy as np

START = {"dense/kernel": [[1.0], [2.0]], "dense/bias": [3.0]}
GRADIENTS = [1.0, 2.0]


def train(make, variables, ones):
    """Takes the two steps."""
    optimizer = make()
    for gradient in GRADIENTS:
        optimizer.apply_gradients([(gradient * ones(variable), variable) for variable in variables])
    return optimizer


def keras2(folder):
    import tensorflow as tf
    import tensorflow_addons as tfa

    def trained(make):
        variables = [tf.Variable(value, name=name, dtype="float32") for name, value in START.items()]
        return train(make, variables, tf.ones_like)

    adam = trained(lambda: tf.keras.optimizers.AdamW(0.5, amsgrad=True))
    save_both(folder, "keras2_adamw", {variable.name: variable.numpy() for variable in adam.variables})
    legacy = trained(lambda: tf.keras.optimizers.legacy.Adam(0.5, amsgrad=True))
    save_both(folder, "legacy_adam", {variable.name: variable.numpy() for variable in legacy.variables()})
    nadam = trained(lambda: tf.keras.optimizers.Nadam(0.5))
    save_both(folder, "keras2_nadam", {variable.name: variable.numpy() for variable in nadam.variables})
    legacy = trained(lambda: tf.keras.optimizers.legacy.Nadam(0.5))
    save_both(folder, "legacy_nadam", {variable.name: variable.numpy() for variable in legacy.variables()})
    radam = trained(lambda: tfa.optimizers.RectifiedAdam(0.5))
    save_both(folder, "addons_radam", {variable.name: variable.numpy() for variable in radam.variables()})
    model = small_model(tf.keras)
    model.save(folder / "model.h5")
    (folder / "tensorflow").mkdir(exist_ok=True)
    model.save_weights(folder / "tensorflow" / "ckpt")


def keras3(folder):
    import keras
    import tensorflow as tf

    def trained(make):
        variables = []
        for name, value in START.items():
            variable = keras.Variable(np.asarray(value, dtype="float32"), name=name.split("/")[1])
            variable._path = name
            variables.append(variable)
        return train(make, variables, lambda variable: tf.ones(variable.shape))

    adam = trained(lambda: keras.optimizers.AdamW(0.5, amsgrad=True))
    save_both(folder, "keras3_adamw", {variable.path: variable.numpy() for variable in adam.variables})
    nadam = trained(lambda: keras.optimizers.Nadam(0.5))
    save_both(folder, "keras3_nadam", {variable.path: variable.numpy() for variable in nadam.variables})
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 4, 0.5)
    decayed = trained(lambda: keras.optimizers.Nadam(schedule))
    np.savez(folder / "keras3_nadam_schedule.npz", *[variable.numpy() for variable in decayed.variables])
    small_model(keras).save(folder / "model.keras")


def save_both(folder, name, arrays):
    """As a list, and under the names of Keras."""
    np.savez(folder / f"{name}.npz", *arrays.values())
    np.savez(folder / f"{name}_names.npz", **arrays)


def small_model(keras):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1, name="dense")])
    model.compile(keras.optimizers.SGD(0.5, momentum=0.5), loss="mse")
    model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
    return model


def torch(folder):
    import torch
    from safetensors.torch import save_file

    parameters = {name.replace("/", "."): torch.tensor(value, requires_grad=True) for name, value in START.items()}
    optimizer = torch.optim.NAdam(parameters.values(), lr=0.5)
    for gradient in GRADIENTS:
        for parameter in parameters.values():
            parameter.grad = gradient * torch.ones_like(parameter)
        optimizer.step()
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    torch.save(optimizer.state_dict(), folder / "optimizer_old.pt", _use_new_zipfile_serialization=False)
    names, state = list(parameters), optimizer.state_dict()["state"]
    for kind, dtype in [("", None), ("_bf16", torch.bfloat16)]:
        tensors = {
            f"state.module.{names[index]}.{key}": value.to(dtype if value.dim() else None).clone()
            for index, entries in state.items()
            for key, value in entries.items()
        }
        save_file(tensors, folder / f"torch_nadam{kind}.safetensors")
    model = {f"_orig_mod.{name}": parameter.detach().half() for name, parameter in parameters.items()}
    model["_orig_mod.norm.num_batches_tracked"] = torch.tensor(2)
    save_file(model, folder / "torch_model_f16.safetensors")


def main(system, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    {"keras2": keras2, "keras3": keras3, "torch": torch}[system](folder)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
