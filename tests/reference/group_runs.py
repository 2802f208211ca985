"""Runs of PyTorch and optax with groups of parameters, accumulated gradients and scaled losses, for record_groups.py.

PyTorch computes the gradients itself, from a loss that is linear in the parameters: so parameters that are frozen,
losses that are divided and losses that are scaled are what they are in a real program.
"""

import math
import zlib
from typing import Any, NamedTuple

# Sets both libraries to 64 bits, and so has to come first.
import record_dialects  # noqa: F401

import jax.numpy as jnp
import numpy as np
import optax
import torch
from record_restores import EXACT, flat

STEPS = 10
SHAPES = {
    "embedding.weight": (3, 2),
    "backbone.weight": (2, 3),
    "backbone.norm": (3,),
    "head.weight": (3, 2),
    "head.bias": (2,),
}
# The factor of long gradients. PyTorch clips a norm by the factor `limit / (norm + 1e-6)`. In cases that have to be
# exact, gradients are either too short to be clipped, or so long that the 1e-6 does not show.
LONG = 2.0**30


class Problem:
    """Variables, and gradients for each step.

    `long` names the variables whose gradients are long, step by step; `missing` the steps without a gradient, variable
    by variable; `bad` an element that is not finite, step by step.
    """

    def __init__(self, seed, steps=STEPS, scale=1.0, long=None, missing=None, bad=None):
        rng = np.random.default_rng(seed)
        self.start = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
        self.gradients = []
        for step in range(steps):
            drawn = {name: scale * rng.normal(size=shape) for name, shape in SHAPES.items()}
            for name in (long or {}).get(step, ()):
                drawn[name] *= LONG
            for name, value in (bad or {}).get(step, {}).items():
                drawn[name].flat[-1] = value
            for name, steps_without in (missing or {}).items():
                if step in steps_without:
                    drawn[name] = None
            self.gradients.append(drawn)


class Group(NamedTuple):
    """Some variables: `theirs` are options of PyTorch's group or a transformation of optax, `ours` are our options."""

    name: str
    pattern: str
    members: list[str]
    theirs: Any
    ours: dict


def norms(theirs, **ours):
    return Group("norms", "bias$|norm", ["backbone.norm", "head.bias"], theirs, ours)


def backbone(theirs, **ours):
    return Group("backbone", "^backbone\\.", ["backbone.weight", "backbone.norm"], theirs, ours)


def head(theirs, **ours):
    return Group("head", "^head\\.", ["head.weight", "head.bias"], theirs, ours)


def embedding(theirs, **ours):
    return Group("embedding", "^embedding\\.", ["embedding.weight"], theirs, ours)


def settled(groups):
    """The groups with the members that no group before them has."""
    taken, result = set(), []
    for group in groups:
        result.append(group._replace(members=[name for name in group.members if name not in taken]))
        taken.update(group.members)
    return result


def problem_of(name):
    return Problem(zlib.crc32(name.encode()))


def numbers(array):
    """Numbers for JSON, which has neither infinity nor NaN."""
    return [x if math.isfinite(x) else str(x) for x in flat(array)]


def variables(start):
    return [{"name": v, "shape": list(s), "value": flat(start[v])} for v, s in SHAPES.items()]


def engine_fields(groups, more):
    """The fields of the optimizer beside those of its rule."""
    listed = [{"name": group.name, "pattern": group.pattern, **group.ours} for group in groups]
    return {**more, **({"groups": listed} if listed else {})}


def torch_config(kind, options):
    """Our configuration of a PyTorch optimizer."""
    class_name = {"NAdam": "Nadam", "RAdam": "RectifiedAdam"}.get(kind, kind)
    config = {"dialect": "pytorch"}
    for key, value in options.items():
        if key == "betas":
            config["beta_1"], config["beta_2"] = value
        else:
            config[{"lr": "learning_rate", "eps": "epsilon"}.get(key, key)] = value
    return {"class_name": class_name, "config": config}


