"""optax under `jax.jit`, with parameters and state donated."""

import gc

import jax
import jax.numpy as jnp
import numpy
import optax

from protocol import offer, serve

LEARNING_RATE = 1e-5
LIMIT = 0.5
PERIOD = 6


def momentum(nesterov=False):
    return optax.sgd(LEARNING_RATE, momentum=0.9, nesterov=nesterov)


RULES = {
    "sgd": ("sgd", lambda: optax.sgd(LEARNING_RATE)),
    "momentum": ("sgd, momentum", momentum),
    "nesterov": ("sgd, nesterov", lambda: momentum(nesterov=True)),
    "adam": ("adam", lambda: optax.adam(LEARNING_RATE)),
    "adam-amsgrad": ("amsgrad", lambda: optax.amsgrad(LEARNING_RATE)),
    "adamw": ("adamw", lambda: optax.adamw(LEARNING_RATE, weight_decay=0.004)),
    "nadam": ("nadam", lambda: optax.nadam(LEARNING_RATE)),
    "radam": ("radam", lambda: optax.radam(LEARNING_RATE)),
    "novograd": ("novograd", lambda: optax.novograd(LEARNING_RATE)),
    "clip-momentum": (
        "clip_by_global_norm, sgd, momentum",
        lambda: optax.chain(optax.clip_by_global_norm(LIMIT), momentum()),
    ),
    "momentum-ema": ("sgd, momentum + incremental_update", momentum),
    "lookahead-momentum": (
        "lookahead(sgd, momentum)",
        lambda: optax.lookahead(momentum(), sync_period=PERIOD, slow_step_size=0.5),
    ),
}


def arrays(tensors):
    """Constant gradients, or weights, between 0.01 and 1 in size."""
    random = numpy.random.default_rng(0x5EED)

    def one(shape):
        size = random.uniform(0.01, 1.0, shape)
        return jnp.asarray(numpy.where(random.random(shape) < 0.5, size, -size), dtype=jnp.float32)

    return [one(shape) for shape in tensors]


def open_contestant(id, tensors, threads):
    gc.collect()
    optimizer = RULES[id][1]()
    averages_too = id == "momentum-ema"

    def update(carried, gradients):
        parameters, state, averages = carried
        updates, state = optimizer.update(gradients, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        if averages_too:
            averages = optax.incremental_update(parameters, averages, 0.001)
        return parameters, state, averages

    weights, gradients = arrays(tensors), arrays(tensors)
    if id == "lookahead-momentum":
        parameters = optax.LookaheadParams.init_synced(weights)
        # One buffer cannot be donated twice.
        parameters = parameters._replace(slow=jax.tree.map(jnp.copy, parameters.slow))
    else:
        parameters = weights
    averages = jax.tree.map(jnp.copy, weights) if averages_too else None
    carried = (parameters, optimizer.init(parameters), averages)
    step = jax.jit(update, donate_argnums=0)

    def run(steps):
        nonlocal carried
        for _ in range(steps):
            carried = step(carried, gradients)
        jax.block_until_ready(carried)

    run(1)
    return run


def main():
    offers = [offer(id, id, name) for id, (name, _) in RULES.items()]
    serve(f"optax {optax.__version__}", offers, open_contestant)


if __name__ == "__main__":
    main()
