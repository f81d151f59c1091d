"""One system trains the job of `engine.py`: cross-validation of a grid of learning rates. Prints one line of JSON.

    python systems.py SYSTEM JOB        (JOB is JSON; engine.py starts this in the system's own environment)

Every system gets the same table, folds, learning rates, sizes, epochs and batch size; float32 numbers that are already
standardised, so that none spends time on preparing them; Adam without decay, a constant rate, ReLU, squared error;
PyTorch's own first weights. All epochs run, and nothing is set aside within a fold. Imports and the making of the table
are not timed, everything else is.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Job:
    """What is to be trained; `depth` hidden layers of `width` units."""

    depth: int
    width: int
    rows: int = 8000
    features: int = 20
    epochs: int = 20
    batch: int = 256
    folds: int = 5
    rates: tuple[float, ...] = ()
    jobs: int = 2
    seed: int = 0

    @property
    def flops(self) -> float:
        """Multiplications and additions of all matrix products, forward and backward, of all training steps."""
        sizes = [self.features, *[self.width] * self.depth, 1]
        weights = [a * b for a, b in pairwise(sizes)]
        # forward, weight gradients, input gradients; the first layer needs no gradient of its input
        per_row = 2 * (3 * sum(weights) - weights[0])
        rows = self.rows * (self.folds - 1) / self.folds
        return per_row * rows * self.epochs * self.folds * len(self.rates)

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """Friedman's first function of five features, noise with a seventh of the variance; standardised, float32."""
        from sklearn.datasets import make_friedman1

        X, y = make_friedman1(self.rows, self.features, noise=2.0, random_state=self.seed)
        return ((X - X.mean(0)) / X.std(0)).astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)

    def splits(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Training and validation rows of each fold."""
        from sklearn.model_selection import KFold

        return list(KFold(self.folds, shuffle=True, random_state=self.seed).split(np.zeros(self.rows)))


Work = Callable[[], Any]
"""The timed part; returns each learning rate's RMSE on each fold, (L, K)."""


def autoreg(job: Job, precision: str, device: str = "cpu") -> Work:
    from autoreg import AutoRegressor

    X, y = job.table()
    search = AutoRegressor(
        strategy="grid", space={**_fixed(job), "learning_rate": list(job.rates)}, cv=job.splits(), device=device,
        companions=None, ensemble=False, n_jobs=job.jobs, precision=precision, random_state=job.seed, verbose=0,
    )  # fmt: skip
    if device != "cpu":
        _wake(device)
    return lambda: _fold_scores(search.fit(X, y).cv_results_, job)


def _wake(device: str) -> None:
    """Have the GPU's libraries loaded, as imports are: once in a process."""
    import torch

    one = torch.ones(8, 8, device=device, requires_grad=True)
    for dtype in (torch.float32, torch.bfloat16):
        (one.to(dtype) @ one.to(dtype)).sum().backward()
    torch.cuda.synchronize(device)


def _fixed(job: Job) -> dict[str, list[Any]]:
    """`NeuralRegressor`'s parameters that do not vary, as a grid."""
    return {
        "network": ["mlp"], "network__depth": [job.depth], "network__width": [job.width], "activation": ["relu"],
        "optimizer": ["adam"], "schedule": ["constant"], "max_epochs": [job.epochs], "batch_size": [job.batch],
        "loss": ["squared_error"], "encoding": [None], "target_scaling": [None],
    }  # fmt: skip


def drop_in(job: Job) -> Work:
    """scikit-learn's search over our `NeuralRegressor`: the same numbers as `autoreg`, one network at a time."""
    from autoreg import NeuralRegressor

    network = NeuralRegressor(random_state=job.seed)
    grid = {**_fixed(job), "learning_rate": list(job.rates)}
    return _grid_search(job, network.set_params(**{name: values[0] for name, values in grid.items()}), "learning_rate")


def _grid_search(job: Job, estimator: Any, rate: str, column: bool = False) -> Work:
    from sklearn.model_selection import GridSearchCV

    X, y = job.table()
    search = GridSearchCV(
        estimator, {rate: list(job.rates)}, cv=job.splits(), scoring="neg_root_mean_squared_error", refit=False,
        n_jobs=job.jobs, error_score="raise",
    )  # fmt: skip
    return lambda: _fold_scores(search.fit(X, y[:, None] if column else y).cv_results_, job)


def _fold_scores(results: Any, job: Job) -> np.ndarray:
    return -np.stack([results[f"split{k}_test_score"] for k in range(job.folds)], axis=1)


def skorch(job: Job) -> Work:
    """skorch within GridSearchCV: its own data loader and callbacks; only told to shuffle, as the others do."""
    import torch
    from skorch import NeuralNetRegressor

    net = NeuralNetRegressor(
        _network, module__sizes=_sizes(job), module__seed=job.seed, criterion=torch.nn.MSELoss,
        optimizer=torch.optim.Adam, max_epochs=job.epochs, batch_size=job.batch, iterator_train__shuffle=True,
        train_split=None, verbose=0,
    )  # fmt: skip
    return _grid_search(job, net, "lr", column=True)


def sklearn(job: Job) -> Work:
    """scikit-learn's MLPRegressor within GridSearchCV.

    Its own first weights are larger and cost it two per cent of RMSE here, so it is given PyTorch's distribution.
    """
    from sklearn.neural_network import MLPRegressor

    class Network(MLPRegressor):
        def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> Any:
            def draw(*shape: int) -> np.ndarray:
                return self._random_state.uniform(-(fan_in**-0.5), fan_in**-0.5, shape).astype(dtype)

            return draw(fan_in, fan_out), draw(fan_out)

    os.environ["PYTHONWARNINGS"] = "ignore"  # it warns, also in its processes, that all epochs ran
    network = Network(
        hidden_layer_sizes=[job.width] * job.depth, activation="relu", solver="adam", alpha=0.0, batch_size=job.batch,
        max_iter=job.epochs, tol=0.0, n_iter_no_change=job.epochs + 1, random_state=job.seed,
    )  # fmt: skip
    return _grid_search(job, network, "learning_rate_init")


def pytabkit(job: Job) -> Work:
    """RealMLP without its features, initialisation and schedules: a plain network, its folds as one.

    Learning rates one after another, each in operations of `jobs` threads or, as `pytabkit-processes`, in processes.
    Told at which epoch to stop it does not score its validation rows every epoch.
    """
    return lambda: np.array([_realmlp(job, rate, job.jobs) for rate in job.rates])


def pytabkit_processes(job: Job) -> Work:
    import pytabkit  # noqa: F401
    from joblib import Parallel, delayed

    return lambda: np.array(Parallel(job.jobs)(delayed(_realmlp)(job, rate, 1) for rate in job.rates))


def _realmlp(job: Job, rate: float, threads: int) -> np.ndarray:
    import logging

    from pytabkit import RealMLP_TD_Regressor

    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    X, y = job.table()
    valid = np.stack([valid for _, valid in job.splits()])
    model = RealMLP_TD_Regressor(
        n_cv=job.folds, n_epochs=job.epochs, stop_epoch=job.epochs, batch_size=job.batch, lr=rate, lr_sched="constant",
        hidden_sizes=[job.width] * job.depth, act="relu", use_parametric_act=False, block_str="w-b-a", p_drop=0.0,
        tfms=[], num_emb_type="none", add_front_scale=False, normalize_output=False, clamp_output=False,
        weight_param="standard", weight_init_mode="uniform", weight_init_gain=3**-0.5, bias_init_mode="pytorch-default",
        bias_lr_factor=1.0, wd=0.0, opt="adam", sq_mom=0.999, device="cpu", n_threads=threads, random_state=job.seed,
    )  # fmt: skip
    model.fit(X, y, val_idxs=valid)
    # predict() would average the folds' networks
    each = model._predict_raw(X).numpy()[..., 0]
    return np.array([_rmse(y[rows], each[k, rows]) for k, rows in enumerate(valid)])


def loop(job: Job) -> Work:
    """What one writes by hand: a network, an optimizer and a loop over shuffled batches, in processes side by side."""
    import torch  # noqa: F401

    X, y = job.table()
    tasks = [(job, rate, X, y, train, valid) for rate in job.rates for train, valid in job.splits()]
    # forked processes have torch and the table already
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")

    def work() -> np.ndarray:
        with context.Pool(job.jobs) as pool:
            return np.array(pool.map(_train_one, tasks, chunksize=1)).reshape(len(job.rates), job.folds)

    return work


def _train_one(task: Any) -> float:
    import torch

    torch.set_num_threads(1)
    job, rate, X, y, train, valid = task
    network = _network(_sizes(job), job.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    inputs, target = torch.from_numpy(X[train]), torch.from_numpy(y[train, None])
    loss_function = torch.nn.MSELoss()
    for _ in range(job.epochs):
        order = torch.randperm(len(inputs))
        for rows in order.split(job.batch):
            loss = loss_function(network(inputs[rows]), target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return _rmse(y[valid], network(torch.from_numpy(X[valid])).numpy()[:, 0])


def _network(sizes: Sequence[int], seed: int) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _sizes(job: Job) -> list[int]:
    return [job.features, *[job.width] * job.depth, 1]


def _rmse(y: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.sqrt(np.mean((y - prediction) ** 2)))


def limit(job: Job) -> dict[str, float]:
    """GFLOP/s of matrix products on all cores, the best of several runs.

    One large float32 product; one large bfloat16 product; and bfloat16 products of the job's own shape, a stack of
    (batch, width) times (width, width), which have to read and write more for each multiplication.
    """
    import torch

    torch.set_num_threads(job.jobs)
    large, members = 4096, job.folds * len(job.rates)

    def rate(product: Callable[[], Any], flops: float) -> float:
        seconds = []
        stop = time.perf_counter() + 2.0
        while time.perf_counter() < stop or len(seconds) < 3:
            begin = time.perf_counter()
            product()
            seconds.append(time.perf_counter() - begin)
        return flops / min(seconds) / 1e9

    a, b = torch.randn(large, large), torch.randn(large, large)
    x, w = torch.randn(members, job.batch, job.width), torch.randn(members, job.width, job.width)
    a_half, b_half, x_half, w_half = (tensor.to(torch.bfloat16) for tensor in (a, b, x, w))
    small_flops = 2.0 * members * job.batch * job.width**2
    return {
        "sgemm": rate(lambda: a @ b, 2.0 * large**3),
        "bfloat16": rate(lambda: a_half @ b_half, 2.0 * large**3),
        "float32 stack": rate(lambda: torch.bmm(x, w), small_flops),
        "bfloat16 stack": rate(lambda: torch.bmm(x_half, w_half), small_flops),
    }


SYSTEMS: dict[str, Callable[[Job], Work]] = {
    "autoreg float32": lambda job: autoreg(job, "float32"),
    "autoreg bfloat16": lambda job: autoreg(job, "bfloat16"),
    "autoreg cuda float32": lambda job: autoreg(job, "float32", "cuda"),
    "autoreg cuda bfloat16": lambda job: autoreg(job, "bfloat16", "cuda"),
    "drop-in": drop_in,
    "loop": loop,
    "sklearn": sklearn,
    "skorch": skorch,
    "pytabkit": pytabkit,
    "pytabkit processes": pytabkit_processes,
}
PACKAGES = ("autoreg-core", "torch", "numpy", "scikit-learn", "skorch", "pytabkit")


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except ImportError:
            continue
    return found


def main() -> None:
    name, job = sys.argv[1], Job(**json.loads(sys.argv[2]))
    if name == "limit":
        print(json.dumps({"limit": limit(job)}))
        return
    work = SYSTEMS[name](job)
    begin = time.perf_counter()
    scores = work()
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "rmse": np.asarray(scores, float).tolist(), "versions": versions()}))


if __name__ == "__main__":
    main()
