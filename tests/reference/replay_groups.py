"""Replays recorded runs with groups, accumulated gradients and scaled losses by plain formulas.

    python tests/reference/record_groups.py --check tests/golden

The formulas know only the field `optimizer` of each case, and so show that it says what PyTorch or optax did. Then each
option in that field, and each change between steps, is left out or altered, one at a time: the replay must fail, or the
case would not test the option.
"""

import copy
import json
import re
from types import SimpleNamespace

import numpy as np


def cosine(config, step):
    """The schedule `CosineDecay`."""
    done = min(step, config["decay_steps"]) / config["decay_steps"]
    factor = 0.5 * (1.0 + np.cos(np.pi * done))
    return config["initial_learning_rate"] * ((1.0 - config["alpha"]) * factor + config["alpha"])


def rate_at(rate, step):
    return cosine(rate["config"], step) if isinstance(rate, dict) else rate


# The rules: the step to be subtracted from one variable. `t` counts from 1, and `c` are the fields of the rule.


def sgd(c, state, g, rate, _t):
    momentum = c.get("momentum", 0.0)
    if momentum == 0.0:
        return rate * g
    first = "momentum" not in state
    state["momentum"] = g if first else momentum * state["momentum"] + (1.0 - c.get("dampening", 0.0)) * g
    return rate * (g + momentum * state["momentum"] if c.get("nesterov") else state["momentum"])


def moments(c, state, g):
    state["m"] = c["beta_1"] * state.get("m", 0.0) + (1.0 - c["beta_1"]) * g
    state["v"] = c["beta_2"] * state.get("v", 0.0) + (1.0 - c["beta_2"]) * g**2
    return state["m"], state["v"]


def adam(c, state, g, rate, t):
    m, v = moments(c, state, g)
    if c.get("amsgrad"):
        v = state["vhat"] = np.maximum(state.get("vhat", 0.0), v)
    m_hat, v_hat = m / (1.0 - c["beta_1"] ** t), v / (1.0 - c["beta_2"] ** t)
    return rate * m_hat / (np.sqrt(v_hat) + c["epsilon"])


def nadam(c, state, g, rate, t):
    def mu(t):
        rising = c["dialect"] == "pytorch"
        return c["beta_1"] * (1.0 - 0.5 * 0.96 ** (t * c["momentum_decay"]) if rising else 1.0)

    m, v = moments(c, state, g)
    product = state["momentum_cache"] = state.get("momentum_cache", 1.0) * mu(t)
    numerator = (1.0 - mu(t)) * g / (1.0 - product) + mu(t + 1) * m / (1.0 - product * mu(t + 1))
    return rate * numerator / (np.sqrt(v / (1.0 - c["beta_2"] ** t)) + c["epsilon"])


def radam(c, state, g, rate, t):
    m, v = moments(c, state, g)
    m_hat, correction = m / (1.0 - c["beta_1"] ** t), 1.0 - c["beta_2"] ** t
    limit = 2.0 / (1.0 - c["beta_2"]) - 1.0
    rho = limit - 2.0 * t * c["beta_2"] ** t / correction
    torch = c["dialect"] == "pytorch"
    if not (rho > 5.0 if torch else rho >= 5.0):
        return rate * m_hat
    r = np.sqrt((rho - 4.0) * (rho - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * rho))
    if torch:
        return rate * r * m_hat * np.sqrt(correction) / (np.sqrt(v) + c["epsilon"])
    return rate * r * m_hat / (np.sqrt(v / correction) + c["epsilon"])


RULES = {"SGD": sgd, "Adam": adam, "AdamW": adam, "Nadam": nadam, "RectifiedAdam": radam}


def is_decoupled(rule):
    """Whether the `weight_decay` of a rule is the optimizer's, and not a part of the gradient."""
    config = rule["config"]
    is_other = rule["class_name"] == "AdamW" or config["dialect"] != "pytorch"
    return is_other or config.get("decoupled_weight_decay", False)


