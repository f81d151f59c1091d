"""Checks of encodings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import autoreg.testing.engine as engine
import autoreg.testing.tensors as tensors
from autoreg.encoding import FoldStatistics, TableLayout, fold_statistics
from autoreg.errors import DataError
from autoreg.stacking import drawing, stack_modules
from autoreg.testing.onnx import exportable
from autoreg.testing.options import check_facts, check_options
from autoreg.testing.results import Check, Fault, Look, Report, concluded, look, told
from autoreg.testing.speed import beside

LAYOUTS = (
    TableLayout(3, (False, True, False), (5, 30)),
    TableLayout(2, (False, False), ()),
    TableLayout(0, (), (4,)),
    TableLayout(1, (True,), (3,)),
)
"""Tables of several shapes: mixed, numbers only, categories only, few."""

N_ROWS = 40


class Table(NamedTuple):
    """Rows of a layout, and the statistics of the first three quarters."""

    numbers: Tensor
    codes: Tensor
    statistics: FoldStatistics


def check_encoding(
    make: Callable[..., nn.Module], *, name: str | None = None, space: Mapping[str, Any] | None = None,
    raises: bool = True, **facts: Any,
) -> list[Check]:  # fmt: skip
    """Check an encoding against what `register_encodings` asks for.

    Parameters
    ----------
    make : function
        As it is registered: ``make(statistics, **options) -> nn.Module``.
    name : str, optional
        For the messages.
    space, **facts
        As they are registered.
    raises : bool
        Raise when a check fails; otherwise the list says it.

    Returns
    -------
    list of Check

    Raises
    ------
    ConformanceError
        An `AssertionError` that lists every failure.

    Examples
    --------
    >>> import torch
    >>> from autoreg.testing import check_encoding
    >>> class Centred(torch.nn.Module):
    ...     def __init__(self, statistics):
    ...         super().__init__()
    ...         self.n_features = statistics.layout.n_numbers
    ...         self.mean = torch.tensor(statistics.mean)
    ...     def forward(self, numbers, codes):
    ...         return torch.nan_to_num(numbers - self.mean.to(numbers.dtype))
    >>> failed = [check for check in check_encoding(Centred, raises=False) if check.status == "failed"]
    >>> print(failed[0].name, failed[0].detail.partition("; ")[0])
    statistics expected equal features from equal buffers and parameters, whatever fold the module was made for
    """
    name = name or getattr(make, "__name__", "own").strip("<>").lower()
    subject = _Subject(make, name, {**({"space": space} if space else {}), **facts})
    looks: list[tuple[str, Look]] = [
        ("shape", subject.shape),
        ("layouts", subject.layouts),
        ("finite", subject.finite),
        ("unchanged", subject.unchanged),
        ("rows", subject.rows),
        ("folds", subject.folds),
        ("statistics", subject.statistics),
        ("repeatable", subject.repeatable),
        ("halves", subject.halves),
        ("gradient", subject.gradient),
        ("facts", partial(check_facts, facts, {})),
        ("options", subject.options),
        ("stack", subject.stack),
        ("bfloat16", subject.bfloat16),
        ("saved", subject.saved),
        ("pickled", subject.pickled),
        ("onnx", subject.onnx),
        ("speed", subject.speed),
    ]
    return concluded(look(f"encoding {name}", "encodings", looks), raises)


def table(layout: TableLayout, seed: int = 0, dtype: torch.dtype = torch.float32) -> Table:
    """Rows with gaps, unseen codes, a constant number, and values far outside of the training rows.

    >>> table(LAYOUTS[0]).numbers.shape, table(LAYOUTS[0]).codes.shape
    (torch.Size([40, 3]), torch.Size([40, 2]))
    """
    draw = np.random.default_rng(seed)
    numbers = draw.normal(3 * seed, 1 + seed, size=(N_ROWS, layout.n_numbers)).astype(np.float32)
    for column, missing in enumerate(layout.may_miss):
        if missing:
            numbers[:: 5 + column, column] = np.nan
    codes = np.zeros((N_ROWS, len(layout.n_codes)), dtype=np.int32)
    for column, n in enumerate(layout.n_codes):
        codes[:, column] = draw.integers(0, n, N_ROWS)
    statistics = fold_statistics(numbers, codes, layout, np.arange(N_ROWS * 3 // 4))
    return Table(torch.from_numpy(numbers).to(dtype), torch.from_numpy(codes.astype(np.int64)), statistics)


class _Subject:
    def __init__(self, make: Callable[..., nn.Module], name: str, facts: Mapping[str, Any]) -> None:
        self.make, self.name, self.registered = make, name, facts
        self.numbers_only = self._refuses(LAYOUTS[0])
        self.layout = LAYOUTS[1] if self.numbers_only else LAYOUTS[0]

    def _refuses(self, layout: TableLayout) -> bool:
        """Whether it says in autoreg's own words that it does not take such tables."""
        try:
            self.make(table(layout).statistics)
        except DataError:
            return True
        except (Exception, SystemExit):  # the first check says so
            return False
        return False

    def build(self, given: Table, dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
        with drawing(seed):
            module = self.make(given.statistics)
        if not isinstance(module, nn.Module):
            raise Fault("make(statistics) to return an nn.Module", f"a {type(module).__name__}")
        return module.to(dtype).eval()

    def _pair(self, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Table]:
        given = table(self.layout, dtype=dtype)
        return self.build(given, dtype), given

    def shape(self) -> None:
        self._check_shape(self.layout)

    def _check_shape(self, layout: TableLayout) -> None:
        given = table(layout)
        module = self.build(given)
        n = getattr(module, "n_features", None)
        what = f"{layout.n_numbers} numbers and {len(layout.n_codes)} categories"
        if not isinstance(n, int) or n < 0:
            raise Fault(f"attribute n_features, a whole number, for {what}", repr(n))
        for rows in (slice(None), slice(0, 1)):
            numbers, codes = given.numbers[rows], given.codes[rows]
            tensors.check_tensor(
                module(numbers, codes), (len(numbers), n), torch.float32, f"{len(numbers)} rows, {what}"
            )

    def layouts(self) -> Report | None:
        refused = []
        for layout in LAYOUTS:
            if self._refuses(layout):
                refused.append(f"{layout.n_numbers} numbers and {len(layout.n_codes)} categories")
            else:
                self._check_shape(layout)
        return Report(f"refuses tables of {'; '.join(refused)}") if refused else None

    def finite(self) -> Report | None:
        module, given = self._pair()
        out = module(given.numbers, given.codes)
        gaps = bool(given.numbers.isnan().any())
        if gaps or not self.numbers_only:
            tensors.check_finite(out, "missing numbers and unseen categories")
        numbers = torch.full((4, self.layout.n_numbers), 1e6) * torch.tensor([[1.0], [-1.0], [0.0], [1e-6]])
        codes = torch.stack(
            [torch.zeros(4), torch.ones(4)][: len(self.layout.n_codes)] or [torch.zeros(4)], dim=1
        ).long()
        codes = codes[:, : len(self.layout.n_codes)]
        tensors.check_finite(module(numbers, codes), "numbers far outside of the training rows")
        if gaps or not self.numbers_only:
            nothing = torch.full_like(numbers, torch.nan)
            tensors.check_finite(module(nothing, codes), "rows of missing numbers, where none were missing before too")
        constant = given._replace(statistics=self._constant(given.statistics))
        tensors.check_finite(self.build(constant)(numbers, codes), "numbers that are constant in the training rows")
        if self.numbers_only:
            return Report("missing numbers not tried")
        return None

    @staticmethod
    def _constant(statistics: FoldStatistics) -> FoldStatistics:
        layout = statistics.layout
        codes = np.zeros((3, len(layout.n_codes)), dtype=np.int32)
        return fold_statistics(np.ones((3, layout.n_numbers), dtype=np.float32), codes, layout, np.arange(3))

    def unchanged(self) -> None:
        module, given = self._pair()
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        tensors.check_unchanged(module, [given.numbers, given.codes])
        for name, tensor in module.state_dict().items():
            if not torch.equal(tensor.nan_to_num(), before[name].nan_to_num()):
                raise Fault("the forward to leave the module as it is", f"a change of '{name}'")

    def rows(self) -> None:
        module, given = self._pair(torch.float64)
        for mode in ("eval", "train"):
            with drawing(0), torch.no_grad():
                whole = module.train(mode == "train")(given.numbers, given.codes)
                few = module(given.numbers[:7], given.codes[:7])
            if mode == "eval" or not self._draws(module, given):
                tensors.check_same(
                    few, whole[:7], "a row's features to follow from the row and the training rows' statistics alone",
                    f"others in other company, after module.{mode}(): validation rows would leak into each other",
                )  # fmt: skip

    @staticmethod
    def _draws(module: nn.Module, given: Table) -> bool:
        with drawing(0), torch.no_grad():
            state = torch.get_rng_state()
            module(given.numbers, given.codes)
            return not torch.equal(torch.get_rng_state(), state)

    def folds(self) -> None:
        """A module of one fold does not change when another fold's is made."""
        one, other = table(self.layout), table(self.layout, seed=1)
        module = self.build(one)
        before = module(one.numbers, one.codes)
        self.build(other)(other.numbers, other.codes)
        for which, again in (("the module itself", module), ("a module made again", self.build(one))):
            tensors.check_same(
                again(one.numbers, one.codes), before, f"the same features from {which} after another fold's was made",
                "others: something of the other fold is kept outside of the module", 0.0,
            )  # fmt: skip

    def statistics(self) -> None:
        """All that comes from a fold is in buffers and parameters: that is what is stacked, saved and loaded."""
        for layout in LAYOUTS:
            if self._refuses(layout):
                continue
            given, other = table(layout), table(layout, seed=1)
            module = self.build(given)
            wanted = module(given.numbers, given.codes)
            sources = {
                "another fold": other.statistics,
                "no rows at all, as a model is loaded": FoldStatistics.blank(layout),
            }
            for what, statistics in sources.items():
                try:
                    copy = self.build(given._replace(statistics=statistics), seed=1)
                    copy.load_state_dict(module.state_dict())
                except Exception as error:  # a stranger's code, or the shapes of its tensors
                    raise Fault(
                        f"a module of statistics of {what} that takes the state of a fold's: shapes follow from "
                        "statistics.layout and the options", told(error),
                    ) from error  # fmt: skip
                tensors.check_same(
                    copy(given.numbers, given.codes), wanted,
                    "equal features from equal buffers and parameters, whatever fold the module was made for",
                    "others: a fold's statistics are in plain attributes; use register_buffer", 0.0,
                )  # fmt: skip

    def repeatable(self) -> None:
        module, given = self._pair()
        tensors.check_repeats(module, [given.numbers, given.codes])

    def halves(self) -> str | None:
        """``learned(*fixed(...))`` is the forward, and what is fixed does not depend on parameters."""
        module, given = self._pair()
        has = [name for name in ("fixed", "learned") if callable(getattr(module, name, None))]
        if not has:
            return None
        if len(has) == 1:
            raise Fault("both methods, fixed and learned, or neither", f"only {has[0]}")
        if not vars(type(module)).get("leading_axes", False):
            return Report("fixed and learned are not used without leading_axes = True")
        fixed: Any = module.fixed
        learned: Any = module.learned
        features, codes = fixed(given.numbers, given.codes)
        if codes.shape != given.codes.shape or not torch.equal(codes, given.codes):
            raise Fault("the same codes from fixed", "others")
        if features.shape[:-1] != given.numbers.shape[:-1]:
            raise Fault(
                f"a row of features for each of {len(given.numbers)} rows from fixed", f"{tuple(features.shape)}"
            )
        tensors.check_same(
            learned(features, codes), module(given.numbers, given.codes), "learned(*fixed(...)) to equal the forward",
            "other features", 1e-6,
        )  # fmt: skip
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.3)
        tensors.check_same(
            fixed(given.numbers, given.codes)[0], features, "fixed to stay the same while parameters are trained",
            "other features for other parameters", 0.0,
        )  # fmt: skip
        return None

    def gradient(self) -> str | None:
        module, given = self._pair(torch.float64)
        parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not parameters:
            return None

        def function(*values: Tensor) -> Tensor:
            inputs = given.numbers, given.codes
            return torch.func.functional_call(module, dict(zip(parameters, values, strict=True)), inputs)

        names = [f"parameter '{name}'" for name in parameters]
        tensors.check_gradient(function, list(parameters.values()), names, n=4)
        return None

    def options(self) -> Report | str:
        def check(options: dict[str, Any]) -> None:
            other = _Subject(partial(self.make, **options), self.name, {})
            for function in (other.shape, other.finite, other.rows, other.statistics, other.gradient):
                function()

        return check_options("encoding", self.registered.get("space"), check)

    def stack(self) -> None:
        folds = [table(self.layout, seed, torch.float64) for seed in range(3)]
        modules = [self.build(fold, torch.float64, seed) for seed, fold in enumerate(folds)]
        numbers = torch.stack([fold.numbers for fold in folds])
        codes = torch.stack([fold.codes for fold in folds])
        together = stack_modules(modules)(numbers, codes)
        for m, module in enumerate(modules):
            tensors.check_same(
                together[m], module(numbers[m], codes[m]), "a stack of three folds to give each fold's own features",
                f"others for fold {m}: statistics belong in buffers, and with leading_axes = True they have a first "
                "axis M", 1e-9,
            )  # fmt: skip
        with self._offered() as name:
            engine.check_stack([{"encoding": name}], numbers_only=self.numbers_only)

    def bfloat16(self) -> None:
        with self._offered() as name:
            engine.check_half({"encoding": name}, numbers_only=self.numbers_only)

    def saved(self) -> None:
        with self._offered() as name:
            engine.check_saved({"encoding": name}, numbers_only=self.numbers_only)

    def pickled(self) -> None:
        with self._offered() as name:
            engine.check_pickled({"encoding": name}, numbers_only=self.numbers_only)

    def onnx(self) -> Report:
        module, given = self._pair()
        return exportable(module, given.numbers, given.codes)

    def speed(self) -> Report:
        given = table(self.layout)
        numbers, codes = given.numbers.repeat(50, 1), given.codes.repeat(50, 1)
        own, plain = self.build(given), engine.registry().get("encoding", "plain").thing(given.statistics)
        return beside(lambda: own(numbers, codes), lambda: plain(numbers, codes), "plain")

    def _offered(self) -> Any:
        return engine.offered("encoding", self.name, self.make, self.registered)
