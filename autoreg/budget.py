"""What a file's tensors allow a part to ask torch for while it is built as the file says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from autoreg.errors import ModelFileError

T = TypeVar("T")

FREE_ELEMENTS, FREE_TENSORS = 2_000_000, 10_000
"""Allowed beside some times what the file holds."""


class Budget(TorchFunctionMode):
    """While it is entered, many more tensors, or elements, than a file holds are a `ModelFileError`.

    Parameters
    ----------
    tensors : mapping
        What the file holds.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.elements = 16 * sum(tensor.numel() for tensor in tensors.values()) + FREE_ELEMENTS
        self.tensors = 100 * len(tensors) + FREE_TENSORS

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(tensor, Tensor) and not any(tensor is given for given in args):
                self.elements -= tensor.numel()
                self.tensors -= 1
        if self.tensors < 0 or self.elements < 0:
            raise ModelFileError("the model describes a network larger than its tensors")
        return result


def built_twice(make: Callable[[], T], check: Callable[[T], None], tensors: Mapping[str, Tensor]) -> T:
    """Build what a file describes: without memory at first, so that one which does not fit its tensors costs none.

    Raises
    ------
    ModelFileError
        When `check` does, or when it asks for much more memory than its tensors take. What `make` raises comes through.
    """
    try:
        with torch.device("meta"), Budget(tensors):
            outline = make()
    except ModelFileError:
        raise
    except Exception:  # code that reads a value while it is built cannot do without memory
        pass
    else:
        check(outline)
    with Budget(tensors):
        found = make()
    check(found)
    return found
