"""What the tests of tables share."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from autoreg.tables import CodedTable, Schema

N = 40
"""Rows of `two_columns`."""


def two_columns(**more: Any) -> pd.DataFrame:
    return pd.DataFrame({"size": np.arange(N) * 1.5, "town": ["Bonn", "Ulm"] * (N // 2), **more})


def towns(*names: Any) -> pd.DataFrame:
    return pd.DataFrame({"size": [1.5] * len(names), "town": list(names)})


def round_trip(schema: Schema) -> Any:
    return json.loads(json.dumps(schema.to_json(), allow_nan=False))


def same(one: CodedTable, other: CodedTable) -> bool:
    """Whether two coded tables are equal to the last bit."""
    return (
        one.numbers.tobytes() == other.numbers.tobytes()
        and one.codes.tobytes() == other.codes.tobytes()
        and one.number_names == other.number_names
        and one.code_names == other.code_names
    )
