"""Records runs of PyTorch and optax with groups of parameters, accumulated gradients and scaled losses.

    python3 -m venv venv
    venv/bin/pip install torch==2.15.0 optax==0.2.8 "jax[cpu]==0.10.2" timm==1.0.31
    venv/bin/python tests/reference/record_groups.py tests/golden
    venv/bin/python tests/reference/record_groups.py --check tests/golden

Written are groups.json, accumulation.json and loss_scale.json, in the format of tests/golden. `--check` replays them
with plain formulas instead (replay_groups.py). All runs are in float64.
"""

import json
import math
import sys
from pathlib import Path

# Sets both libraries to 64 bits, and so has to come first.
from record_dialects import ORACLE

import optax
import torch
from group_runs import SHAPES, Problem, backbone, embedding, head, norms, optax_case, optax_config, own, torch_case
from replay_groups import check

clip_grad_norm_ = torch.nn.utils.clip_grad_norm_
clip_grad_value_ = torch.nn.utils.clip_grad_value_

RATE, SLOWER = 0.125, 0.03125
BETAS, OTHER_BETAS = (0.875, 0.9921875), (0.75, 0.96875)
# Large enough to be seen.
EPSILON = 2.0**-10
ADAM = {"lr": RATE, "betas": BETAS, "eps": EPSILON}
ADAMW = {**ADAM, "weight_decay": 0.0625}
SGD = {"lr": RATE, "momentum": 0.875}
# For gradients of usual length whose norm PyTorch clips: group_runs.LONG says why.
CLIPPED = {"rtol": 1e-6, "atol": 2e-6}
# In the terms of optax and in ours.
OPTAX = {"b1": BETAS[0], "b2": BETAS[1], "eps": EPSILON}
OURS = {"beta_1": BETAS[0], "beta_2": BETAS[1], "epsilon": EPSILON}
OPTAX_OTHER = {**OPTAX, "b1": OTHER_BETAS[0], "b2": OTHER_BETAS[1]}
OURS_OTHER = {**OURS, "beta_1": OTHER_BETAS[0], "beta_2": OTHER_BETAS[1]}


def cosine():
    """A schedule of optax, and its configuration."""
    config = {
        "initial_learning_rate": 0.25, "decay_steps": 8, "alpha": 0.125, "name": "CosineDecay",
        "warmup_target": None, "warmup_steps": 0,
    }
    serialised = {
        "module": "keras.optimizers.schedules", "class_name": "CosineDecay", "config": config, "registered_name": None,
    }
    return optax.cosine_decay_schedule(0.25, 8, alpha=0.125), serialised


