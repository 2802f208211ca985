"""Records runs that start from a state which Keras, TensorFlow Addons or PyTorch reached, in the format of tests/golden.

    python3.11 -m venv keras2
    keras2/bin/pip install tensorflow-cpu==2.15.1 tensorflow-addons==0.23.0
    keras2/bin/python tests/reference/record_restores.py keras2 tests/golden
    python3 -m venv keras3
    keras3/bin/pip install tensorflow-cpu keras==3.15.1
    keras3/bin/python tests/reference/record_restores.py keras3 tests/golden
    python3 -m venv pytorch
    pytorch/bin/pip install torch==2.15.0
    pytorch/bin/python tests/reference/record_restores.py pytorch tests/golden

A run takes a few steps, and its state is written down: the variables, and `restore`. The same optimizer, in the same
process, then takes the steps that are recorded. Written are restore_keras2.json, restore_keras3.json and
restore_pytorch.json.
"""

import json
import sys
from pathlib import Path

import numpy as np

BEFORE, AFTER = 7, 6
SHAPES = {"kernel": (3, 2), "bias": (3,)}
# Exact in 32 bits, through which Keras passes hyperparameters.
BETAS = {"beta_1": 0.875, "beta_2": 0.9921875}
SMALL = {"epsilon": 0.0009765625, **BETAS}

EXACT = {"rtol": 1e-11, "atol": 1e-13}
# Keras holds the constant 0.96 of Nadam in 32 bits: a step of 0.125 is a millionth off.
NADAM = {"rtol": 1e-6, "atol": 1.25e-7}
# In the legacy Nadam that constant hardly counts: its exponent is 250 times smaller.
NADAM_LEGACY = {"rtol": 1e-8, "atol": 1e-9}
# A schedule is evaluated in 32 bits.
SCHEDULE = {"rtol": 1e-6, "atol": 1e-7}
# A few roundings of 32 bits.
SINGLE = {"rtol": 1e-6, "atol": 5e-7}
# The same, in steps of a length of about 1.
LONG = {"rtol": 1e-6, "atol": 2e-6}


class Problem:
    """Variables, and the gradients of all steps; `late` are variables without gradients before this step."""

    def __init__(self, seed, dtype="float64", shapes=None, late=None, before=BEFORE, after=AFTER):
        rng = np.random.default_rng(seed)
        self.dtype, self.shapes, self.before = dtype, shapes or SHAPES, before
        self.start = {name: rng.normal(size=shape).astype(dtype) for name, shape in self.shapes.items()}
        self.gradients = []
        for step in range(before + after):
            drawn = {name: rng.normal(size=shape).astype(dtype) for name, shape in self.shapes.items()}
            for name, first in (late or {}).items():
                if step < first:
                    drawn[name] = None
            self.gradients.append(drawn)


def flat(array):
    """Numbers for JSON."""
    return np.asarray(array, dtype=np.float64).ravel().tolist()


def shaped(array):
    """A shape, and numbers for JSON."""
    return {"shape": list(np.shape(array)), "value": flat(array)}


def record(name, problem, run, tolerance, rates, note=None, **fields):
    """One recorded run. `run` has an optimizer and its variables; `rates` are learning rates set before some steps."""
    before = problem.before
    for gradients in problem.gradients[:before]:
        run.step(gradients)
    values = run.values()
    variables = [{"name": v, "shape": list(s), "value": flat(values[v])} for v, s in problem.shapes.items()]
    case = {
        "name": name,
        **({"note": note} if note else {}),
        "dtype": problem.dtype,
        "optimizer": run.configuration(),
        **fields,
        "variables": variables,
        "restore": run.state(before),
        "steps": [],
    }
    for number, gradients in enumerate(problem.gradients[before:]):
        step = {}
        if number in rates:
            run.set_learning_rate(rates[number])
            step["set_learning_rate"] = rates[number]
        run.step(gradients)
        step["gradients"] = [None if g is None else {"dense": flat(g)} for g in gradients.values()]
        step["expect"] = {
            "variables": [flat(value) for value in run.values().values()],
            "slots": run.slots(),
            "iterations": before + number + 1,
        }
        case["steps"].append(step)
    case.update(run.end())
    return {**case, **tolerance}


