"""JSON from strangers: read with bounds, and written so that it can be read again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from autoreg.errors import ModelFileError

MAX_TOKENS = 1_000_000
MAX_DEPTH = 64
MAX_STRING = 1 << 20

_TOKEN = re.compile(r'"[^"]*"?|[][{},]')
_HALF_PAIR = re.compile(
    r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]", re.DOTALL
)


def read_json(text: str | bytes, what: str, *, max_string: int = MAX_STRING) -> Any:
    """Parse JSON that may be hostile.

    Parameters
    ----------
    text : str or bytes
        ASCII only, so that no string takes more memory than it has characters. Its length is for the caller to bound.
    what : str
        What a message calls it.
    max_string : int
        Bound on a string's characters as they are written.

    Raises
    ------
    ModelFileError
        When it is no JSON; for a key that stands twice in an object, NaN or infinity, an integer beyond 64 bits or half
        of a surrogate pair; for too many strings, brackets and commas, too deep nesting or too long strings.

    Examples
    --------
    >>> read_json('{"a": [1, 2.5, null]}', "manifest")
    {'a': [1, 2.5, None]}
    >>> read_json('{"a": 1, "a": 2}', "manifest")
    Traceback (most recent call last):
        ...
    autoreg.errors.ModelFileError: has a manifest with two entries 'a' in one object
    """
    if not text.isascii():
        raise ModelFileError(f"has a {what} with bytes that are not ASCII")
    text = text.decode("ascii") if isinstance(text, bytes) else text
    _check_text(text, what, max_string)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            twice = next(key for key, _ in items if found.pop(key, items) is items)
            raise ModelFileError(f"has a {what} with two entries {quoted(twice)} in one object")
        return found

    def whole(digits: str) -> int:
        if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
            raise ModelFileError(f"has a {what} with an integer beyond 64 bits: {quoted(digits)}")
        return int(digits)

    def real(digits: str) -> float:
        if len(digits) > 64 or not math.isfinite(float(digits)):
            raise ModelFileError(f"has a {what} with a number beyond float64: {quoted(digits)}")
        return float(digits)

    def constant(word: str) -> NoReturn:
        raise ModelFileError(f"has a {what} with {word}, which is not JSON")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_int=whole, parse_float=real, parse_constant=constant)
    except ModelFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"has a {what} that is not JSON: {error}") from None


def _check_text(text: str, what: str, max_string: int) -> None:
    """Bound depth, strings and the number of values without building one, and find half surrogate pairs."""
    # With escaped backslashes and then escaped quotes gone, every quote that is left begins or ends a string.
    bare = text.replace("\\\\", "__").replace('\\"', "__")
    if _HALF_PAIR.search(bare):
        raise ModelFileError(f"has a {what} with half of a surrogate pair")
    depth = 0
    for count, token in enumerate(_TOKEN.finditer(bare)):
        start, end = token.span()
        first = bare[start]
        if first == '"':
            if end - start - 2 > max_string:
                raise ModelFileError(f"has a {what} with a string of {end - start - 2} characters")
        elif first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ModelFileError(f"has a {what} nested deeper than {MAX_DEPTH}")
        elif first in "]}":
            depth -= 1
        if count >= MAX_TOKENS:
            raise ModelFileError(f"has a {what} with more than {MAX_TOKENS} strings, brackets and commas")


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """Bring a value to the types that JSON has; NaN and infinite numbers become None.

    A message calls the value `where`. Nothing is measured but the depth: `read_json` refuses what is too long for it.

    Raises
    ------
    ModelFileError
        For anything that JSON does not hold.

    Examples
    --------
    >>> plain({"a": (1, float("nan"))}, "manifest")
    {'a': [1, None]}
    """
    import numpy as np

    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth >= MAX_DEPTH:  # a value that holds itself ends here too
        raise ModelFileError(f"{where[:60]}... is nested deeper than {MAX_DEPTH}: no model file can hold it")
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str(key): plain(item, f"{where}[{quoted(key)}]", depth + 1) for key, item in value.items()}
    raise ModelFileError(f"{where} is {quoted(value)}: JSON, and so a model file, holds no such thing")


def quoted(value: object) -> str:
    """A value from a file as it can stand in a message of one line.

    >>> quoted("a\\nb"), len(quoted("x" * 1000))
    ("'a\\\\nb'", 63)
    """
    if isinstance(value, str | list):
        value = value[:80]
    text = ascii(value)
    return text if len(text) <= 63 else text[:60] + "..."
