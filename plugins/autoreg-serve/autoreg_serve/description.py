"""The service as OpenAPI describes it, from the model's schema."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from autoreg_serve.bodies import CSV, JSON, READING
from autoreg_serve.served import Served, example_of

_TYPES = {
    "number": ["number", "null"],
    "boolean": ["boolean", "null"],
    "category": ["string", "number", "null"],
    "date": ["string", "null"],
}
_OPTIONS = {
    "sep": ("What separates the columns of a CSV body", "found out where not given"),
    "decimal": ("Decimal sign of a CSV body", "a point where not given"),
    "thousands": ("What groups thousands in a CSV body", "never guessed"),
    "na_values": ("A text of a CSV body that means missing", "NA, None, null and the like where none is given"),
}
"""What each is, and what holds in its absence, unless the model's table was read otherwise."""
_REFUSALS = {
    400: "The body, or a parameter, cannot be read.",
    406: "The header Accept wants neither JSON nor CSV.",
    408: "The body took too long to arrive.",
    413: "The body is too large, or has too many rows.",
    415: "The body is neither JSON nor CSV.",
    422: "The table's columns are not those of the model.",
    503: "Too many requests wait.",
}


def column_schema(column: Any) -> dict[str, Any]:
    """One column as JSON Schema.

    Examples
    --------
    >>> from autoreg.tables import Column
    >>> column_schema(Column("size", "number", minimum=30.0, maximum=45.0))
    {'type': ['number', 'null'], 'description': 'a number; 30 to 45 when fitted', 'examples': [37.5]}
    """
    types = _TYPES[column.kind]
    words = {"number": "a number", "boolean": "true or false", "category": "a category", "date": "a date"}
    text = words[column.kind]
    if column.kind == "number":
        if column.quantity is not None:
            types = ["number", "string", "null"]
        if column.minimum is not None and column.maximum is not None:
            text += f"; {column.minimum:.6g} to {column.maximum:.6g} when fitted"
    if column.kind == "category":
        text += f"; {len(column.levels)} levels were known when fitted, others are taken as unknown"
    if column.kind == "date" and column.formats:
        forms = [form for form in column.formats if form != "ISO8601"]
        types = ["number", "null"] if any(form.startswith("epoch") for form in forms) else ["string", "number", "null"]
        text += f"; written as {', '.join(column.formats)}"
    return {"type": types, "description": text, "examples": [example_of(column)]}


def row_schema(served: Served) -> dict[str, Any]:
    """One row of a request."""
    columns = {column.name: column_schema(column) for column in served.columns}
    return {
        "type": "object",
        "description": "One value a column; null where it is not known. Further columns are not used.",
        "properties": columns,
        "required": list(columns),
        "example": served.example(),
    }


def schemas(served: Served) -> dict[str, Any]:
    """The parts that paths refer to."""
    row = {"$ref": "#/components/schemas/Row"}
    columns = {
        column.name: {"type": "array", "items": column_schema(column)} for column in served.columns
    }  # fmt: skip
    answer = {name: {"type": ["number", "null"]} for name in served.targets}
    return {
        "Row": row_schema(served),
        "Rows": _object({"rows": {"type": "array", "minItems": 1, "items": row}}),
        "Columns": _object({"columns": {"type": "object", "properties": columns, "required": list(columns)}}),
        "Predictions": {
            **_object(
                {
                    "predictions": {"type": "array", "items": {"type": "object", "properties": answer}},
                    "notices": {"type": "array", "items": {"type": "string"}},
                }
            ),
            "description": "One object a row, in the order of the rows; notices say what was mended or not used.",
        },
        "Refusal": _object({"detail": {"type": "string", "description": "What is wrong and how to mend it."}}),
    }


def predict_operation(served: Served) -> dict[str, Any]:
    """What OpenAPI is told of ``POST /predict``."""
    row = served.example()
    either = {"oneOf": [{"$ref": "#/components/schemas/Rows"}, {"$ref": "#/components/schemas/Columns"}]}
    examples = {
        "rows": {"summary": "one object a row", "value": {"rows": [row]}},
        "columns": {"summary": "one list a column", "value": {"columns": {name: [cell] for name, cell in row.items()}}},
    }
    parameters = (
        [_parameter("interval", "Level of an interval, such as 0.9.", "number")] if served.has_intervals else []
    )
    told = served.manifest.get("reading", {})
    for name in READING:
        what, otherwise = _OPTIONS[name]
        if name in told:
            otherwise = f"{json.dumps(told[name])} where not given, as in the table that the model was fitted on"
        parameters.append(_parameter(name, f"{what}: {otherwise}.", "string"))
    answer = {**dict.fromkeys(served.targets, 0.0)}
    return {
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "description": "A table as JSON or CSV; with the header Content-Encoding: gzip also compressed.",
            "content": {
                JSON: {"schema": either, "examples": examples},
                CSV: {
                    "schema": {"type": "string"},
                    "example": _csv([list(row), list(row.values())], told.get("decimal") or "."),
                },
            },
        },
        "responses": {
            "200": {
                "description": "The predictions, in the order of the rows.",
                "content": {
                    JSON: {
                        "schema": {"$ref": "#/components/schemas/Predictions"},
                        "example": {"predictions": [answer], "notices": []},
                    },
                    CSV: {"schema": {"type": "string"}, "example": _csv([list(answer), list(answer.values())])},
                },
            },
            **{str(status): refusal(text) for status, text in _REFUSALS.items()},
        },
    }


def refusal(text: str) -> dict[str, Any]:
    """A response that is a sentence."""
    return {"description": text, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Refusal"}}}}


def introduction(served: Served) -> str:
    """What stands at the top of the page."""
    targets = " and ".join(f"`{name}`" for name in served.targets)
    manifest = served.manifest
    return (
        f"Predicts {targets} from {len(served.columns)} columns, with a model that autoreg {manifest['version']} "
        f"fitted on {manifest['n_rows']} rows (`{served.name}`).\n\n"
        "Columns are found by name; their order does not matter. What is wrong with a request is said in one sentence, "
        "as `detail`."
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _parameter(name: str, text: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": kind}}


def _csv(rows: list[list[Any]], decimal: str = ".") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="," if decimal == "." else ";", lineterminator="\n")
    for row in rows:
        writer.writerow([str(cell).replace(".", decimal) if isinstance(cell, float) else cell for cell in row])
    return text.getvalue()