def torch_groups():
    """Options by group."""
    late = {"head.weight": range(4), "head.bias": [0, 1, 2, 3, 6], "backbone.norm": [2, 5]}
    return [
        torch_case("torch_sgd_two_groups", "SGD", SGD, [backbone({"lr": 0.25 * RATE}, learning_rate_scale=0.25)],
                   changes={5: {"set_learning_rate": SLOWER}}, note="a multiple of the learning rate follows it"),
        torch_case("torch_sgd_three_groups", "SGD", {**SGD, "weight_decay": 0.0625}, [
            own("SGD", norms, {**SGD, "weight_decay": 0.0625}, momentum=0.0, weight_decay=0.0),
            own("SGD", head, {**SGD, "weight_decay": 0.0625}, lr=0.25, momentum=0.5, nesterov=True),
        ], changes={4: {"set_learning_rate": SLOWER, "set_group_learning_rate": {"head": 0.0625}}},
           note="head.bias is a norm: the first pattern that matches decides"),
        torch_case("torch_sgd_rate_of_group", "SGD", {"lr": RATE}, [head({"lr": 0.5}, learning_rate=0.5)],
                   changes={3: {"set_learning_rate": SLOWER}, 6: {"set_group_learning_rate": {"head": 0.25}}},
                   note="a learning rate of its own does not follow that of the optimizer"),
        torch_case("torch_adam_betas", "Adam", {**ADAM, "weight_decay": 0.0625}, [
            own("Adam", norms, {**ADAM, "weight_decay": 0.0625}, weight_decay=0.0),
            own("Adam", head, {**ADAM, "weight_decay": 0.0625}, betas=OTHER_BETAS, weight_decay=0.25, lr=SLOWER),
        ]),
        torch_case("torch_adam_amsgrad", "Adam", ADAM, [
            own("Adam", head, ADAM, amsgrad=True, betas=(0.875, 0.75)),
        ], note="only one group keeps the largest second moment"),
        torch_case("torch_adamw_no_decay", "AdamW", ADAMW, [
            norms({"weight_decay": 0.0}, weight_decay=0.0),
            backbone({"lr": 0.125 * RATE}, learning_rate_scale=0.125),
        ], changes={5: {"set_learning_rate": SLOWER}}, note="the usual two groups, and a slower backbone"),
        torch_case("torch_adamw_decays", "AdamW", ADAMW, [
            embedding({"lr": 0.25, "weight_decay": 0.5}, learning_rate=0.25, weight_decay=0.5),
            own("AdamW", head, ADAMW, lr=SLOWER, betas=OTHER_BETAS, weight_decay=0.25),
        ], changes={6: {"set_group_learning_rate": {"embedding": 0.0625}}},
           note="decay is multiplied by the learning rate of the group"),
        torch_case("torch_nadam", "NAdam", {**ADAM, "momentum_decay": 0.004}, [
            own("NAdam", norms, {**ADAM, "momentum_decay": 0.004}, betas=OTHER_BETAS, momentum_decay=0.25),
            own("NAdam", embedding, {**ADAM, "momentum_decay": 0.004}, weight_decay=0.125),
        ]),
        torch_case("torch_nadam_decoupled", "NAdam", {
            **ADAM, "momentum_decay": 0.004, "weight_decay": 0.0625, "decoupled_weight_decay": True,
        }, [norms({"weight_decay": 0.0}, weight_decay=0.0), backbone({"weight_decay": 0.25}, weight_decay=0.25)]),
        torch_case("torch_radam", "RAdam", ADAM, [
            own("RAdam", norms, ADAM, betas=OTHER_BETAS, lr=SLOWER),
            own("RAdam", embedding, ADAM, weight_decay=0.125),
        ], problem=Problem(31, steps=12), note="the first rectified steps are in the run"),
        torch_case("torch_rate_zero", "AdamW", ADAMW, [backbone({"lr": 0.0}, learning_rate=0.0)],
                   changes={5: {"set_group_learning_rate": {"backbone": RATE}}},
                   note="with a learning rate of 0 moments and counters advance, unlike those of frozen variables"),
        torch_case("torch_late", "AdamW", ADAMW, [
            norms({"weight_decay": 0.0}, weight_decay=0.0), head({"lr": SLOWER}, learning_rate=SLOWER),
        ], problem=Problem(32, missing=late),
           note="variables that start late, and miss gradients later: neither decayed nor counted in these steps"),
    ]


def torch_frozen():
    """Frozen groups. The gradients of frozen variables are recorded, though PyTorch does not compute them."""
    given = "PyTorch has no gradients of frozen parameters; those recorded are ignored"
    long = {step: list(SHAPES) for step in (1, 4, 5, 8)}
    return [
        torch_case("torch_frozen", "AdamW", ADAMW, [
            embedding({}, frozen=True), norms({"weight_decay": 0.0}, weight_decay=0.0),
        ], problem=Problem(33, missing={"head.weight": range(3)}), note=given),
        torch_case("torch_unfreeze", "Adam", ADAM, [backbone({}, frozen=True)], changes={4: {"unfreeze": ["backbone"]}},
                   note=f"{given}; unfrozen parameters start as in a first step, with t = 1"),
        torch_case("torch_freeze_unfreeze", "AdamW", ADAMW, [
            norms({"weight_decay": 0.0}, weight_decay=0.0), backbone({"lr": SLOWER}, learning_rate=SLOWER),
        ], changes={3: {"freeze": ["norms", "backbone"]}, 6: {"unfreeze": ["backbone"]}, 8: {"unfreeze": ["norms"]}},
           note=f"{given}; the state stays as it was, and counters go on from there"),
        torch_case("torch_freeze_unfreeze_sgd", "SGD", SGD, [
            head({"lr": SLOWER}, learning_rate=SLOWER), embedding({}, frozen=True),
        ], changes={3: {"freeze": ["head"]}, 5: {"unfreeze": ["embedding"]}, 7: {"unfreeze": ["head"]}},
           note=f"{given}; the old velocity is still there after thawing"),
        torch_case("torch_freeze_nadam", "NAdam", {**ADAM, "momentum_decay": 0.25}, [
            head({"lr": SLOWER}, learning_rate=SLOWER),
        ], changes={3: {"freeze": ["head"]}, 6: {"unfreeze": ["head"]}}, note=given),
        torch_case("torch_frozen_global_clipnorm", "SGD", SGD, [embedding({}, frozen=True)], clip=clip_all(1.0),
                   problem=Problem(34, scale=0.03125, long=long), changes={5: {"unfreeze": ["embedding"]}},
                   global_clipnorm=1.0, note=f"{given}, also in the global norm"),
    ]


