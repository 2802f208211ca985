"""The side of Keras and PyTorch in the round trips of `cargo xtask interop`, which calls this script.

    python interop/round_trip.py describe            the systems of this Python, with their versions
    python interop/round_trip.py train SYSTEM FOLDER    trains, saves, converts, and trains five steps more
    python interop/round_trip.py return SYSTEM FOLDER   takes checkpoints back, and trains five steps more

SYSTEM is keras2, addons, keras3 or pytorch. Every case has a folder in FOLDER: in it are the converted
files and case.json (gradients, and the variables after five steps); this library
writes here.safetensors, and `return` writes back.json.
"""

import argparse
import importlib.metadata
import json
import os
import sys
from pathlib import Path

import numpy as np
from checkpoint import Problem, run

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

BEFORE, THERE, AGAIN = 7, 5, 5
# Exact in 32 bits, through which Keras passes hyperparameters.
BETAS = {"beta_1": 0.875, "beta_2": 0.9921875, "epsilon": 0.0009765625}
# Keras holds the constant 0.96 of Nadam in 32 bits.
EXACT, NADAM, SINGLE = 1e-12, 1e-6, 2e-6


def describe():
    """The systems that this Python has, with the versions of their packages."""
    def version(package):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def versions(*packages):
        found = {package: version(package) for package in packages}
        return {package: number for package, number in found.items() if number}

    keras, systems = version("keras"), {}
    tensorflow = version("tensorflow") or version("tensorflow-cpu")
    if keras and keras.startswith("2.") and tensorflow:
        systems["keras2"] = {"tensorflow": tensorflow, **versions("keras")}
        if version("tensorflow-addons"):
            systems["addons"] = {"tensorflow": tensorflow, **versions("tensorflow-addons")}
    if keras and int(keras.split(".")[0]) >= 3:
        systems["keras3"] = {**versions("keras"), **({"tensorflow": tensorflow} if tensorflow else {})}
    if version("torch") and version("safetensors"):
        systems["pytorch"] = {"torch": version("torch").split("+")[0], **versions("safetensors")}
    print(json.dumps(systems))


class Keras:
    """A small model with an optimizer of Keras, fed with random gradients."""

    def __init__(self, case):
        from keras_to_npz import keras

        self.keras, self.case = keras(), case
        self.keras.backend.clear_session()
        self.keras.backend.set_floatx(case.dtype)
        layers = self.keras.layers
        self.model = self.keras.Sequential([
            layers.Input((3,)), layers.Dense(2, name="dense"), layers.BatchNormalization(name="norm"),
            layers.Dense(1, name="out"),
        ])
        self.model.compile(case.make(), "mse")

    def variables(self):
        from keras_state import by_name

        trainable = {id(variable) for variable in self.model.trainable_variables}
        return {name: variable for name, variable in by_name(self.model).items() if id(variable) in trainable}

    def step(self, gradients):
        pairs = [(gradients[name], variable) for name, variable in self.variables().items() if name in gradients]
        pairs = [(self.keras_tensor(gradient), variable) for gradient, variable in pairs]
        self.model.optimizer.apply_gradients(pairs)

    def keras_tensor(self, values):
        import tensorflow as tf

        return tf.constant(values, dtype=self.case.dtype)

    def values(self):
        return {name: np.array(variable) for name, variable in self.variables().items()}

    def save(self, folder):
        """Converts the live model, and every kind of file that has the state: all must give the same numbers."""
        import keras_to_npz

        keras_to_npz.convert(self.model, folder)
        numbers = read(folder)
        for suffix in self.case.files:
            source = folder / f"saved{suffix}"
            if suffix == ".ckpt":
                import tensorflow as tf

                checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)
                source = Path(checkpoint.save(str(source)))
                keras_to_npz.write(folder / "again", *keras_to_npz.read_checkpoint(source), None)
            else:
                self.model.save(source)
                keras_to_npz.convert(keras_to_npz.load(source), folder / "again")
            same(numbers, read(folder / "again"), f"{self.case.name}: {source.name}")

    def restore(self, folder):
        """Takes a checkpoint, through a file where one can have the state."""
        import keras_to_npz
        import to_keras

        to_keras.restore(self.model, folder / "here.safetensors")
        if self.case.through:
            self.model.save(folder / f"back{self.case.through}")
            self.model = keras_to_npz.load(folder / f"back{self.case.through}")


