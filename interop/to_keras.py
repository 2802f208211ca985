"""Puts a checkpoint of this library back into a model of Keras.

    python interop/to_keras.py checkpoint.safetensors model.h5 resumed.h5

MODEL is a file of Keras with the same architecture, compiled with the same optimizer; usually the one from which the
training started. The result has the variables, the optimizer's state and its learning rate. Legacy and Addons
optimizers need .h5, because a .keras file has no state of theirs.

In a program that has the model, no file is needed:

    from to_keras import restore
    restore(model, "checkpoint.safetensors")
"""

import argparse
import importlib
from pathlib import Path

from checkpoint import Checkpoint, Problem, run
from keras_state import by_name, kind_of, write_model, write_state
from keras_to_npz import load


def restore(model, path, optimizer=None):
    """Gives a live model and its optimizer the numbers of a checkpoint."""
    checkpoint = Checkpoint(path)
    named = by_name(model)
    checkpoint.adopt_names(named)
    write_model(named, checkpoint)
    write_state(optimizer or model.optimizer, model.trainable_variables, named, checkpoint)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of this library")
    parser.add_argument("model", type=Path, help="a .keras or .h5 file with the same model and optimizer")
    parser.add_argument("result", type=Path, help="the .keras or .h5 file to write")
    parser.add_argument("--import", dest="modules", action="append", default=[], metavar="MODULE",
                        help="a Python module to import first: one that registers custom classes")
    arguments = parser.parse_args()
    for module in arguments.modules:
        importlib.import_module(module)
    model = load(arguments.model)
    if model.optimizer is None:
        raise Problem(f"{arguments.model} has no optimizer: compile the model before it is saved")
    if kind_of(model.optimizer) == "legacy" and arguments.result.suffix == ".keras":
        raise Problem("a .keras file has no state of legacy and Addons optimizers: write an .h5 file")
    if kind_of(model.optimizer) == "new" and type(model.optimizer).__name__ == "Nadam":
        raise Problem("no file of Keras 2.15 has the product of Nadam's momenta: call restore(model, checkpoint) in "
                      "the program that goes on training")
    restore(model, arguments.checkpoint)
    model.save(arguments.result)
    print("wrote", arguments.result)


if __name__ == "__main__":
    run(main)
