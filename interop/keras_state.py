"""The state of Keras's optimizers by this library's names: `iterations`, `momentum_cache`, `VARIABLE/SLOT`.

Three kinds of optimizers are known: those of Keras 3, those of Keras 2.11 to 2.15 ("new"), and legacy optimizers, among
them all of TensorFlow Addons.
"""

import json

import numpy as np
from checkpoint import Problem

# Slots here, and the attributes with a list of them.
LISTS = {
    "SGD": {"momentum": "momentums"},
    "Adam": {"m": "_momentums", "v": "_velocities", "vhat": "_velocity_hats"},
    "AdamW": {"m": "_momentums", "v": "_velocities", "vhat": "_velocity_hats"},
    "Nadam": {"m": "_momentums", "v": "_velocities"},
}
LEGACY = ["SGD", "Adam", "Nadam", "RectifiedAdam", "NovoGrad", "Lookahead"]


def kind_of(optimizer):
    if hasattr(optimizer, "get_slot"):
        return "legacy"
    return "keras3" if hasattr(optimizer, "_trainable_variables") else "new"


def class_of(optimizer):
    """The class, if it is one that this library has."""
    name = type(optimizer).__name__
    known = LEGACY if kind_of(optimizer) == "legacy" else LISTS
    if name not in known:
        raise Problem(f"{name} has no counterpart here; known are {', '.join(known)}")
    return name


def by_name(model):
    """The variables of a model by name: `dense/kernel`. State is stored by name, so equal names are refused."""
    named = {}
    for name, variable in pairs(model):
        if name in named and named[name] is not variable:
            raise Problem(f"two variables are called {name!r}: give the layers different names")
        if "float" in str(variable.dtype):
            named[name] = variable
    return named


def pairs(model):
    """Names and variables. In Keras 3 a path changes when the model is saved and loaded: names of layers do not."""
    if not hasattr(model, "_trainable_weights"):
        return walk(model, "")
    return [(variable.name.split(":")[0], variable) for variable in model.variables]


def walk(layer, prefix):
    """The variables of a layer, and of the layers inside."""
    for variable in [*layer._trainable_variables, *layer._non_trainable_variables]:
        yield prefix + variable.name, variable
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        yield from walk(inner, f"{prefix}{inner.name}/")


def read_model(named):
    """The values of variables."""
    return {name: np.array(variable) for name, variable in named.items()}


def read_state(optimizer, named):
    """The state by name. `named` are the variables; those for which there is no state yet are left out."""
    if getattr(optimizer, "gradient_accumulation_steps", None):
        raise Problem("gradient_accumulation_steps has no counterpart here")
    kind, name = kind_of(optimizer), class_of(optimizer)
    state = {"iterations": np.array(int(optimizer.iterations), dtype=np.int64)}
    if state["iterations"] == 0:
        raise Problem("the optimizer has no state: it took no step, or Keras has not loaded its state. A .keras file "
                      "and a SavedModel have none of legacy and Addons optimizers: save the model as .h5")
    if kind == "legacy":
        read_legacy(optimizer, named, state)
    else:
        read_new(optimizer, kind, name, named, state)
    return state


def read_new(optimizer, kind, name, named, state):
    for slot, attribute in slots_of(optimizer, name).items():
        for variable, index in indices(optimizer, kind, named):
            state[f"{variable}/{slot}"] = np.array(getattr(optimizer, attribute)[index])
    if name == "Nadam":
        # Keras 2.15 neither saves the product, nor computes it correctly inside `fit`; Keras 3 does both.
        product = optimizer._u_product if kind == "keras3" else momentum_product(optimizer)
        state["momentum_cache"] = np.array(product)


def indices(optimizer, kind, named):
    """The variables that the optimizer knows, with their places in its lists."""
    known = optimizer._trainable_variables_indices if kind == "keras3" else optimizer._index_dict
    places = {name: known.get(optimizer._var_key(variable)) for name, variable in named.items()}
    places = {name: place for name, place in places.items() if place is not None}
    if len(places) != len(known):
        raise Problem(f"the optimizer knows {len(known)} variables, {len(places)} of them are the model's")
    return places.items()


def slots_of(optimizer, name):
    """The slots in use, with their attributes."""
    slots = dict(LISTS[name])
    if name == "SGD" and not optimizer.momentum:
        slots = {}
    if "vhat" in slots and not optimizer.amsgrad:
        del slots["vhat"]
    if optimizer.use_ema:
        slots["average"] = "_model_variables_moving_average"
    return slots


def momentum_product(optimizer):
    """The product of the momenta of all steps, as each step of Nadam should have multiplied it."""
    steps = np.arange(1, int(optimizer.iterations) + 1)
    return np.prod(optimizer.beta_1 * (1.0 - 0.5 * 0.96**steps))


