"""One peer trains on one table of `accuracy.py`, in an environment of its own. Prints one line of JSON.

    python peers.py JOB        (JOB is JSON; accuracy.py starts this)

Each system is used as its documentation has it, with its defaults but for what is written here. Those that take no
time limit run to their end. Numbers and dates go in as numbers, everything else as text or as categories.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from suite import Table, spread_error


@dataclass(frozen=True)
class Job:
    """What one process does: train `system` on the training rows of a table, with `cores` threads."""

    system: str
    table: Table
    seed: int
    cap: int
    limit: float | None
    cores: int


@dataclass(frozen=True)
class Task:
    """A job's rows."""

    X: pd.DataFrame
    y: np.ndarray
    X_test: pd.DataFrame
    job: Job


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Dates as days, flags and numbers as floats, everything else as text; what is missing stays missing."""
    columns: dict[Any, Any] = {}
    for name, column in frame.items():
        if pd.api.types.is_datetime64_any_dtype(column):
            columns[name] = (column - pd.Timestamp(0, tz=column.dt.tz)) / pd.Timedelta(days=1)
        elif pd.api.types.is_numeric_dtype(column):  # of flags too
            columns[name] = column.to_numpy(float, na_value=np.nan)
        else:
            columns[name] = column.astype(object).map(str, na_action="ignore").astype(object)
    return pd.DataFrame(columns)


def texts(frame: pd.DataFrame) -> list[Any]:
    """Names of the columns that hold no numbers."""
    return [name for name in frame if frame[name].dtype == object]


def coded(task: Task, most: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame, list[int]]:
    """Both tables with texts as codes, the most frequent first, and where those columns are.

    A level that is not among the `most` frequent of the training rows, or missing, is -1.
    """
    train, test = plain(task.X), plain(task.X_test)
    names = texts(train)
    for name in names:
        levels = train[name].value_counts().index[:most]
        for frame in (train, test):
            frame[name] = levels.get_indexer(frame[name])
    return train, test, [train.columns.get_loc(name) for name in names]


def catboost(task: Task) -> np.ndarray:
    from catboost import CatBoostRegressor

    train, test = plain(task.X), plain(task.X_test)
    names = texts(train)
    for frame in (train, test):
        frame[names] = frame[names].fillna("missing")
    model = CatBoostRegressor(
        verbose=0, thread_count=task.job.cores, random_seed=task.job.seed, cat_features=names, allow_writing_files=False
    )
    return model.fit(train, task.y).predict(test)


def lightgbm(task: Task) -> np.ndarray:
    """300 trees: its default of 100 stops too early on most tables."""
    from lightgbm import LGBMRegressor

    train, test, where = coded(task)
    model = LGBMRegressor(n_estimators=300, n_jobs=task.job.cores, random_state=task.job.seed, verbose=-1)
    return model.fit(train.to_numpy(float), task.y, categorical_feature=where or "auto").predict(test.to_numpy(float))


def hist_gradient_boosting(task: Task) -> np.ndarray:
    """Takes at most 255 levels of a category: the rest counts as missing."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    train, test, where = coded(task, 254)
    model = HistGradientBoostingRegressor(categorical_features=where, random_state=task.job.seed)
    return model.fit(train.to_numpy(float), task.y).predict(test.to_numpy(float))


def flaml(task: Task) -> np.ndarray:
    """Its trees, without the linear model and the nearest neighbours that it may try as well."""
    from flaml import AutoML

    model = AutoML()
    model.fit(
        plain(task.X), task.y, task="regression", metric="rmse", time_budget=task.job.limit, n_jobs=task.job.cores,
        seed=task.job.seed, estimator_list=["lgbm", "xgboost", "rf", "extra_tree", "catboost"], verbose=0,
    )  # fmt: skip
    return model.predict(plain(task.X_test))


def autogluon(task: Task) -> np.ndarray:
    from autogluon.tabular import TabularPredictor

    train = task.X.assign(**{task.job.table.target: task.y})
    preset = task.job.system.partition(":")[2]
    with tempfile.TemporaryDirectory() as folder:
        model = TabularPredictor(task.job.table.target, problem_type="regression", path=folder, verbosity=0)
        model.fit(train, time_limit=task.job.limit, presets=preset, num_cpus=task.job.cores)
        return model.predict(task.X_test).to_numpy()


def realmlp(task: Task) -> np.ndarray:
    """Five folds, their networks averaged, as ours."""
    from pytabkit import RealMLP_TD_Regressor

    return _pytabkit(task, RealMLP_TD_Regressor, n_cv=5)


def tabm(task: Task) -> np.ndarray:
    from pytabkit import TabM_D_Regressor

    return _pytabkit(task, TabM_D_Regressor)


def _pytabkit(task: Task, cls: Any, **options: Any) -> np.ndarray:
    """It takes no missing numbers: the training rows' median stands for them, and a column says where."""
    import logging

    logging.disable(logging.WARNING)
    train, test = plain(task.X), plain(task.X_test)
    for name in list(train):
        if train[name].dtype == object:
            kind = pd.CategoricalDtype(train[name].dropna().unique())
            for frame in (train, test):
                frame[name] = frame[name].astype(kind)
            continue
        middle = train[name].median()
        if train[name].isna().any():
            for frame in (train, test):
                frame[f"{name} is missing"] = frame[name].isna().astype(float)
        for frame in (train, test):
            frame[name] = frame[name].fillna(0.0 if np.isnan(middle) else middle)
    model = cls(device="cpu", random_state=task.job.seed, n_threads=task.job.cores, verbosity=0, **options)
    return np.asarray(model.fit(train, task.y).predict(test)).ravel()


@dataclass(frozen=True)
class Peer:
    """How a system trains, its package, its environment (None: autoreg's own), and whether it takes a time limit."""

    fit: Callable[[Task], np.ndarray]
    package: str
    environment: str | None
    timed: bool = False


PEERS = {
    "autogluon:medium_quality": Peer(autogluon, "autogluon.tabular", "autogluon", timed=True),
    "flaml": Peer(flaml, "flaml", "flaml", timed=True),
    "catboost": Peer(catboost, "catboost", "catboost"),
    "lightgbm": Peer(lightgbm, "lightgbm", "lightgbm"),
    "hgb": Peer(hist_gradient_boosting, "scikit-learn", None),
    "realmlp_cv5": Peer(realmlp, "pytabkit", "pytabkit"),
    "tabm": Peer(tabm, "pytabkit", "pytabkit"),
}


def main() -> None:
    warnings.simplefilter("ignore")
    data = json.loads(sys.argv[1])
    job = Job(**{**data, "table": Table(**data["table"])})
    peer = PEERS[job.system]
    train, test = job.table.split(job.seed, job.cap)
    target = job.table.target
    y = train[target].to_numpy(float)
    prediction = peer.fit(Task(train.drop(columns=target), y, test.drop(columns=target), job))
    print(json.dumps({"nrmse": spread_error(test[target], prediction), "version": version(peer.package)}))


if __name__ == "__main__":
    main()