def torch_rule(kind, options, **changed):
    """The options of a PyTorch group that needs a rule of its own here, and its fields here."""
    rule = torch_config(kind, {**options, **changed})
    is_decoupled = kind == "AdamW" or rule["config"].pop("decoupled_weight_decay", False)
    decay = {"weight_decay": rule["config"].pop("weight_decay")} if is_decoupled else {}
    return changed, {"rule": rule, **decay}


def own(kind, group, options, **changed):
    """A group whose options need a rule of its own."""
    theirs, ours = torch_rule(kind, options, **changed)
    return group(theirs, **ours)


class TorchRun:
    """An optimizer of PyTorch with its parameters."""

    SLOTS = {
        "momentum_buffer": "momentum", "exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "vhat", "step": "step",
        "mu_product": "momentum_cache",
    }

    def __init__(self, start, kind, options, groups):
        self.parameters = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
        self.members = {group.name: group.members for group in groups}
        grouped = sum(self.members.values(), [])
        rest = [name for name in SHAPES if name not in grouped]
        listed = [{"params": [self.parameters[name] for name in rest]}]
        listed += [{"params": self.of(group.name), **group.theirs} for group in groups]
        self.optimizer = getattr(torch.optim, kind)(listed, **options)
        self.settings = dict(zip([None, *self.members], self.optimizer.param_groups))
        # The groups whose learning rate is a multiple of that of the optimizer.
        self.scales = {
            group.name: group.ours.get("learning_rate_scale", 1.0)
            for group in groups if not {"rule", "learning_rate"} & group.ours.keys()
        }
        self.freeze([group.name for group in groups if group.ours.get("frozen")])
        self.applied = 0
        self.optimizer.register_step_post_hook(self.count)

    def of(self, group):
        return [self.parameters[name] for name in self.members[group]]

    def count(self, *_):
        self.applied += 1

    def freeze(self, groups, freeze=True):
        for group in groups:
            for parameter in self.of(group):
                parameter.requires_grad_(not freeze)

    def change(self, changes):
        """What the fields of a step ask for."""
        if (rate := changes.get("set_learning_rate")) is not None:
            self.settings[None]["lr"] = rate
            for group, scale in self.scales.items():
                self.settings[group]["lr"] = scale * rate
        for group, rate in changes.get("set_group_learning_rate", {}).items():
            self.settings[group]["lr"] = rate
        self.freeze(changes.get("freeze", []))
        self.freeze(changes.get("unfreeze", []), freeze=False)

    def backward(self, gradients, divisor, scaler):
        losses = [
            (parameter * torch.tensor(gradients[name])).sum()
            for name, parameter in self.parameters.items()
            if parameter.requires_grad and gradients[name] is not None
        ]
        if losses:
            loss = sum(losses) / divisor
            (scaler.scale(loss) if scaler else loss).backward()

    def step(self, clip, scaler):
        if scaler is None:
            clip(self)
            self.optimizer.step()
        else:
            scaler.unscale_(self.optimizer)
            clip(self)
            scaler.step(self.optimizer)
            scaler.update()
        self.optimizer.zero_grad()

    def values(self):
        return [flat(parameter.detach().numpy()) for parameter in self.parameters.values()]

    def slots(self):
        kept = {}
        for name, parameter in self.parameters.items():
            state = self.optimizer.state.get(parameter, {})
            kept[name] = {ours: flat(state[key]) for key, ours in self.SLOTS.items() if state.get(key) is not None}
        return {name: slots for name, slots in kept.items() if slots}


class Lambdas:
    """PyTorch's `LambdaLR`, with a function for each group; None is the default one."""

    def __init__(self, run, functions):
        self.settings = run.settings
        self.schedule = torch.optim.lr_scheduler.LambdaLR(run.optimizer, [functions[name] for name in run.settings])
        self.last = self.rates()

    def rates(self):
        return {name: settings["lr"] for name, settings in self.settings.items()}

    def step(self):
        """The rates that change, as fields of the next step."""
        self.schedule.step()
        changed = {name: rate for name, rate in self.rates().items() if rate != self.last[name]}
        self.last = self.rates()
        default = changed.pop(None, None)
        return {
            **({} if default is None else {"set_learning_rate": default}),
            **({"set_group_learning_rate": changed} if changed else {}),
        }


