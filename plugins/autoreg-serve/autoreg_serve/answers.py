"""Predictions and refusals as bytes: JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from autoreg_serve.bodies import CSV, JSON, Refusal
from autoreg_serve.predictor import Prediction

MAX_NOTICES = 4000
"""Characters of a header that repeats notices."""


def media_wanted(accept: str | None) -> str:
    """JSON or CSV, whichever a header ``Accept`` wants more; JSON where it does not mind.

    Examples
    --------
    >>> media_wanted("*/*"), media_wanted("text/html, text/csv;q=0.9"), media_wanted(None)
    ('application/json', 'text/csv', 'application/json')
    """
    best, wanted = 0.0, None
    offers = {JSON: ("application/json", "application/*", "*/*"), CSV: ("text/csv", "text/*")}
    for part in (accept or "*/*").lower().split(","):
        media, *parameters = (item.strip() for item in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "q":
                quality = _quality(value)
        for offer, names in offers.items():
            if media in names and quality > best:
                best, wanted = quality, offer
    if wanted is None:
        raise Refusal(406, f"answers are {JSON} or {CSV}: name one of them in the header Accept")
    return wanted


def as_json(prediction: Prediction) -> bytes:
    """The prediction with one object a row; every float64 is written so that it is read as the same.

    Examples
    --------
    >>> import numpy as np
    >>> as_json(Prediction(["price"], np.array([[0.1 + 0.2]]), []))
    b'{"predictions": [{"price": 0.30000000000000004}], "notices": []}'
    """
    rows = [dict(zip(prediction.names, _finite(row), strict=True)) for row in prediction.values.tolist()]
    return json.dumps({"predictions": rows, "notices": prediction.notices}, allow_nan=False).encode()


def as_csv(prediction: Prediction) -> bytes:
    """The prediction as `autoreg predict` writes it.

    Examples
    --------
    >>> import numpy as np
    >>> as_csv(Prediction(["price"], np.array([[0.1 + 0.2]]), []))
    b'price\\n0.30000000000000004\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(prediction.names)
    writer.writerows(
        ["" if cell is None else repr(cell) for cell in _finite(row)] for row in prediction.values.tolist()
    )
    return text.getvalue().encode()


def as_header(notices: Sequence[str]) -> str:
    """Notices as a header may hold them: a JSON list in ASCII, of those that have room.

    Examples
    --------
    >>> as_header(["größer"])
    '["gr\\\\u00f6\\\\u00dfer"]'
    """
    kept = list(notices)
    while len(text := json.dumps(kept)) > MAX_NOTICES:
        kept.pop()
    return text


def _finite(row: list[float]) -> list[float | None]:
    return [cell if math.isfinite(cell) else None for cell in row]


def _quality(text: Any) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