class KerasRun:
    """An optimizer of any generation of Keras, or of Addons, and its variables."""

    def __init__(self, problem, optimizer, variable, tensor, serialize, completed=None):
        self.dtype, self.optimizer, self.tensor, self.serialize = problem.dtype, optimizer, tensor, serialize
        self.completed = completed or {}
        self.variables = {name: variable(value, name) for name, value in problem.start.items()}

    def step(self, gradients):
        pairs = [(None if g is None else self.tensor(g), self.variables[name]) for name, g in gradients.items()]
        self.optimizer.apply_gradients(pairs)

    def set_learning_rate(self, rate):
        self.optimizer.learning_rate = rate

    def values(self):
        return {name: np.array(variable) for name, variable in self.variables.items()}

    def state(self, _iterations):
        weights = getattr(self.optimizer, "get_weights", lambda: [np.array(v) for v in self.optimizer.variables])
        return {"from": "keras", "list": [shaped(weight) for weight in weights()]}

    def slots(self):
        return {}

    def configuration(self):
        config = json.loads(json.dumps(self.serialize(self.optimizer), default=float))
        config["config"].update(self.completed)
        return config

    def end(self):
        if not getattr(self.optimizer, "use_ema", False):
            return {}
        self.optimizer.finalize_variable_values(list(self.variables.values()))
        return {"finalized": [flat(value) for value in self.values().values()]}


