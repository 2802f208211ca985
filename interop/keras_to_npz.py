"""Converts a model that Keras saved, with the state of its optimizer, into files that this library reads.

    python interop/keras_to_npz.py model.keras FOLDER      (Keras 3, and the new optimizers of Keras 2.11 to 2.15)
    python interop/keras_to_npz.py model.h5 FOLDER         (these, legacy optimizers, and TensorFlow Addons)
    python interop/keras_to_npz.py checkpoints/ckpt-3 FOLDER    (a TensorFlow checkpoint of Keras 2)

Written are FOLDER/model.npz (the variables), FOLDER/optimizer.npz (the state) and FOLDER/optimizer.json (the
configuration; a TensorFlow checkpoint has none). All arrays have names: `dense/kernel`, `dense/kernel/m`, `iterations`.

In a program that has the model, no file is needed:

    from keras_to_npz import convert
    convert(model, "FOLDER")
"""

import argparse
import importlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np
from checkpoint import Problem, run
from keras_state import by_name, find_slot, kind_of, owners, read_configuration, read_model, read_state


def convert(model, folder, optimizer=None):
    """Writes the three files of a live model. `optimizer` is that of the model, unless it is given."""
    optimizer = optimizer or getattr(model, "optimizer", None)
    if optimizer is None:
        raise Problem("the model has no optimizer: it was not compiled, or saved with include_optimizer=False")
    named = by_name(model)
    write(folder, read_model(named), read_state(optimizer, named), read_configuration(optimizer, serializer()))


def write(folder, model, state, configuration):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "model.npz", **model)
    np.savez(folder / "optimizer.npz", **state)
    if configuration is not None:
        (folder / "optimizer.json").write_text(json.dumps(configuration, indent=1) + "\n")


def keras():
    """Keras 3, or Keras 2 of TensorFlow, which has no version of its own."""
    try:
        module = importlib.import_module("keras")
    except ImportError:
        raise Problem("this Python has no Keras") from None
    return module if int(module.__version__.split(".")[0]) >= 3 else importlib.import_module("tensorflow").keras


def is_keras3():
    return hasattr(keras(), "__version__")


def serializer():
    return keras().optimizers.serialize


def load(path):
    """A model with its optimizer."""
    if not path.exists():
        raise Problem(f"{path} does not exist")
    import_addons()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = keras().models.load_model(path, custom_objects=custom_objects(path))
        except (TypeError, ValueError, OSError, AttributeError) as error:
            raise Problem(f"Keras cannot load {path}: {str(error).splitlines()[0]}; custom classes "
                          "need --import") from None
    lost = [str(w.message) for w in caught if "Skipping variable loading for optimizer" in str(w.message)
            or "Error in loading the saved optimizer state" in str(w.message)]
    if lost:
        raise Problem(f"Keras does not load the optimizer's state: {lost[0]}")
    if path.suffix != ".keras" and model.optimizer is not None:
        (load_lost_state if is_keras3() else load_by_name)(model, path)
    return model


def custom_objects(path):
    """Classes and functions that Keras writes into files by a name that it does not know when it reads them."""
    own = keras().optimizers
    # Keras 2.15 does not find its own AdamW, in files of either kind.
    found = {"AdamW": own.AdamW} if not is_keras3() and hasattr(own, "AdamW") else {}
    if path.suffix == ".keras":
        return found or None
    if is_keras3():
        short = {"mse": "mean_squared_error", "mae": "mean_absolute_error", "mape": "mean_absolute_percentage_error",
                 "msle": "mean_squared_logarithmic_error"}
        return {name: getattr(keras().losses, long) for name, long in short.items()}
    addons = import_addons()
    inner = ["NovoGrad", "RectifiedAdam"] if addons else []
    return {**found, **{name: getattr(addons.optimizers, name) for name in inner}}


def import_addons():
    """Registers the optimizers of Addons, if it is installed."""
    try:
        return importlib.import_module("tensorflow_addons")
    except ImportError:
        return None


def load_lost_state(model, path):
    """Keras 3 builds the optimizer of an .h5 file without variables, and so loses its state without a word."""
    import h5py

    with h5py.File(path) as file:
        group, version = file.get("optimizer_weights"), str(file.attrs.get("keras_version", "3"))
        if not version.startswith("3"):
            raise Problem(f"{path} was written by Keras {version}: convert it with a Python that has Keras 2")
        if group is None:
            return
        values = [np.array(group[name]) for name in group.attrs["weight_names"]]
    optimizer = keras().optimizers.deserialize(keras().optimizers.serialize(model.optimizer))
    optimizer.build(model.trainable_variables)
    if len(values) != len(optimizer.variables):
        raise Problem(f"{path} has {len(values)} variables of the optimizer, which has {len(optimizer.variables)}")
    optimizer.set_weights(values)
    model.optimizer = optimizer