class Replay:
    """An optimizer with its variables, in 64 bits."""

    def __init__(self, case):
        self.rule = case["optimizer"]
        self.config = self.rule["config"]
        self.values = {v["name"]: np.reshape(v["value"], v["shape"]) for v in case["variables"]}
        self.state = {name: {} for name in self.values}
        self.iterations = self.calls = self.good_steps = 0
        self.pending = {}
        self.rate = self.config["learning_rate"]
        self.scaling = self.config.get("loss_scale")
        self.scale = self.scaling["initial_scale"] if self.scaling else 1.0
        self.groups = {entry["name"]: self.group(entry) for entry in self.config.get("groups", [])}
        self.groups[None] = self.group({"pattern": ""})
        self.group_of = {
            name: next(group for group in self.groups.values() if re.search(group.pattern, name))
            for name in self.values
        }

    def group(self, entry):
        rule = entry.get("rule", self.rule)
        decay = self.config.get("weight_decay", 0.0) if is_decoupled(self.rule) else 0.0
        own_rate = rule["config"]["learning_rate"] if "rule" in entry else None
        return SimpleNamespace(
            pattern=entry["pattern"],
            rule=rule,
            rate=entry.get("learning_rate", own_rate),
            rate_scale=entry.get("learning_rate_scale", 1.0),
            decay=entry.get("weight_decay", decay),
            frozen=entry.get("frozen", False),
            clipvalue=entry.get("clipvalue"),
            clipnorm=entry.get("clipnorm"),
            global_clipnorm=entry.get("global_clipnorm"),
        )

    def change(self, step):
        self.rate = step.get("set_learning_rate", self.rate)
        for name, rate in step.get("set_group_learning_rate", {}).items():
            self.groups[name].rate = rate
        for name in step.get("freeze", []):
            self.groups[name].frozen = True
        for name in step.get("unfreeze", []):
            self.groups[name].frozen = False

    def step(self, step):
        self.change(step)
        gradients = self.gradients(step)
        accumulate = self.config.get("accumulate", {"steps": 1, "reduction": "sum"})
        for name, gradient in gradients.items():
            self.pending[name] = self.pending.get(name, 0.0) + gradient
        self.calls += 1
        if self.calls % accumulate["steps"] == 0:
            divisor = accumulate["steps"] if accumulate["reduction"] == "mean" else 1
            summed, self.pending = {name: g / divisor for name, g in self.pending.items()}, {}
            if self.is_finite(summed):
                self.apply(summed)

    def gradients(self, step):
        """The gradients that are there and not ignored, of the loss without scale."""
        given = {}
        for (name, value), gradient in zip(self.values.items(), step["gradients"]):
            if gradient is not None and not self.group_of[name].frozen:
                given[name] = np.reshape([float(x) for x in gradient["dense"]], value.shape) / self.scale
        return given

    def is_finite(self, gradients):
        """Whether a step may be taken; also moves the scale."""
        finite = all(np.isfinite(g).all() for g in gradients.values())
        if self.scaling and self.scaling["dynamic"]:
            self.good_steps = self.good_steps + 1 if finite else 0
            if not finite:
                self.scale = max(self.scale / 2.0, 1.0)
            elif self.good_steps == self.scaling["dynamic_growth_steps"]:
                self.scale, self.good_steps = 2.0 * self.scale, 0
        return finite or not self.scaling

    def apply(self, gradients):
        gradients = self.clipped(gradients)
        for name, g in gradients.items():
            group, state = self.group_of[name], self.state[name]
            config = group.rule["config"]
            rate = self.rate if group.rate is None else group.rate
            rate = group.rate_scale * rate_at(rate, self.iterations)
            state["step"] = state.get("step", 0) + 1
            t = state["step"] if config["dialect"] == "pytorch" else self.iterations + 1
            if not is_decoupled(group.rule):
                g = g + config.get("weight_decay", 0.0) * self.values[name]
            value = self.values[name] * (1.0 - rate * group.decay)
            self.values[name] = value - RULES[group.rule["class_name"]](config, state, g, rate, t)
        self.iterations += 1

    def clipped(self, gradients):
        """Clips of the groups come first, then that of all together."""
        for group in self.groups.values():
            own = [name for name in gradients if self.group_of[name] is group]
            for name in own if group.clipvalue else []:
                gradients[name] = np.clip(gradients[name], -group.clipvalue, group.clipvalue)
            for name in own if group.clipnorm else []:
                gradients |= shortened(gradients, [name], group.clipnorm)
            if group.global_clipnorm:
                gradients |= shortened(gradients, own, group.global_clipnorm)
        limit = self.config.get("global_clipnorm")
        return gradients | shortened(gradients, list(gradients), limit) if limit else gradients