def clip_all(limit):
    return lambda run: clip_grad_norm_(run.parameters.values(), limit)


def torch_clips():
    """Clips of all groups together, and of one group."""
    def long(*names):
        return {"scale": 0.03125, "long": {step: list(names) for step in (1, 2, 5, 8)}}

    def each(run):
        for parameter in run.of("backbone"):
            clip_grad_norm_([parameter], 0.5)

    def group_then_all(run):
        clip_grad_norm_(run.of("head"), 0.5)
        clip_grad_value_(run.of("embedding"), 0.25)
        clip_grad_norm_(run.parameters.values(), 1.0)

    two = [norms({"weight_decay": 0.0}, weight_decay=0.0), backbone({"lr": SLOWER}, learning_rate=SLOWER)]
    return [
        torch_case("torch_global_clipnorm", "AdamW", ADAMW, two, clip=clip_all(1.0),
                   problem=Problem(35, **long(*SHAPES)), global_clipnorm=1.0, note="one norm for all groups"),
        torch_case("torch_global_clipnorm_missing", "SGD", SGD, [head({"lr": 0.5}, learning_rate=0.5)],
                   clip=clip_all(1.0), global_clipnorm=1.0,
                   problem=Problem(36, **long(*SHAPES), missing={"head.weight": [1, 4], "backbone.norm": range(4)})),
        torch_case("torch_group_global_clipnorm", "SGD", SGD, [backbone({}, global_clipnorm=0.5)],
                   clip=lambda run: clip_grad_norm_(run.of("backbone"), 0.5),
                   problem=Problem(37, **long("backbone.weight", "backbone.norm")), note="one norm for one group"),
        torch_case("torch_group_clipnorm", "SGD", SGD, [
            backbone({"lr": 0.0625}, learning_rate_scale=0.5, clipnorm=0.5),
        ], clip=each, problem=Problem(38, **long("backbone.weight", "backbone.norm")),
           note="a norm for each variable of one group"),
        torch_case("torch_group_clipvalue", "Adam", ADAM, [head({"lr": SLOWER}, learning_rate=SLOWER, clipvalue=0.5)],
                   clip=lambda run: clip_grad_value_(run.of("head"), 0.5)),
        torch_case("torch_group_then_global_clipnorm", "SGD", SGD, [
            head({}, global_clipnorm=0.5), embedding({}, clipvalue=0.25),
        ], clip=group_then_all, tolerance=CLIPPED, global_clipnorm=1.0,
           note="clips of groups come first; gradients have their usual length, so that PyTorch's 1e-6 shows"),
    ]


def torch_lambda():
    """PyTorch's `LambdaLR`."""
    def warm_up(step):
        return 1.0 if step < 4 else 0.5

    return [
        torch_case("torch_lambda_lr", "AdamW", ADAMW, [
            norms({"weight_decay": 0.0, "lr": SLOWER}, weight_decay=0.0, learning_rate=SLOWER),
            own("AdamW", head, ADAMW, lr=0.25, betas=OTHER_BETAS, weight_decay=0.25),
        ], lambdas={None: warm_up, "norms": lambda step: 0.875**step, "head": lambda step: 1.0 / (1.0 + step)},
           note="a function for each group"),
    ]