def load_by_name(model, path):
    """Keras 2 reads the list in the order of the model; it was written in the order of the first gradients."""
    import h5py

    if kind_of(model.optimizer) != "legacy":
        return
    named, ends = by_name(model), {"/iter:0": model.optimizer.iterations}
    for owner in owners(model.optimizer):
        if type(owner).__name__ == "Nadam":
            ends["/momentum_cache:0"] = owner._m_cache
        for slot in owner.get_slot_names():
            for name, variable in named.items():
                if find_slot(owner, variable, slot) is not None:
                    ends[f"/{name}/{slot}:0"] = owner.get_slot(variable, slot)
    with h5py.File(path) as file:
        group = file.get("optimizer_weights")
        names = [] if group is None else [str(name) for name in group.attrs["weight_names"]]
        for name in names:
            own = next((own for end, own in ends.items() if f"/{name}".endswith(end)), None)
            if own is None:
                raise Problem(f"{path} has {name}, and the optimizer that Keras made of it has no such slot. Addons "
                              "does not save amsgrad of NovoGrad: convert a TensorFlow checkpoint, or the live model")
            own.assign(np.array(group[name]))


def read_checkpoint(path):
    """Variables and state of a TensorFlow checkpoint; the objects in it know the names."""
    import tensorflow as tf
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    reader = tf.train.load_checkpoint(str(path))
    graph = TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    nodes = graph.nodes
    children = [{child.local_name: child.node_id for child in node.children} for node in nodes]
    optimizers = [n for n, names in enumerate(children) if "iter" in names or "_iterations" in names]
    if len(optimizers) != 1:
        raise Problem(f"{path} has {len(optimizers)} optimizers; one can be converted")
    optimizer = optimizers[0]

    def values(node):
        attributes = [a for a in nodes[node].attributes if a.name == "VARIABLE_VALUE"]
        return reader.get_tensor(attributes[0].checkpoint_key) if attributes else None

    def name(node):
        return next((a.full_name for a in nodes[node].attributes if a.name == "VARIABLE_VALUE"), None)

    def below(node):
        seen, waiting = set(), [node]
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += children[node].values()
        return seen

    # A legacy optimizer lists the variables of the model beside its slots; a new one has all of its own below it.
    slots = [slot for node in nodes for slot in node.slot_variables]
    own = {slot.slot_variable_node_id for slot in slots} | below(optimizer)
    own -= {slot.original_variable_node_id for slot in slots}
    model, state = {}, {}
    for node in range(len(nodes)):
        if node in own or name(node) is None or node == children[0].get("save_counter"):
            continue
        if name(node) in model:
            raise Problem(f"two variables are called {name(node)!r}: give the layers different names")
        model[name(node)] = values(node)
    if "iter" in children[optimizer]:
        state["iterations"] = values(children[optimizer]["iter"])
        for slot in slots:
            state[f"{name(slot.original_variable_node_id)}/{slot.slot_name}"] = values(slot.slot_variable_node_id)
        for key in [key for key in state if key.endswith("/vhat") and state[key.removesuffix("hat")].ndim == 0]:
            # Addons keeps NovoGrad's number in an array of the variable's shape.
            state[key] = state[key].max()
        for node in (optimizer, children[optimizer].get("lh_base_optimizer", optimizer)):
            if "momentum_cache" in children[node]:
                state["momentum_cache"] = values(children[node]["momentum_cache"])
    else:
        read_new(children, optimizer, values, name, model, state)
    return model, state


def read_new(children, optimizer, values, name, model, state):
    """The state of a new optimizer: its variables are called `Adam/m/dense/kernel`."""
    state["iterations"] = values(children[optimizer]["_iterations"])
    listed = children[children[optimizer]["_variables"]].values()
    found = {}
    for node in listed:
        parts = (name(node) or "").split("/", 2)
        if len(parts) == 3 and parts[1] in ("m", "v", "vhat", "average") and parts[2] in model:
            found[parts[1], parts[2]] = values(node)
    has_v = any(slot == "v" for slot, _ in found)
    for (slot, variable), numbers in found.items():
        state[f"{variable}/{slot if has_v or slot == 'average' else 'momentum'}"] = numbers
    if "_u_product" in children[optimizer]:
        # Keras computes the product wrongly inside `fit`: the reader computes it from the configuration instead.
        print("note: the product of Nadam's momenta is not taken from the checkpoint", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a .keras or .h5 file, or the prefix of a TensorFlow checkpoint")
    parser.add_argument("folder", type=Path, help="where to write model.npz, optimizer.npz and optimizer.json")
    parser.add_argument("--import", dest="modules", action="append", default=[], metavar="MODULE",
                        help="a Python module to import first: one that registers custom classes")
    arguments = parser.parse_args()
    for module in arguments.modules:
        importlib.import_module(module)
    if arguments.source.suffix in (".keras", ".h5", ".hdf5"):
        convert(load(arguments.source), arguments.folder)
    elif arguments.source.with_name(arguments.source.name + ".index").exists():
        write(arguments.folder, *read_checkpoint(arguments.source), None)
    elif arguments.source.is_dir():
        raise Problem(f"{arguments.source} is a folder: of TensorFlow checkpoints, name one without .index; a "
                      "SavedModel loses the optimizer's state, save the model as .h5")
    else:
        raise Problem(f"{arguments.source} is no .keras file, no .h5 file and no prefix of a TensorFlow checkpoint")
    print("wrote", ", ".join(str(path) for path in sorted(arguments.folder.iterdir())))


if __name__ == "__main__":
    run(main)
