"""What both estimators share: predicting, saving, and their tags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from autoreg import recording
from autoreg.arguments import read_for_predict
from autoreg.member import Point
from autoreg.model import FittedModel
from autoreg.persistence import write_model
from autoreg.tables import CodedTable


class TableRegressor(RegressorMixin, BaseEstimator):
    """What both estimators share: reading tables, predicting, saving."""

    model_: FittedModel

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags

    def predict(self, X: ArrayLike) -> NDArray[np.floating]:
        """Predict the target.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            A DataFrame's columns are found by name; their order and further columns do not matter.

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_targets)
            As `y` was at `fit`; float64, or float32 if `y` was float32.

        Raises
        ------
        SchemaError
            When a column is missing or has another kind than at `fit`.
        """
        check_is_fitted(self)
        return self._as_y(self.model_.predict(read_for_predict(self, X)))

    def predict_coded(self, tables: Sequence[CodedTable]) -> list[NDArray[np.floating]]:
        """Predict several small tables in one go, as a server does with the requests that wait.

        Parameters
        ----------
        tables : sequence of CodedTable
            Each as `schema_.encode` gives it.

        Returns
        -------
        list of array
            For each table what `predict` gives for it alone.
        """
        check_is_fitted(self)
        return [self._as_y(prediction) for prediction in self.model_.predict_coded(tables)]

    def __sklearn_is_fitted__(self) -> bool:
        # a fit that failed has noted the columns already
        return hasattr(self, "model_")

    def _as_y(self, prediction: NDArray[np.float64]) -> NDArray[np.floating]:
        """(N, O) in the shape and precision of the targets that were fitted."""
        if self._y_ndim == 1:
            prediction = prediction[:, 0]
        return prediction.astype(self._y_dtype, copy=False)

    def predict_outputs(self, X: ArrayLike, link: Point | None = None) -> NDArray[np.float64]:
        """Predict all that the networks give for each target, where the loss asks for several numbers.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        link : function, optional
            What is done with each network's outputs, a tensor (..., n_targets, outputs_per_target) in scaled units,
            before they are brought to the target's units and averaged; it works on the last axis.

        Returns
        -------
        array of shape (n_samples, n_targets, outputs_per_target)

        Raises
        ------
        OptionError
            When networks with different numbers of outputs were averaged.
        """
        check_is_fitted(self)
        return self.model_.predict_outputs(read_for_predict(self, X), link)

    def to_torch(self) -> torch.nn.Module:
        """The trained model as a plain `nn.Module` in evaluation mode.

        Returns
        -------
        nn.Module
            With one member, no encoding and no target scaling the user's or built-in network itself. Otherwise a
            module with ``forward(numbers, codes=None)``, numbers (B, Dn) with NaN where missing and codes (B, Dc) of
            `schema_.encode`, that returns (B, O) predictions in the target's units.
        """
        check_is_fitted(self)
        return self.model_.to_torch()

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the model to one file that holds numbers and names, no code.

        Parameters
        ----------
        path : str or Path
            Usually ends in ``.safetensors``.
        force : bool
            Replace an existing file.

        Raises
        ------
        OptionError
            When the file exists and `force` is False.
        """
        check_is_fitted(self)
        manifest = {**self.model_.to_manifest(), "estimator": recording.estimator_to_json(self)}
        write_model(path, manifest, self.model_.tensors(), force=force)

    @property
    def schema_(self) -> Any:
        """Names and kinds of the columns, as found at `fit`."""
        return self.model_.schema
