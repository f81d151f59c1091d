"""The scikit-learn estimators: `NeuralRegressor` trains one network, `AutoRegressor` searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoreg import recording
from autoreg.auto import AutoRegressor
from autoreg.model import FittedModel
from autoreg.neural import NeuralRegressor
from autoreg.persistence import read_model


def load(path: str | Path, *, network: Any = None, activation: Any = None) -> NeuralRegressor | AutoRegressor:
    """Read a saved model.

    Parameters
    ----------
    path : str or Path
    network : nn.Module class, instance or factory, or list of them, optional
        The code of a network of the user's own; the file holds only its numbers and its label. Where the model holds
        several such networks, a list; each finds its own by the shapes of its numbers.
    activation : nn.Module class, instance or function, or list of them, optional
        The code of an activation of the user's own, likewise.

    Returns
    -------
    NeuralRegressor or AutoRegressor
        Fitted. Nothing in the file is imported, unpickled or run.

    Raises
    ------
    ModelFileError
        When the file is not a model, is damaged, or needs a part that is not installed.
    """
    manifest, tensors = read_model(path)
    described = manifest.pop("estimator", None)
    model = FittedModel.from_file(manifest, tensors, network, activation)
    searched = isinstance(described, dict) and described.get("class") == "AutoRegressor"
    estimator = AutoRegressor() if searched else NeuralRegressor()
    recording.estimator_from_json(estimator, described, model)
    return estimator


__all__ = ["AutoRegressor", "NeuralRegressor", "load"]