class Torch:
    """A small model with an optimizer of PyTorch, fed with random gradients."""

    def __init__(self, case):
        import torch

        self.torch, self.case = torch, case
        torch.set_default_dtype(getattr(torch, case.dtype))
        torch.manual_seed(case.seed)
        self.model = torch.nn.Sequential()
        self.model.add_module("dense", torch.nn.Linear(3, 2))
        self.model.add_module("norm", torch.nn.BatchNorm1d(2))
        self.model.add_module("out", torch.nn.Linear(2, 1))
        self.optimizer = case.make()(self.model.parameters())

    def variables(self):
        return dict(self.model.named_parameters())

    def step(self, gradients):
        for name, parameter in self.variables().items():
            given = gradients.get(name)
            parameter.grad = None if given is None else self.torch.tensor(given, dtype=parameter.dtype)
        self.optimizer.step()

    def values(self):
        return {name: parameter.detach().numpy().copy() for name, parameter in self.variables().items()}

    def save(self, folder):
        import torch_to_safetensors

        torch_to_safetensors.convert(self.model, self.optimizer, folder)
        both = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        self.torch.save(both, folder / "saved.pt")
        parts = torch_to_safetensors.parts(torch_to_safetensors.load(folder / "saved.pt"), "saved.pt")
        torch_to_safetensors.write(folder / "again", *parts)
        for name in ("model.safetensors", "optimizer.safetensors", "optimizer.json"):
            if (folder / name).read_bytes() != (folder / "again" / name).read_bytes():
                raise Problem(f"{self.case.name}: saved.pt gives another {name} than the live model")

    def restore(self, folder):
        import to_torch

        to_torch.restore(self.model, self.optimizer, folder / "here.safetensors")


class Case:
    """A rule of a system, and how it is saved there."""

    def __init__(self, name, make, tolerance=EXACT, files=(), through=None, dtype="float64", late=()):
        self.name, self.make, self.tolerance, self.dtype = name, make, tolerance, dtype
        self.files, self.through, self.late = files, through, late
        self.seed = sum(name.encode())

    def gradients(self, shapes):
        rng = np.random.default_rng(self.seed)
        steps = []
        for step in range(BEFORE + THERE + AGAIN):
            drawn = {name: rng.normal(size=shape) for name, shape in shapes.items()}
            steps.append({n: g for n, g in drawn.items() if step >= 4 or not n.startswith(tuple(self.late) or "/")})
        return steps


def excluding(optimizer):
    """No file has what is excluded."""
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def keras2():
    import tensorflow as tf

    new, old = tf.keras.optimizers, tf.keras.optimizers.legacy
    every, legacy = (".keras", ".h5", ".ckpt"), (".h5", ".ckpt")
    return Keras, [
        # A TensorFlow checkpoint has momenta, but not the momentum 0.
        Case("SGD", lambda: new.SGD(0.125), files=(".keras", ".h5"), through=".keras"),
        Case("SGD, momentum", lambda: new.SGD(0.125, momentum=0.875, nesterov=True), files=every, through=".h5"),
        Case("SGD, average, decay", lambda: new.SGD(0.125, momentum=0.875, weight_decay=0.0625, use_ema=True,
                                                  ema_momentum=0.75), files=every, through=".keras"),
        Case("SGD, decay but of biases", lambda: excluding(new.SGD(0.125, weight_decay=0.0625)), files=(".keras",)),
        Case("Adam", lambda: new.Adam(0.125, **BETAS), files=every, through=".keras"),
        Case("Adam, amsgrad", lambda: new.Adam(0.125, amsgrad=True, **BETAS), files=every, through=".h5"),
        Case("AdamW, average", lambda: new.AdamW(0.125, use_ema=True, ema_momentum=0.75, **BETAS), files=every,
             through=".keras"),
        Case("AdamW, float32", lambda: new.AdamW(0.125, **BETAS), SINGLE, every, ".keras", "float32"),
        Case("Nadam", lambda: new.Nadam(0.125, **BETAS), NADAM, files=every),
        Case("SGD, float32", lambda: new.SGD(0.125, momentum=0.875), SINGLE, every, ".keras", "float32"),
        Case("legacy SGD", lambda: old.SGD(0.125, momentum=0.875, decay=0.25), files=legacy, through=".h5"),
        Case("legacy Adam", lambda: old.Adam(0.125, amsgrad=True, decay=0.25, **BETAS), files=legacy, through=".h5"),
        Case("legacy Nadam", lambda: old.Nadam(0.125, **BETAS), NADAM, legacy, ".h5"),
        # Its slots are made in another order than that of the model, in which Keras reads an .h5 file.
        Case("legacy SGD, late layer", lambda: old.SGD(0.125, momentum=0.875), files=legacy, through=".h5",
             late=["dense"]),
    ]