def optax_groups():
    """`optax.multi_transform`."""
    def rest(transformation):
        return lambda multi: multi(transformation)

    schedule, serialised = cosine()
    adam = rest(optax.adam(RATE, **OPTAX))
    sgd = {"rule": optax_config("SGD", 0.25, momentum=0.875)}
    momentum = optax.sgd(RATE, momentum=0.875)
    adamw = optax.adamw(RATE, weight_decay=0.0625, **OPTAX)
    clip_first = optax.multi_transform(
        {"head": optax.clip_by_global_norm(0.5), "embedding": optax.clip(0.25), "backbone": optax.identity()},
        {variable: variable.split(".")[0] for variable in SHAPES},
    )
    return [
        optax_case("optax_two_labels", adam, optax_config("Adam", RATE, **OURS), [
            head(optax.sgd(0.25, momentum=0.875), **sgd),
        ]),
        optax_case("optax_three_labels", adam, optax_config("Adam", RATE, **OURS), [
            norms(optax.sgd(0.25, momentum=0.5, nesterov=True),
                  rule=optax_config("SGD", 0.25, momentum=0.5, nesterov=True)),
            embedding(optax.adamw(SLOWER, weight_decay=0.5, **OPTAX_OTHER),
                      rule=optax_config("AdamW", SLOWER, **OURS_OTHER), weight_decay=0.5),
        ]),
        optax_case("optax_three_rates", rest(adamw), optax_config("AdamW", RATE, weight_decay=0.0625, **OURS), [
            norms(optax.adamw(RATE / 4, weight_decay=0.0, **OPTAX), learning_rate_scale=0.25, weight_decay=0.0),
            head(optax.adamw(0.25, weight_decay=0.25, **OPTAX), learning_rate=0.25, weight_decay=0.25),
        ]),
        optax_case("optax_set_to_zero", rest(adamw), optax_config("AdamW", RATE, weight_decay=0.0625, **OURS), [
            backbone(optax.set_to_zero(), frozen=True),
        ], note="a frozen variable is not decayed, either"),
        optax_case("optax_rules", rest(optax.nadam(RATE, **OPTAX)), optax_config("Nadam", RATE, **OURS), [
            norms(optax.radam(SLOWER, **OPTAX_OTHER), rule=optax_config("RectifiedAdam", SLOWER, **OURS_OTHER)),
            embedding(optax.nadam(0.25, **OPTAX_OTHER), rule=optax_config("Nadam", 0.25, **OURS_OTHER)),
        ], problem=Problem(41, steps=12)),
        optax_case("optax_global_clipnorm", lambda multi: optax.chain(optax.clip_by_global_norm(1.0), multi(adamw)),
                   optax_config("AdamW", RATE, weight_decay=0.0625, **OURS), [
                       norms(optax.sgd(0.25, momentum=0.875), **sgd, weight_decay=0.0),
                       backbone(optax.adamw(SLOWER, weight_decay=0.0625, **OPTAX), learning_rate=SLOWER),
                   ], problem=Problem(42, scale=0.25), global_clipnorm=1.0, note="one norm for all labels"),
        optax_case("optax_clip_of_label", rest(momentum), optax_config("SGD", RATE, momentum=0.875), [
            head(optax.chain(optax.clip_by_global_norm(0.5), momentum), global_clipnorm=0.5),
            embedding(optax.chain(optax.clip(0.25), optax.sgd(0.5, momentum=0.875)), learning_rate=0.5, clipvalue=0.25),
        ], problem=Problem(43, scale=0.25)),
        optax_case("optax_clip_of_label_then_global",
                   lambda multi: optax.chain(clip_first, optax.clip_by_global_norm(1.0), multi(momentum)),
                   optax_config("SGD", RATE, momentum=0.875), [
                       head(momentum, global_clipnorm=0.5), embedding(momentum, clipvalue=0.25),
                   ], problem=Problem(44, scale=0.5), global_clipnorm=1.0),
        optax_case("optax_schedule", adam, optax_config("Adam", RATE, **OURS), [
            head(optax.adam(schedule, **OPTAX), learning_rate=serialised),
            embedding(optax.sgd(schedule, momentum=0.875), rule=optax_config("SGD", serialised, momentum=0.875)),
        ]),
        optax_mask(),
    ]


def optax_mask():
    """Weight decay with a mask, without labels: a mask is a group."""
    mask = {v: v.endswith("weight") for v in SHAPES}
    made = optax.adamw(RATE, weight_decay=0.25, mask=mask, **OPTAX)
    return optax_case("optax_mask", lambda _: made, optax_config("AdamW", RATE, weight_decay=0.25, **OURS), [
        norms(None, weight_decay=0.0),
    ], note="a mask of the weight decay, and no labels")


def groups():
    return torch_groups() + torch_frozen() + torch_clips() + torch_lambda() + optax_groups()


def accumulation():
    """Every step is a micro-step."""
    return optax_accumulation() + torch_accumulation()


def mean(steps):
    return {"steps": steps, "reduction": "mean"}


def total(steps):
    return {"steps": steps, "reduction": "sum"}