def keras2():
    """Both generations of Keras 2.15, and Addons. All steps are eager: Nadam's product is wrong in a `tf.function`."""
    import tensorflow as tf
    import tensorflow_addons as tfa

    new, old, addons = tf.keras.optimizers, tf.keras.optimizers.legacy, tfa.optimizers
    cases = []

    def case(name, optimizer, tolerance=EXACT, rates=None, completed=None, note=None, exclude=None, **options):
        problem = Problem(200 + len(cases), **options)
        fields = {}
        if exclude:
            optimizer.exclude_from_weight_decay(var_names=exclude)
            fields["exclude_from_weight_decay"] = {"var_names": exclude}
        run = KerasRun(
            problem, optimizer, lambda value, name: tf.Variable(value, name=name),
            tf.constant, tf.keras.optimizers.serialize, completed,
        )
        cases.append(record(name, problem, run, tolerance, rates or {}, note, **fields))

    slower = {3: 0.03125}
    case("sgd", new.SGD(0.125), rates=slower, note="the list has momenta, though the momentum is 0")
    case("sgd_momentum", new.SGD(0.125, momentum=0.875), rates=slower)
    case("sgd_nesterov_weight_decay", new.SGD(0.125, momentum=0.875, nesterov=True, weight_decay=0.0625),
         exclude=["bias"])
    case("sgd_ema", new.SGD(0.125, momentum=0.875, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=4))
    case("sgd_global_clipnorm", new.SGD(0.125, momentum=0.875, global_clipnorm=1.0))
    case("sgd_late", new.SGD(0.125, momentum=0.875, use_ema=True, ema_momentum=0.75), late={"bias": BEFORE + 2},
         note="bias has no gradient before the third recorded step")
    case("sgd_schedule", new.SGD(new.schedules.ExponentialDecay(0.125, 4, 0.5), momentum=0.875), SCHEDULE)
    case("sgd_float32", new.SGD(0.125, momentum=0.875, weight_decay=0.0625), SINGLE, dtype="float32")
    case("nadam", new.Nadam(0.125, **SMALL), NADAM, rates=slower,
         note="the product of the momenta is not in the list")
    case("nadam_weight_decay_ema", new.Nadam(0.125, weight_decay=0.0625, use_ema=True, ema_momentum=0.75, **SMALL),
         NADAM)
    case("nadam_late", new.Nadam(0.125, clipnorm=1.0, **SMALL), NADAM, late={"kernel": BEFORE + 2})
    case("nadam_float32", new.Nadam(0.125, **SMALL), SINGLE, dtype="float32")
    case("nadam_float32_beta_2", new.Nadam(1.0, epsilon=SMALL["epsilon"]), LONG, dtype="float32",
         note="beta_2 = 0.999 is rounded to 32 bits; without that the variables are 1e-5 off")
    case("sgd_legacy", old.SGD(0.125), rates=slower)
    case("sgd_legacy_nesterov_decay", old.SGD(0.125, momentum=0.875, nesterov=True, decay=0.25))
    case("sgd_legacy_clips", old.SGD(0.125, momentum=0.875, clipnorm=1.0, clipvalue=0.5))
    case("sgd_legacy_float32", old.SGD(0.125, momentum=0.875), SINGLE, dtype="float32")
    case("nadam_legacy", old.Nadam(0.125, **SMALL), NADAM_LEGACY, rates=slower)
    case("nadam_legacy_clipnorm", old.Nadam(0.125, clipnorm=1.0, **SMALL), NADAM_LEGACY)
    case("radam", addons.RectifiedAdam(0.125, **SMALL), rates=slower, before=3,
         note="the first rectified step is the sixth of the run")
    case("radam_amsgrad", addons.RectifiedAdam(0.125, amsgrad=True, **SMALL))
    case("radam_warmup", addons.RectifiedAdam(0.125, total_steps=12, warmup_proportion=0.75, min_lr=0.03125, **SMALL),
         note="the state is that of the middle of the warm-up")
    case("radam_weight_decay_decay", addons.RectifiedAdam(0.125, weight_decay=0.0625, decay=0.25, **SMALL))
    novograd = {"beta_1": 0.875, "beta_2": 0.75, "epsilon": 0.0009765625}
    # Addons writes neither into its configuration.
    completed = {"amsgrad": False, "decay": 0.0}
    case("novograd", addons.NovoGrad(0.125, **novograd), rates=slower, completed=completed)
    case("novograd_amsgrad", addons.NovoGrad(0.125, amsgrad=True, **novograd), completed={**completed, "amsgrad": True})
    case("novograd_grad_averaging_weight_decay",
         addons.NovoGrad(0.125, grad_averaging=True, weight_decay=0.0625, **novograd), completed=completed)
    case("novograd_float32", addons.NovoGrad(0.125, **novograd), SINGLE, completed=completed, dtype="float32")
    case("lookahead_sgd", addons.Lookahead(old.SGD(0.125, momentum=0.875), 5, 0.5))
    case("lookahead_radam", addons.Lookahead(addons.RectifiedAdam(0.125, **SMALL), 4, 0.25))
    case("lookahead_nadam", addons.Lookahead(old.Nadam(0.125, **SMALL), 4, 0.5), NADAM_LEGACY)
    # The configuration of the inner optimizer lacks them, too.
    case("lookahead_novograd", addons.Lookahead(addons.NovoGrad(0.125, **novograd), 3, 0.5))
    cases[-1]["optimizer"]["config"]["optimizer"]["config"].update(completed)
    case("adam", new.Adam(0.125, **SMALL), rates=slower)
    case("adam_amsgrad", new.Adam(0.125, amsgrad=True, **SMALL), shapes={"a": (2,), "b": (2,)},
         note="the list has vhat after the moments of all variables")
    case("adam_weight_decay_ema", new.Adam(0.125, weight_decay=0.0625, use_ema=True, ema_momentum=0.75, **SMALL))
    case("adam_late", new.Adam(0.125, clipnorm=1.0, **SMALL), late={"kernel": BEFORE + 2})
    case("adam_float32", new.Adam(0.125, amsgrad=True, **SMALL), SINGLE, dtype="float32")
    case("adam_float32_beta_2", new.Adam(1.0, epsilon=SMALL["epsilon"]), LONG, dtype="float32",
         note="beta_2 = 0.999 is rounded to 32 bits in beta_2^t alone")
    case("adamw", new.AdamW(0.125, **SMALL), rates=slower, exclude=["bias"], note="weight decay has its default")
    case("adamw_amsgrad_ema", new.AdamW(0.125, weight_decay=0.0625, amsgrad=True, use_ema=True, ema_momentum=0.75,
                                        ema_overwrite_frequency=4, **SMALL))
    case("adamw_float32", new.AdamW(0.125, **SMALL), SINGLE, dtype="float32")
    case("adam_legacy", old.Adam(0.125, **SMALL), rates=slower)
    case("adam_legacy_amsgrad_decay", old.Adam(0.125, amsgrad=True, decay=0.25, **SMALL))
    case("adam_legacy_clipnorm", old.Adam(0.125, clipnorm=1.0, **SMALL))
    case("adam_legacy_float32_beta_2", old.Adam(1.0, epsilon=SMALL["epsilon"]), LONG, dtype="float32")
    case("lookahead_adam", addons.Lookahead(old.Adam(0.125, amsgrad=True, **SMALL), 4, 0.5))
    return {"tensorflow": tf.__version__, "tensorflow-addons": tfa.__version__}, cases


