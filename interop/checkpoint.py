"""Reads the checkpoints of this library with nothing but NumPy.

A checkpoint is a safetensors file with one key of metadata, `opt-checkpoint`: JSON with the configuration, the names of
the variables and more. The numbers have the names that `Optimizer::weights` gives them.
"""

import json
from pathlib import Path

import numpy as np

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "U64": "<u8", "I64": "<i8"}


class Problem(Exception):
    """What is wrong with what the user gave, in one sentence."""


class Checkpoint:
    """The variables, the state of the optimizer, and its configuration."""

    def __init__(self, path):
        path = Path(path)
        if path.is_dir():
            raise Problem(f"{path} is the checkpoint of several ranks: load it and save it again on one")
        tensors, metadata = read_safetensors(path)
        if "opt-checkpoint" not in metadata:
            raise Problem(f"{path} is no checkpoint of this library: its metadata has no key \"opt-checkpoint\"")
        manifest = json.loads(metadata["opt-checkpoint"])
        if manifest["format"] > 1:
            raise Problem(f"{path} has format {manifest['format']}, this script reads format 1")
        if manifest.get("layouts") or manifest.get("sharded"):
            raise Problem(f"{path} is a part of the checkpoint of several ranks: load all and save it again on one")
        if manifest["contents"] != "raw":
            raise Problem(f"{path} has {manifest['contents']} weights and no state: no training can resume from it")
        self.path, self.config = path, manifest["config"]
        self.variables = {name: tensors.pop(name) for name in manifest["variables"]}
        self.tracked = manifest["tracked"]
        self.iterations = int(tensors.pop("iterations"))
        self.state = tensors

    def slot(self, variable, slot):
        """A slot of a variable; none if the optimizer has not seen the variable, or has no such slot."""
        return self.state.get(f"{variable}/{slot}")

    def adopt_names(self, known):
        """Takes the names of the other side where they differ only in dots, of paths of fields, and slashes, of layers."""
        for name in list(self.variables):
            others = [other for other in (name.replace(".", "/"), name.replace("/", ".")) if other in known]
            if name not in known and others and others[0] not in self.variables:
                self.rename(name, others[0])

    def rename(self, name, new):
        self.variables = {new if key == name else key: value for key, value in self.variables.items()}
        self.tracked = [new if key == name else key for key in self.tracked]
        renamed = lambda key: f"{new}/{key.rpartition('/')[2]}" if key.rpartition("/")[0] == name else key
        self.state = {renamed(key): value for key, value in self.state.items()}

    def hyperparameters(self):
        """The fields of the configuration; those of the inner rule under a Lookahead."""
        fields = (self.config or {}).get("config", {})
        return fields["optimizer"]["config"] if "optimizer" in fields else fields


def read_safetensors(path):
    """The tensors and the metadata of a file. Numbers in bfloat16 are widened to 32 bits."""
    try:
        data = Path(path).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        start = 8 + length
        metadata = header.pop("__metadata__", {})
        return {name: tensor(data[start:], **info) for name, info in header.items()}, metadata
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Problem(f"{path} is no safetensors file") from None


def tensor(data, dtype, shape, data_offsets):
    numbers = np.frombuffer(data[slice(*data_offsets)], dtype=TYPES[dtype]).reshape(shape)
    return (numbers.astype("<u4") << 16).view("<f4") if dtype == "BF16" else numbers.copy()


def run(main):
    """Runs a script. A problem of the user's is one line."""
    try:
        main()
    except Problem as problem:
        raise SystemExit(f"error: {problem}") from None