def optax_accumulation():
    """`optax.MultiSteps`."""
    def alone(transformation):
        return lambda _: transformation

    schedule, serialised = cosine()
    clip = optax.clip_by_global_norm(1.0)
    adamw = optax.adamw(RATE, weight_decay=0.0625, **OPTAX)
    twelve = {"steps": 12}
    return [
        optax_case("optax_sgd", alone(optax.sgd(RATE, momentum=0.875)), optax_config("SGD", RATE, momentum=0.875),
                   problem=Problem(51), accumulate=mean(2)),
        optax_case("optax_adam", alone(optax.adam(RATE, **OPTAX)), optax_config("Adam", RATE, **OURS),
                   problem=Problem(52), accumulate=mean(3), note="the last window is not complete"),
        optax_case("optax_adamw", alone(adamw), optax_config("AdamW", RATE, weight_decay=0.0625, **OURS),
                   problem=Problem(53, **twelve), accumulate=mean(4), note="decayed once a window"),
        optax_case("optax_nadam", alone(optax.nadam(RATE, **OPTAX)), optax_config("Nadam", RATE, **OURS),
                   problem=Problem(54), accumulate=mean(2)),
        optax_case("optax_sum", alone(optax.sgd(RATE, momentum=0.875, nesterov=True)),
                   optax_config("SGD", RATE, momentum=0.875, nesterov=True), problem=Problem(55), accumulate=total(3)),
        optax_case("optax_global_clipnorm", alone(optax.chain(clip, adamw)),
                   optax_config("AdamW", RATE, weight_decay=0.0625, **OURS), problem=Problem(56, scale=0.375),
                   accumulate=mean(2), global_clipnorm=1.0, note="the mean is clipped, not the gradients"),
        optax_case("optax_schedule", alone(optax.adam(schedule, **OPTAX)), optax_config("Adam", serialised, **OURS),
                   problem=Problem(57), accumulate=mean(2), note="a schedule counts applied steps"),
        optax_case("optax_labels", lambda multi: optax.chain(clip, multi(adamw)),
                   optax_config("AdamW", RATE, weight_decay=0.0625, **OURS), [
                       norms(optax.sgd(0.25), rule=optax_config("SGD", 0.25), weight_decay=0.0),
                       embedding(optax.adamw(SLOWER, weight_decay=0.5, **OPTAX),
                                 learning_rate=SLOWER, weight_decay=0.5),
                   ], problem=Problem(58, scale=0.375, **twelve), accumulate=mean(3), global_clipnorm=1.0),
    ]


def torch_accumulation():
    """Losses whose gradients PyTorch adds up."""
    long = {step: list(SHAPES) for step in (2, 3, 7)}
    twelve = {"steps": 12}
    return [
        torch_case("torch_mean", "SGD", SGD, problem=Problem(61), accumulate=mean(2)),
        torch_case("torch_sum", "Adam", ADAM, problem=Problem(62), accumulate=total(3)),
        torch_case("torch_adamw", "AdamW", ADAMW, problem=Problem(63, **twelve), accumulate=mean(4),
                   changes={8: {"set_learning_rate": SLOWER}}),
        torch_case("torch_global_clipnorm", "SGD", SGD, problem=Problem(64, scale=0.03125, long=long),
                   clip=clip_all(1.0), accumulate=total(2), global_clipnorm=1.0,
                   note="the sum is clipped, not the gradients"),
        torch_case("torch_some_gradients", "Adam", ADAM, accumulate=mean(3),
                   problem=Problem(65, missing={"head.weight": [1, 5, 6], "head.bias": [0, 1, 3, 4, 7]}, **twelve),
                   note="a missing gradient counts as 0 in the mean"),
        torch_case("torch_last_gradient_missing", "AdamW", ADAMW, accumulate=mean(2),
                   problem=Problem(66, missing={"backbone.weight": [1, 5], "embedding.weight": [1, 3, 5, 7, 9]}),
                   note="a variable with a gradient in any micro-step is updated"),
        torch_case("torch_no_gradient", "AdamW", ADAMW, accumulate=mean(2),
                   problem=Problem(67, missing={"head.weight": [0, 1, 4, 5], "head.bias": [2, 3, 4]}),
                   note="a variable without a gradient in a whole window is neither decayed nor counted"),
        torch_case("torch_groups", "AdamW", ADAMW, [
            norms({"weight_decay": 0.0}, weight_decay=0.0),
            backbone({"lr": SLOWER}, learning_rate=SLOWER, clipvalue=0.25),
            embedding({}, frozen=True),
        ], problem=Problem(68, **twelve), accumulate=mean(3),
           clip=lambda run: clip_grad_value_(run.of("backbone"), 0.25), changes={6: {"unfreeze": ["embedding"]}}),
    ]