def keras3():
    """Keras 3. Its list has the learning rate after `iterations`, unless that is a schedule."""
    import keras

    new, cases = keras.optimizers, []

    def case(name, optimizer, tolerance=EXACT, rates=None, note=None, exclude=None, **options):
        problem = Problem(300 + len(cases), **options)
        fields = {}
        if exclude:
            optimizer.exclude_from_weight_decay(var_names=exclude)
            fields["exclude_from_weight_decay"] = {"var_names": exclude}
        keras.config.set_floatx(problem.dtype)
        run = KerasRun(
            problem, optimizer, lambda value, name: keras.Variable(value, name=name, dtype=problem.dtype),
            keras.ops.convert_to_tensor, new.serialize,
        )
        cases.append(record(name, problem, run, tolerance, rates or {}, note, **fields))

    slower = {3: 0.03125}
    case("sgd", new.SGD(0.125), rates=slower)
    case("sgd_momentum", new.SGD(0.125, momentum=0.875), rates=slower)
    case("sgd_nesterov_weight_decay", new.SGD(0.125, momentum=0.875, nesterov=True, weight_decay=0.0625),
         exclude=["bias"])
    case("sgd_ema", new.SGD(0.125, momentum=0.875, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=4))
    case("sgd_late_ema", new.SGD(0.125, momentum=0.875, use_ema=True, ema_momentum=0.75), late={"bias": BEFORE + 2},
         note="bias has no gradient before the third recorded step")
    case("sgd_schedule", new.SGD(new.schedules.ExponentialDecay(0.125, 4, 0.5), momentum=0.875), SCHEDULE,
         note="the list has no learning rate")
    case("sgd_float32", new.SGD(0.125, momentum=0.875), SINGLE, dtype="float32")
    case("nadam", new.Nadam(0.125, **SMALL), NADAM, rates=slower)
    case("nadam_scalars", new.Nadam(0.125, **SMALL), NADAM, shapes={"a": (), "b": ()},
         note="all arrays of the list have the same shape")
    case("nadam_weight_decay_ema", new.Nadam(0.125, weight_decay=0.0625, use_ema=True, ema_momentum=0.75, **SMALL),
         NADAM)
    case("nadam_late", new.Nadam(0.125, global_clipnorm=1.0, **SMALL), NADAM, late={"kernel": BEFORE + 2})
    case("nadam_float32", new.Nadam(0.125, **SMALL), SINGLE, dtype="float32")
    case("nadam_float32_beta_2", new.Nadam(1.0, epsilon=SMALL["epsilon"]), LONG, dtype="float32",
         note="beta_2 = 0.999 is rounded to 32 bits; without that the variables are 1e-5 off")
    case("adam", new.Adam(0.125, **SMALL), rates=slower)
    case("adam_amsgrad_scalars", new.Adam(0.125, amsgrad=True, **SMALL), shapes={"a": (), "b": ()},
         note="all arrays of the list have the same shape")
    case("adam_weight_decay_ema", new.Adam(0.125, weight_decay=0.0625, use_ema=True, ema_momentum=0.75, **SMALL))
    case("adam_late", new.Adam(0.125, global_clipnorm=1.0, **SMALL), late={"kernel": BEFORE + 2})
    case("adam_float32_beta_2", new.Adam(1.0, epsilon=SMALL["epsilon"]), LONG, dtype="float32")
    case("adamw", new.AdamW(0.125, **SMALL), rates=slower, exclude=["bias"], note="weight decay has its default")
    case("adamw_amsgrad_ema", new.AdamW(0.125, weight_decay=0.0625, amsgrad=True, use_ema=True, ema_momentum=0.75,
                                        **SMALL))
    case("adamw_float32", new.AdamW(0.125, amsgrad=True, **SMALL), SINGLE, dtype="float32")
    return {"keras": keras.__version__, "backend": keras.backend.backend()}, cases