def shortened(gradients, names, limit):
    """Some gradients, with a norm of all of them together of at most the limit."""
    norm = np.sqrt(sum(np.sum(gradients[name] ** 2) for name in names))
    return {name: gradients[name] * min(1.0, limit / norm) for name in names}


def difference(case):
    """The first difference between a recorded run and its replay; None if there is none."""
    replay = Replay(case)

    def differs(got, want):
        close = np.abs(np.ravel(got) - want) <= case["atol"] + case["rtol"] * np.abs(want)
        return not close.all()

    for number, step in enumerate(case["steps"], 1):
        replay.step(step)
        expect = step["expect"]
        for (name, value), want in zip(replay.values.items(), expect["variables"]):
            if differs(value, want):
                return f"step {number}: variable {name!r}"
        if replay.iterations != expect["iterations"]:
            return f"step {number}: iterations"
        if replay.scale != expect.get("loss_scale", 1.0):
            return f"step {number}: loss scale"
        for name, slots in expect.get("slots", {}).items():
            for slot, want in slots.items():
                if differs(replay.state[name].get(slot, np.nan), want):
                    return f"step {number}: slot {slot!r} of {name!r}"
    return None


def altered(case):
    """The case with one option or change of options left out, or with one number altered, and what that is."""
    def paths(value, path):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if key in ("name", "pattern", "dialect", "class_name", "module", "registered_name", "groups"):
                pass
            elif isinstance(inner, (dict, list)):
                yield from paths(inner, [*path, key])
            elif inner is not None and inner is not False and inner != 0:
                yield [*path, key]
        if isinstance(value, dict) and "groups" in value:
            yield from ([*path, "groups", index] for index in range(len(value["groups"])))
            yield from paths(value["groups"], [*path, "groups"])

    for path in paths(case["optimizer"]["config"], ["optimizer", "config"]):
        copied = copy.deepcopy(case)
        *parents, key = path
        place = copied
        for parent in parents:
            place = place[parent]
        if isinstance(place[key], float):
            place[key] *= 0.75
        elif isinstance(place[key], int) and not isinstance(place[key], bool):
            place[key] += 1
        elif key == "reduction":
            place[key] = "sum" if place[key] == "mean" else "mean"
        elif isinstance(place[key], bool):
            place[key] = not place[key]
        else:
            del place[key]
        yield ".".join(map(str, path)), copied
    for number, step in enumerate(case["steps"]):
        for key in step.keys() - {"gradients", "expect"}:
            copied = copy.deepcopy(case)
            del copied["steps"][number][key]
            yield f"step {number + 1}: {key}", copied


def is_noticed(case):
    try:
        return difference(case) is not None
    except KeyError:
        return True


def check(files):
    failures, count = [], 0
    for file in files:
        for case in json.loads(file.read_text())["cases"]:
            found = difference(case)
            if found is not None:
                failures.append(f"{file.name}: {case['name']}: {found}")
            for option, other in altered(case):
                count += 1
                if not is_noticed(other):
                    failures.append(f"{file.name}: {case['name']} does not depend on {option}")
        print("checked", file)
    if failures:
        raise SystemExit("\n".join(failures))
    print("altered", count, "options: each was noticed")