def loss_scale():
    """`torch.amp.GradScaler`. The gradients are those of the scaled loss."""
    infinity, nan = math.inf, math.nan

    def case(name, kind, options, initial=1024.0, growth=3, groups=(), **more):
        scaler = torch.amp.GradScaler(
            "cpu", init_scale=initial, growth_factor=2.0, backoff_factor=0.5, growth_interval=growth
        )
        scaling = {"dynamic": True, "initial_scale": initial, "dynamic_growth_steps": growth}
        return torch_case(name, kind, options, groups, scaler=scaler, loss_scale=scaling, **more)

    def static(name, kind, options, scale, **more):
        never = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1_000_000)
        scaling = {"dynamic": False, "initial_scale": scale}
        return torch_case(name, kind, options, scaler=never, loss_scale=scaling, **more)

    one = {4: {"head.weight": infinity}}
    mixed = {1: {"head.bias": nan}, 2: {"embedding.weight": -infinity}, 7: {"backbone.norm": infinity}}
    start = {step: {"backbone.weight": infinity} for step in range(4)}
    long = {step: list(SHAPES) for step in (1, 3, 6)}
    twelve = {"steps": 12}
    return [
        static("static", "SGD", SGD, 1024.0, problem=Problem(71)),
        case("growth", "SGD", SGD, problem=Problem(72, **twelve), note="doubled after 3 good steps in a row"),
        case("overflow", "Adam", ADAM, growth=2, problem=Problem(73, bad=one, **twelve),
             note="a step that is skipped is not counted, neither by the optimizer nor by the variables"),
        case("overflow_restarts_growth", "AdamW", ADAMW, problem=Problem(74, bad={2: {"head.bias": nan}}, **twelve),
             note="good steps before an overflow no longer count"),
        case("overflow_at_once", "Adam", ADAM, initial=65536.0, growth=2, problem=Problem(75, bad=start, **twelve),
             note="the usual start: the scale is too large for four steps"),
        case("mixed", "AdamW", ADAMW, growth=2, problem=Problem(76, bad=mixed, **twelve),
             changes={5: {"set_learning_rate": SLOWER}}),
        case("down_to_one", "SGD", SGD, initial=4.0, growth=2, problem=Problem(
            77, bad={1: {"head.bias": nan}, 2: {"head.bias": infinity}}, **twelve)),
        case("global_clipnorm", "AdamW", ADAMW, growth=2, clip=clip_all(1.0), global_clipnorm=1.0,
             problem=Problem(78, scale=0.03125, long=long, bad={2: {"head.weight": infinity}}, **twelve),
             note="clipped after division by the scale"),
        case("missing", "Adam", ADAM, growth=2, problem=Problem(
            79, missing={"head.weight": range(5), "head.bias": [1, 6]}, bad={3: {"backbone.norm": nan}}, **twelve)),
        case("groups", "AdamW", ADAMW, growth=2, groups=[
            norms({"weight_decay": 0.0}, weight_decay=0.0), embedding({}, frozen=True),
            own("AdamW", head, ADAMW, lr=SLOWER, betas=OTHER_BETAS, weight_decay=0.25),
        ], problem=Problem(80, bad={3: {"embedding.weight": nan}, 5: {"head.bias": infinity}}, **twelve),
           note="an overflow in any group skips all; a frozen variable has no gradient that could overflow"),
        # Without overflows: PyTorch drops the whole window, ours drops the micro-step.
        case("accumulation", "AdamW", ADAMW, growth=2, accumulate=mean(2), problem=Problem(81, steps=16),
             note="the scale grows by applied steps"),
    ]


FILES = {"groups.json": groups, "accumulation.json": accumulation, "loss_scale.json": loss_scale}


def main(folder):
    oracle = {library: ORACLE[library] for library in ("torch", "optax")}
    for name, cases in FILES.items():
        text = json.dumps({"format": 1, "oracle": oracle, "cases": cases()}, allow_nan=False)
        (Path(folder) / name).write_text(text + "\n")
        print("wrote", Path(folder) / name)


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        check([Path(sys.argv[2]) / name for name in FILES])
    else:
        main(sys.argv[1])