def read_legacy(optimizer, named, state):
    for owner in owners(optimizer):
        for slot in owner.get_slot_names():
            for variable, values in named.items():
                slot_values = find_slot(owner, values, slot)
                if slot_values is not None:
                    state[f"{variable}/{slot}"] = slot_values
        if type(owner).__name__ == "Nadam":
            state["momentum_cache"] = np.array(owner._m_cache)


def owners(optimizer):
    """The optimizers that have slots: a Lookahead and the one inside."""
    if type(optimizer).__name__ != "Lookahead":
        return [optimizer]
    class_of(optimizer._optimizer)
    return [optimizer, optimizer._optimizer]


def find_slot(owner, variable, slot):
    """The values of a slot; none for a variable that has had no gradient yet."""
    try:
        values = np.array(owner.get_slot(variable, slot))
    except KeyError:
        return None
    # Addons keeps this number in an array of the variable's shape.
    return values.max() if type(owner).__name__ == "NovoGrad" and slot == "vhat" else values


def read_configuration(optimizer, serialize):
    """The configuration, completed by what Keras leaves out of it."""
    config = json.loads(json.dumps(serialize(optimizer), default=plain))
    complete(optimizer, config)
    patterns = list(getattr(optimizer, "_exclude_from_weight_decay_names", None) or [])
    joined = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    if patterns or joined:
        config["config"]["exclude_from_weight_decay"] = {"var_names": patterns or [joined.pattern]}
    if getattr(optimizer, "_exclude_from_weight_decay", None):
        raise Problem("variables were excluded from weight decay as objects (var_list): use names (var_names)")
    return config


def complete(optimizer, config):
    if type(optimizer).__name__ == "NovoGrad":
        config["config"].setdefault("amsgrad", bool(optimizer.amsgrad))
        config["config"].setdefault("decay", float(optimizer._initial_decay))
    if type(optimizer).__name__ == "Lookahead":
        complete(optimizer._optimizer, config["config"]["optimizer"])


def plain(value):
    """A NumPy scalar, or a number in a variable, as Python's."""
    return np.asarray(value).item()


def write_model(named, checkpoint):
    """Assigns the values of the checkpoint to variables. Variables that it does not have stay unchanged."""
    check_names(checkpoint, named)
    for name, values in checkpoint.variables.items():
        if tuple(named[name].shape) != values.shape:
            raise Problem(f"{name} has shape {values.shape} in the checkpoint, {tuple(named[name].shape)} in the model")
        named[name].assign(values)


def check_names(checkpoint, named):
    strangers = [name for name in checkpoint.variables if name not in named]
    if strangers:
        raise Problem(f"the model has no variable {', '.join(strangers)}; it has {', '.join(named)}")


def write_state(optimizer, trainable, named, checkpoint):
    """Gives an optimizer the state of the checkpoint, after the values of the variables. It may have state already."""
    kind, name = kind_of(optimizer), class_of(optimizer)
    found = (checkpoint.config or {}).get("class_name", name).split(">")[-1]
    if found != name:
        raise Problem(f"the checkpoint is one of {found}, the optimizer is {name}")
    if kind == "legacy":
        write_legacy(optimizer, name, trainable, named, checkpoint)
    else:
        optimizer.build(list(trainable))
        write_new(optimizer, kind, name, named, checkpoint)
    rate = checkpoint.hyperparameters().get("learning_rate")
    if isinstance(rate, (int, float)):
        optimizer.learning_rate = float(rate)


def write_new(optimizer, kind, name, named, checkpoint):
    (optimizer._iterations if kind == "keras3" else optimizer.iterations).assign(checkpoint.iterations)
    for slot, attribute in slots_of(optimizer, name).items():
        for variable, index in indices(optimizer, kind, named):
            own, values = getattr(optimizer, attribute)[index], checkpoint.slot(variable, slot)
            # A variable without a step: its average is its value, everything else is 0.
            fresh = np.array(named[variable]) if slot == "average" else np.zeros(tuple(own.shape))
            own.assign(fresh if values is None else values)
    if name == "Nadam":
        optimizer._u_product.assign(checkpoint.state["momentum_cache"])
        if kind == "new":
            # Otherwise the next step would not multiply it, or multiply it once more.
            optimizer._u_product_counter = checkpoint.iterations + 1


def write_legacy(optimizer, name, trainable, named, checkpoint):
    optimizer.iterations.assign(checkpoint.iterations)
    if name == "Lookahead":
        optimizer._optimizer._iterations = optimizer.iterations
    # An .h5 file lists the state in this order, and Keras reads it in the order of the model.
    optimizer._create_all_weights(list(trainable))
    for owner in owners(optimizer):
        for slot in owner.get_slot_names():
            for variable, model_variable in named.items():
                values = checkpoint.slot(variable, slot)
                if values is not None:
                    own = owner.get_slot(model_variable, slot)
                    own.assign(np.broadcast_to(values, tuple(own.shape)))
        if type(owner).__name__ == "Nadam":
            owner._m_cache.assign(checkpoint.state["momentum_cache"])
