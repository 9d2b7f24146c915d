"""Does clipping rescue recall over 50 steps when the recurrent gain is too large?

The task, the network and the criterion are those of the experiment `horizon`; the recurrent weights
start Gaussian with gain g, so the gradient at the start grows with g. Every configuration runs
without clipping and with the global norm clipped at 1, for SGD with momentum at two learning rates
and for Adam.
"""

from rnncourse.experiments import Experiment, load_experiment

run = load_experiment("horizon").run

OPTIMIZERS = {
    "sgd": {"optimizer": "sgd", "lr": 0.1},
    "sgd-fast": {"optimizer": "sgd", "lr": 0.3},
    "adam": {"optimizer": "adam", "lr": 1e-3},
}

CONFIGS = {
    f"{name}-gain{gain:g}-{'clip' if max_norm else 'free'}": {
        "delay": 50,
        "start": "gaussian",
        "gain": gain,
        "max_norm": max_norm,
        "updates": 600,
        **optimizer,
    }
    for name, optimizer in OPTIMIZERS.items()
    for gain in (1.0, 1.5, 2.0, 3.0)
    for max_norm in (None, 1.0)
}

EXPERIMENT = Experiment(
    run, configs=CONFIGS, seeds=range(10), reduced={"updates": 5, "delay": 10}, tolerance=5e-3
)
