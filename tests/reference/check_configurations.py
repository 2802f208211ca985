"""Reads configurations that this library wrote for other libraries, with these libraries themselves.

    cargo run --package tests --bin configurations -- FILE
    python check_configurations.py FILE

Each line of FILE is {"target": "keras3" | "keras2" | "keras_legacy" | "addons", "config": {...}}. Run it once in an
environment with Keras 3, and once in one with Keras 2.15 and TensorFlow Addons: lines for the other one are skipped.
For every line, `keras.optimizers.deserialize` must return an optimizer of the right class and generation, its
`get_config` must agree with every field of the configuration, and it must make a step. Exits with 1 if a line fails.
"""

import collections
import copy
import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

KERAS = tf.keras
IS_KERAS_3 = keras.__version__.startswith("3")
if not IS_KERAS_3:
    import tensorflow_addons

# Keras 2.15 does not find its own AdamW.
UNFOUND = {} if IS_KERAS_3 else {"AdamW": KERAS.optimizers.AdamW}
# Fields that the constructor takes and `get_config` leaves out.
NOT_IN_GET_CONFIG = {"NovoGrad": {"amsgrad", "decay"}, "Nadam": {"schedule_decay"}}
MODULES = {
    "keras3": "keras.src.optimizers.",
    "keras2": "keras.src.optimizers.",
    "keras_legacy": "keras.src.optimizers.legacy.",
    "addons": ("tensorflow_addons.optimizers.", "keras.src.optimizers.legacy."),
}


def main(path):
    checked, failed = collections.Counter(), 0
    with open(path) as file:
        lines = [json.loads(line) for line in file]
    for number, line in enumerate(lines, 1):
        target, config = line["target"], line["config"]
        if (target == "keras3") != IS_KERAS_3:
            continue
        problems = problems_of(target, config)
        checked[target] += 1
        failed += bool(problems)
        for problem in problems:
            print(f"line {number} ({target}): {problem}\n    {json.dumps(config)}")
    print(f"Keras {keras.__version__}: {sum(checked.values())} configurations {dict(checked)}, {failed} failed")
    if failed or not checked:
        sys.exit(1)


def problems_of(target, config):
    try:
        optimizer = KERAS.optimizers.deserialize(copy.deepcopy(config), custom_objects=UNFOUND)
    except Exception as error:  # Whatever the library raises is the finding.
        return [f"is refused: {error!r}"]
    kind = type(optimizer)
    module, class_name = kind.__module__, unprefixed(config["class_name"])
    if kind.__name__ != class_name or not module.startswith(MODULES[target]):
        return [f"becomes {module}.{kind.__name__}"]
    if target == "keras2" and ".legacy." in module:
        return ["becomes a legacy optimizer"]
    problems = list(differences(class_name, config["config"], optimizer.get_config()))
    try:
        variable = tf.Variable([1.0, 2.0])
        optimizer.apply_gradients([(tf.constant([0.5, -0.25]), variable)])
        if not all(abs(value) < 10.0 for value in variable.numpy()):
            problems.append(f"a step leads to {variable.numpy()}")
    except Exception as error:
        problems.append(f"makes no step: {error!r}")
    return problems


def differences(path, expected, found):
    """The fields that the library has read otherwise, by path."""
    if isinstance(expected, dict):
        left_out = NOT_IN_GET_CONFIG.get(path.rsplit(".", 1)[-1], ())
        for key, value in expected.items():
            if key in ("module", "registered_name") or key in left_out and key not in found:
                continue
            if key == "class_name":
                value, there = unprefixed(value), unprefixed(found.get(key))
            elif key not in found:
                yield f"{path}.{key} is lost"
                continue
            else:
                there = found[key]
            inside = expected.get("class_name") if key == "config" else None
            yield from differences(unprefixed(inside) if inside else f"{path}.{key}", value, there)
    elif isinstance(expected, list):
        if len(expected) != len(found):
            yield f"{path}: {expected} became {found}"
        for index, (one, other) in enumerate(zip(expected, found)):
            yield from differences(f"{path}[{index}]", one, other)
    elif isinstance(expected, float):
        # Keras keeps hyperparameters in 32 bits.
        if not abs(expected - float(found)) <= 1e-7 * abs(expected):
            yield f"{path}: {expected} became {found}"
    elif expected != found:
        yield f"{path}: {expected!r} became {found!r}"


def unprefixed(class_name):
    return class_name.rsplit(">", 1)[-1] if class_name else class_name


if __name__ == "__main__":
    main(sys.argv[1])