def torch_case(
    name, kind, options, groups=(), problem=None, changes=None, lambdas=None, clip=None, accumulate=None, scaler=None,
    note=None, tolerance=EXACT, **engine,
):
    """One recorded run of PyTorch. `engine` are fields of our optimizer beside those of its rule."""
    problem, groups = problem or problem_of(name), settled(groups)
    run = TorchRun(problem.start, kind, options, groups)
    schedule = Lambdas(run, lambdas) if lambdas else None
    window = accumulate["steps"] if accumulate else 1
    divisor = window if accumulate and accumulate["reduction"] == "mean" else 1
    engine = {**engine, **({"accumulate": accumulate} if accumulate else {})}
    recorded, scheduled = [], {}
    for number, gradients in enumerate(problem.gradients):
        step = {**(changes or {}).get(number, {}), **scheduled}
        run.change(step)
        scale = scaler.get_scale() if scaler else 1.0
        run.backward(gradients, divisor, scaler)
        is_last = (number + 1) % window == 0
        if is_last:
            run.step(clip or (lambda _: None), scaler)
        scheduled = schedule.step() if schedule and is_last else {}
        given = [None if g is None else {"dense": numbers(scale * g)} for g in gradients.values()]
        expect = {"variables": run.values(), "iterations": run.applied}
        if scaler:
            expect["loss_scale"] = scaler.get_scale()
        if number + 1 == len(problem.gradients):
            expect["slots"] = run.slots()
        recorded.append({**step, "gradients": given, "expect": expect})
    optimizer = torch_config(kind, options)
    optimizer["config"].update(engine_fields(groups, engine))
    return case(name, "pytorch", optimizer, problem, recorded, note, tolerance)


def optax_config(class_name, learning_rate, **fields):
    """Our configuration of an optax transformation."""
    return {"class_name": class_name, "config": {"dialect": "optax", "learning_rate": learning_rate, **fields}}


def optax_case(name, make, optimizer, groups=(), problem=None, accumulate=None, note=None, **engine):
    """One recorded run of optax. `make` makes the transformation from one that treats each group in its own way."""
    problem, groups = problem or problem_of(name), settled(groups)
    labels = {member: group.name for group in groups for member in group.members}
    transformation = make(
        lambda rest: optax.multi_transform(
            {"rest": rest, **{group.name: group.theirs for group in groups}},
            {variable: labels.get(variable, "rest") for variable in SHAPES},
        )
    )
    if accumulate:
        # The accumulator has 32 bits by default.
        transformation = optax.MultiSteps(
            transformation, accumulate["steps"], use_grad_mean=accumulate["reduction"] == "mean",
            accumulator_dtype=jnp.float64,
        )
        engine["accumulate"] = accumulate
    values = {variable: jnp.asarray(value) for variable, value in problem.start.items()}
    state = transformation.init(values)
    recorded = []
    for number, gradients in enumerate(problem.gradients):
        updates, state = transformation.update(gradients, state, values)
        values = optax.apply_updates(values, updates)
        recorded.append({
            "gradients": [{"dense": flat(gradients[v])} for v in SHAPES],
            "expect": {
                "variables": [flat(values[v]) for v in SHAPES],
                "iterations": int(state.gradient_step) if accumulate else number + 1,
            },
        })
    config = {**optimizer["config"], **engine_fields(groups, engine)}
    optimizer = {"class_name": optimizer["class_name"], "config": config}
    return case(name, "optax", optimizer, problem, recorded, note, EXACT)


def case(name, dialect, optimizer, problem, steps, note, tolerance):
    return {
        "name": name,
        **({"note": note} if note else {}),
        "dialect": dialect,
        "dtype": "float64",
        "optimizer": optimizer,
        "variables": variables(problem.start),
        "steps": steps,
        **tolerance,
    }