def addons():
    import tensorflow as tf
    import tensorflow_addons as tfa

    old, addons, legacy = tf.keras.optimizers.legacy, tfa.optimizers, (".h5", ".ckpt")
    novograd = {**BETAS, "beta_2": 0.75}
    return Keras, [
        Case("RectifiedAdam", lambda: addons.RectifiedAdam(0.125, **BETAS), files=legacy, through=".h5"),
        Case("RectifiedAdam, amsgrad", lambda: addons.RectifiedAdam(0.125, amsgrad=True, **BETAS), files=legacy,
             through=".h5"),
        Case("NovoGrad", lambda: addons.NovoGrad(0.125, **novograd), files=legacy, through=".h5"),
        # The file does not have `amsgrad`: it cannot be loaded as what it was.
        Case("NovoGrad, amsgrad", lambda: addons.NovoGrad(0.125, amsgrad=True, **novograd), files=(".ckpt",)),
        Case("Lookahead, SGD", lambda: addons.Lookahead(old.SGD(0.125, momentum=0.875), 4, 0.5), files=legacy,
             through=".h5"),
        Case("Lookahead, Adam", lambda: addons.Lookahead(old.Adam(0.125, **BETAS), 3, 0.5), files=legacy, through=".h5"),
        Case("Lookahead, RectifiedAdam", lambda: addons.Lookahead(addons.RectifiedAdam(0.125, **BETAS), 3, 0.25),
             files=legacy, through=".h5"),
    ]


def keras3():
    import keras

    new, every = keras.optimizers, (".keras", ".h5")
    return Keras, [
        Case("SGD", lambda: new.SGD(0.125), files=every, through=".keras"),
        Case("SGD, momentum", lambda: new.SGD(0.125, momentum=0.875, nesterov=True), files=every, through=".h5"),
        Case("SGD, average, decay", lambda: new.SGD(0.125, momentum=0.875, weight_decay=0.0625, use_ema=True,
                                                  ema_momentum=0.75), files=every, through=".keras"),
        Case("SGD, decay but of biases", lambda: excluding(new.SGD(0.125, weight_decay=0.0625)), files=(".keras",)),
        Case("Adam", lambda: new.Adam(0.125, **BETAS), files=every, through=".keras"),
        Case("Adam, amsgrad", lambda: new.Adam(0.125, amsgrad=True, **BETAS), files=every, through=".h5"),
        Case("AdamW, average", lambda: new.AdamW(0.125, use_ema=True, ema_momentum=0.75, **BETAS), files=every,
             through=".keras"),
        Case("Nadam", lambda: new.Nadam(0.125, **BETAS), NADAM, every, ".keras"),
        Case("SGD, float32", lambda: new.SGD(0.125, momentum=0.875), SINGLE, every, ".keras", "float32"),
    ]