class TorchRun:
    """An optimizer of PyTorch, and its parameters."""

    KEYS = {"momentum_buffer": "momentum", "exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "vhat"}

    def __init__(self, torch, problem, make, configuration):
        self.torch, self.config = torch, configuration
        self.parameters = {name: torch.tensor(value, requires_grad=True) for name, value in problem.start.items()}
        self.optimizer = make(list(self.parameters.values()))

    def step(self, gradients):
        for name, parameter in self.parameters.items():
            parameter.grad = None if gradients[name] is None else self.torch.tensor(gradients[name])
        self.optimizer.step()

    def set_learning_rate(self, rate):
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def values(self):
        return {name: parameter.detach().numpy().copy() for name, parameter in self.parameters.items()}

    def state(self, iterations):
        tensors = {
            f"state.{index}.{key}": shaped(value)
            for index, entries in self.optimizer.state_dict()["state"].items()
            for key, value in entries.items()
            if value is not None
        }
        return {"from": "pytorch", "iterations": iterations, "tensors": tensors}

    def slots(self):
        kept = {}
        for name, parameter in self.parameters.items():
            entries = self.optimizer.state.get(parameter, {})
            kept[name] = {ours: flat(entries[key]) for key, ours in self.KEYS.items() if entries.get(key) is not None}
        return kept

    def configuration(self):
        return self.config

    def end(self):
        return {}


def pytorch():
    """PyTorch. It counts the steps of each parameter; a parameter without a gradient has no state."""
    import torch

    cases = []
    common = {"beta_1": 0.875, "beta_2": 0.9921875}

    def case(name, kind, options, config, tolerance=EXACT, rates=None, note=None, **problem):
        problem = Problem(400 + len(cases), **problem)
        # PyTorch keeps its counters and products in this type.
        torch.set_default_dtype(getattr(torch, problem.dtype))
        class_name = {"NAdam": "Nadam", "RAdam": "RectifiedAdam"}.get(kind, kind)
        fields = {"learning_rate": 0.125, "dialect": "pytorch", **config}
        configuration = {"class_name": class_name, "config": fields}
        make = getattr(torch.optim, kind)
        run = TorchRun(torch, problem, lambda parameters: make(parameters, lr=0.125, **options), configuration)
        cases.append(record(name, problem, run, tolerance, rates or {}, note))

    def sgd(name, ours=None, **options):
        """`ours` are arguments of `case`."""
        case(name, "SGD", options, options, **(ours or {}))

    def adam(name, kind, ours=None, eps=0.0009765625, **options):
        decay = {"momentum_decay": options.get("momentum_decay", 0.004)} if kind == "NAdam" else {}
        config = {**common, "epsilon": eps, **decay, **options}
        case(name, kind, {"betas": (0.875, 0.9921875), "eps": eps, **options}, config, **(ours or {}))

    slower = {"rates": {3: 0.03125}}
    late = {"late": {"bias": 4}, "note": "the first gradient of bias came four steps later"}
    never = {"late": {"bias": BEFORE + 2}, "note": "bias has no gradient before the third recorded step"}
    single = {"dtype": "float32", "tolerance": SINGLE}
    sgd("sgd", slower)
    sgd("sgd_momentum", slower, momentum=0.875)
    sgd("sgd_dampening", momentum=0.875, dampening=0.25)
    sgd("sgd_nesterov", slower, momentum=0.875, nesterov=True)
    sgd("sgd_weight_decay", weight_decay=0.0625)
    sgd("sgd_momentum_weight_decay", slower, momentum=0.875, weight_decay=0.0625)
    sgd("sgd_dampening_never", never, momentum=0.875, dampening=0.25)
    sgd("sgd_float32", single, momentum=0.875, nesterov=True, weight_decay=0.0625)
    adam("nadam", "NAdam", slower)
    adam("nadam_momentum_decay", "NAdam", momentum_decay=0.25)
    adam("nadam_weight_decay", "NAdam", slower, weight_decay=0.0625)
    adam("nadam_decoupled_weight_decay", "NAdam", slower, weight_decay=0.0625, decoupled_weight_decay=True)
    adam("nadam_late", "NAdam", late, weight_decay=0.0625)
    adam("nadam_never", "NAdam", never)
    adam("nadam_float32", "NAdam", {**single, **late})
    strict = {"before": 3, "note": "the first rectified step is the sixth of the run"}
    adam("radam", "RAdam", {**slower, **strict})
    adam("radam_weight_decay", "RAdam", slower, weight_decay=0.0625)
    adam("radam_decoupled_weight_decay", "RAdam", slower, weight_decay=0.0625, decoupled_weight_decay=True)
    adam("radam_late", "RAdam", late, weight_decay=0.0625)
    adam("radam_never", "RAdam", never)
    adam("radam_float32", "RAdam", {**single, **late})
    adam("adam", "Adam", slower)
    adam("adam_amsgrad", "Adam", slower, amsgrad=True)
    adam("adam_weight_decay", "Adam", slower, weight_decay=0.0625)
    adam("adam_decoupled_weight_decay", "Adam", slower, weight_decay=0.0625, decoupled_weight_decay=True)
    adam("adam_late", "Adam", late, weight_decay=0.0625, amsgrad=True)
    adam("adam_never", "Adam", never)
    adam("adam_float32", "Adam", {**single, **late})
    adam("adamw", "AdamW", {**slower, "note": "weight decay has its default"})
    adam("adamw_amsgrad", "AdamW", slower, weight_decay=0.0625, amsgrad=True)
    adam("adamw_late", "AdamW", late, weight_decay=0.0625)
    adam("adamw_float32", "AdamW", {**single, **never}, weight_decay=0.0625)
    return {"torch": torch.__version__.split("+")[0]}, cases


def main(system, folder):
    oracle, cases = {"keras2": keras2, "keras3": keras3, "pytorch": pytorch}[system]()
    path = Path(folder) / f"restore_{system}.json"
    path.write_text(json.dumps({"format": 1, "oracle": oracle, "cases": cases}) + "\n")
    print("wrote", len(cases), "cases to", path)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