def pytorch():
    import torch

    def made(kind, **options):
        return lambda: lambda parameters: getattr(torch.optim, kind)(parameters, lr=0.125, **options)

    adam = {"betas": (0.875, 0.9921875), "eps": 0.0009765625}
    return Torch, [
        Case("SGD", made("SGD")),
        Case("SGD, momentum", made("SGD", momentum=0.875, nesterov=True)),
        Case("SGD, dampening, decay", made("SGD", momentum=0.875, dampening=0.25, weight_decay=0.0625)),
        Case("Adam", made("Adam", **adam)),
        Case("Adam, amsgrad, decay", made("Adam", amsgrad=True, weight_decay=0.0625, **adam)),
        Case("Adam, late parameter", made("Adam", **adam), late=["out"]),
        Case("AdamW", made("AdamW", **adam)),
        Case("AdamW, amsgrad, late parameter", made("AdamW", amsgrad=True, weight_decay=0.0625, **adam), late=["out"]),
        Case("AdamW, float32", made("AdamW", **adam), SINGLE, dtype="float32"),
        Case("NAdam", made("NAdam", **adam)),
        Case("NAdam, decay", made("NAdam", weight_decay=0.0625, decoupled_weight_decay=True, **adam)),
        Case("NAdam, late parameter", made("NAdam", momentum_decay=0.25, **adam), late=["out"]),
        Case("RAdam", made("RAdam", **adam)),
        Case("RAdam, decay", made("RAdam", weight_decay=0.0625, **adam)),
        Case("RAdam, late parameter", made("RAdam", **adam), late=["out"]),
        Case("NAdam, float32", made("NAdam", **adam), SINGLE, dtype="float32"),
    ]


SYSTEMS = {"keras2": keras2, "addons": addons, "keras3": keras3, "pytorch": pytorch}


def read(folder):
    """All arrays of the converted files."""
    arrays = {}
    for name in ("model.npz", "optimizer.npz"):
        with np.load(folder / name) as stored:
            arrays.update({f"{name}: {key}": stored[key] for key in stored.files})
    return arrays


def same(expected, found, place):
    # Keras 2.15 does not save this number, and a checkpoint may have another one.
    optional = {"optimizer.npz: momentum_cache"}
    for key in sorted((set(expected) ^ set(found)) - optional):
        raise Problem(f"{place}: {key} is only in {'the live model' if key in expected else 'the file'}")
    for key in set(expected) & set(found):
        if expected[key].shape != found[key].shape or not np.array_equal(expected[key], found[key]):
            raise Problem(f"{place}: {key} differs from the live model's")


def flat(arrays):
    return {name: np.asarray(values, dtype=np.float64).ravel().tolist() for name, values in arrays.items()}


def train(system, folder):
    """Seven steps, the files, five steps."""
    side, cases = SYSTEMS[system]()
    for number, case in enumerate(cases):
        there, place = side(case), folder / f"{number:02}"
        shapes = {name: list(values.shape) for name, values in there.values().items()}
        gradients = case.gradients(shapes)
        for given in gradients[:BEFORE]:
            there.step(given)
        place.mkdir(parents=True)
        there.save(place)
        for given in gradients[BEFORE : BEFORE + THERE]:
            there.step(given)
        (place / "case.json").write_text(json.dumps({
            "name": case.name,
            "source": "pytorch" if system == "pytorch" else "keras",
            "dtype": case.dtype,
            "tolerance": case.tolerance,
            "iterations": BEFORE,
            "shapes": shapes,
            "gradients": [flat(given) for given in gradients[BEFORE:]],
            "after": flat(there.values()),
        }))


def take_back(system, folder):
    """Checkpoints of this library, and five steps."""
    side, cases = SYSTEMS[system]()
    for number, case in enumerate(cases):
        place = folder / f"{number:02}"
        if not (place / "here.safetensors").exists():
            continue
        there = side(case)
        shapes = {name: list(values.shape) for name, values in there.values().items()}
        there.restore(place)
        for given in case.gradients(shapes)[BEFORE + THERE :]:
            there.step(given)
        (place / "back.json").write_text(json.dumps(flat(there.values())))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    tasks.add_parser("describe")
    for task in ("train", "return"):
        command = tasks.add_parser(task)
        command.add_argument("system", choices=SYSTEMS)
        command.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.task == "describe":
        describe()
    else:
        {"train": train, "return": take_back}[arguments.task](arguments.system, arguments.folder)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    run(main)
