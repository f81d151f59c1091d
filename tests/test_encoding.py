"""What a fold's training rows say, and the encodings built from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from autoreg import encoding
from autoreg.builtins.encodings import Encoded, Untouched, pbld, plain, ple, standard
from autoreg.builtins.features import level_slots
from autoreg.encoding import N_QUANTILES, FoldStatistics, TableLayout, fold_statistics
from autoreg.errors import DataError, OptionError
from autoreg.stacking import stack_modules

LAYOUT = TableLayout(4, (True, False, True, False), (4, 7, 14, 40, 7))
"""Numbers: with gaps, normal, with gaps in one fold only, constant; categories: 2, 5, 12, 38 and 5 levels."""

ENCODINGS: list[Callable[..., nn.Module]] = [plain, standard, ple, pbld]


def table(n: int = 240) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=(n, 4)).astype(np.float32) * [3, 1, 100, 0] + [0, 5, -20, 7]
    numbers[draw.random(n) < 0.2, 0] = np.nan
    numbers[-3:, 2] = np.nan
    codes = np.stack([draw.integers(0, c, n) for c in LAYOUT.n_codes], axis=1)
    codes[:, 3] = np.minimum(draw.geometric(0.2, n) + 1, 39)
    codes[:, 0] = np.maximum(codes[:, 0], 2)
    return numbers.astype(np.float32), codes.astype(np.int32)


FOLDS = [np.arange(0, 200), np.arange(40, 240), np.r_[0:100, 150:230]]


def statistics(fold: int = 0) -> FoldStatistics:
    return fold_statistics(*table(), LAYOUT, FOLDS[fold])


def tensors() -> tuple[Tensor, Tensor]:
    numbers, codes = table()
    return torch.from_numpy(numbers), torch.from_numpy(codes)


def test_statistics_are_numpys() -> None:
    numbers, codes = table()
    rows = FOLDS[1]
    s = fold_statistics(numbers, codes, LAYOUT, rows)
    x = numbers[rows].astype(float)
    np.testing.assert_allclose(s.mean, np.nanmean(x, 0), rtol=1e-12)
    np.testing.assert_allclose(s.std, np.nanstd(x, 0), rtol=1e-12)
    np.testing.assert_array_equal(s.minimum, np.nanmin(x, 0))
    np.testing.assert_array_equal(s.maximum, np.nanmax(x, 0))
    np.testing.assert_allclose(s.missing, np.isnan(x).mean(0))
    np.testing.assert_allclose(s.quantiles, np.nanquantile(x, np.linspace(0, 1, N_QUANTILES), axis=0), rtol=1e-12)
    np.testing.assert_array_equal(s.median, s.quantiles[64])
    assert s.std[3] == 0
    assert s.n_rows == 200
    for c, counts in enumerate(s.counts):
        np.testing.assert_array_equal(counts, np.bincount(codes[rows, c], minlength=LAYOUT.n_codes[c]))


def assert_equal(one: FoldStatistics, other: FoldStatistics, but: tuple[str, ...] = ()) -> None:
    for field in fields(FoldStatistics):
        if field.name not in ("layout", *but):
            a, b = getattr(one, field.name), getattr(other, field.name)
            for x, y in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
                np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12, err_msg=field.name)


def test_a_row_of_weight_two_is_two_rows() -> None:
    numbers, codes = table()
    times = np.random.default_rng(1).integers(0, 4, len(numbers))
    repeated = np.repeat(np.arange(len(numbers)), times)
    weighted = fold_statistics(numbers, codes, LAYOUT, np.arange(len(numbers)), times.astype(float))
    plainly = fold_statistics(numbers, codes, LAYOUT, repeated)
    assert_equal(weighted, plainly, but=("n_rows",))
    assert weighted.n_rows == (times > 0).sum()


@pytest.mark.parametrize("weight", [1.0, 0.1, 1e-9])
def test_equal_weights_up_to_one_are_no_weights(weight: float) -> None:
    numbers, codes = table()
    weights = np.full(len(numbers), weight)
    same = fold_statistics(numbers, codes, LAYOUT, FOLDS[0], weights)
    assert_equal(same, statistics(), but=("counts",))
    for counts, wanted in zip(same.counts, statistics().counts, strict=True):
        np.testing.assert_allclose(counts, wanted * weight)


def test_other_rows_change_nothing() -> None:
    numbers, codes = table()
    rows = FOLDS[2]
    others = np.setdiff1d(np.arange(len(numbers)), rows)
    weights = np.random.default_rng(2).random(len(numbers)) * 3
    before = fold_statistics(numbers, codes, LAYOUT, rows, weights)
    numbers[others], codes[others], weights[others] = np.inf, 3, 1e9
    after = fold_statistics(numbers, codes, LAYOUT, rows, weights)
    for field in fields(FoldStatistics):
        np.testing.assert_equal(getattr(after, field.name), getattr(before, field.name))


def test_columns_without_a_value_and_folds_without_a_row() -> None:
    numbers = np.array([[np.nan, 1], [np.nan, 1]], dtype=np.float32)
    layout = TableLayout(2, (True, False), ())
    for weights in (None, np.ones(2), np.zeros(2)):
        s = fold_statistics(numbers, np.zeros((2, 0), np.int32), layout, np.arange(2), weights)
        assert s.mean[0] == s.std[0] == s.median[0] == 0
        assert np.isfinite(s.quantiles).all()
        assert plain(s)(torch.from_numpy(numbers), torch.zeros(2, 0)).isfinite().all()
    s = fold_statistics(numbers, np.zeros((2, 0), np.int32), layout, np.arange(2))
    assert s.missing.tolist() == [1, 0]


def test_many_rows_are_sampled_for_quantiles_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, codes = table()
    whole = statistics()
    monkeypatch.setattr(encoding, "QUANTILE_ROWS", 120)
    for weights in (None, np.ones(len(numbers))):
        sampled = fold_statistics(numbers, codes, LAYOUT, FOLDS[0], weights)
        assert_equal(sampled, whole, but=("quantiles", "median"))
        assert_equal(sampled, fold_statistics(numbers, codes, LAYOUT, FOLDS[0], weights))
        np.testing.assert_array_equal(sampled.quantiles[[0, -1]], whole.quantiles[[0, -1]])
        assert np.abs(sampled.quantiles - whole.quantiles)[:, 1].max() < 0.8
        assert (sampled.quantiles != whole.quantiles).any()


def test_layout_goes_through_json() -> None:
    assert TableLayout.from_json(LAYOUT.to_json()) == LAYOUT


def test_plain_scales_robustly_and_clips_smoothly() -> None:
    s = statistics()
    out = plain(s)(*tensors())[:, :4]
    x = np.nan_to_num((table()[0] - s.median) / np.where(s.std > 0, s.quantiles[96] - s.quantiles[32], np.inf))
    torch.testing.assert_close(out, torch.from_numpy(x / np.sqrt(1 + (x / 3) ** 2)).float())
    assert out.abs().max() < 3


def test_plain_falls_back_to_the_range_then_to_zero() -> None:
    numbers = np.array([[0, 7]] * 18 + [[4, 7], [0, 7]], dtype=np.float32)
    layout = TableLayout(2, (False, False), ())
    codes = np.zeros((20, 0), dtype=np.int32)
    encoded = plain(fold_statistics(numbers, codes, layout, np.arange(20)))
    z = encoded(torch.tensor([[4.0, 8.0]]), torch.zeros(1, 0))
    torch.testing.assert_close(z, torch.tensor([[2 / (1 + 4 / 9) ** 0.5, 0.0]]))


def test_standard_is_scikit_learns() -> None:
    numbers, _ = table()
    out = standard(statistics())(*tensors())[:, :4]
    wanted = np.nan_to_num(StandardScaler().fit(numbers[FOLDS[0]]).transform(numbers))
    torch.testing.assert_close(out, torch.from_numpy(wanted).float(), rtol=1e-5, atol=1e-6)


def test_flags_stay_silent_where_the_fold_misses_nothing() -> None:
    numbers = torch.full((1, 4), torch.nan)
    codes = torch.zeros(1, 5, dtype=torch.int32)
    assert statistics(0).missing[2] == 0
    assert plain(statistics(0))(numbers, codes)[0, 4:6].tolist() == [1, 0]
    assert plain(statistics(1))(numbers, codes)[0, 4:6].tolist() == [1, 1]


def test_few_levels_are_one_hot() -> None:
    s = statistics()
    encoded = plain(s)
    numbers = torch.zeros(5, 4)
    codes = torch.zeros(5, 5, dtype=torch.int32)
    codes[:, 0] = torch.tensor([0, 1, 2, 3, 3])
    codes[:, 1] = torch.tensor([0, 1, 2, 6, 4])
    codes[:, 4] = torch.tensor([0, 1, 3, 2, 2])
    out = encoded(numbers, codes)[:, 6:17]
    assert out[:, 0].tolist() == [0, 0, -1, 1, 1]  # two levels take one column
    assert out[:, 1:6].tolist() == [[0] * 5, [0] * 5, [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 1, 0, 0]]
    assert out[:, 6:].tolist() == [[0] * 5, [0] * 5, [0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_rare_levels_are_as_unseen() -> None:
    layout = TableLayout(0, (), (5, 5))
    codes = np.array([[2, 2]] * 5 + [[3, 3]] * 4 + [[4, 1]] * 2, dtype=np.int32)
    s = fold_statistics(np.zeros((11, 0), np.float32), codes, layout, np.arange(11))
    numbers, seen = torch.zeros(4, 0), torch.tensor([[4, 4], [1, 1], [0, 0], [3, 3]])
    one_hot = plain(s)(numbers, seen)
    assert one_hot.tolist() == [[0] * 6, [0] * 6, [0] * 6, [0, 1, 0, 0, 1, 0]]
    assert plain(s, min_count=2)(numbers, seen)[0].tolist() == [0, 0, 1, 0, 0, 0]
    vectors = plain(s, max_one_hot=0, embedding_size=2)(numbers, seen).unflatten(-1, (2, 2))
    torch.testing.assert_close(vectors[0], vectors[1])
    torch.testing.assert_close(vectors[1], vectors[2])
    assert (vectors[1] == 0).all()
    assert (vectors[3] != 0).all()
    assert (vectors[3, 0] != vectors[3, 1]).all()


def test_slots_of_a_capped_table_go_to_the_frequent() -> None:
    counts = np.array([0.0, 0, 5, 9, 2, 7, 9, 30])
    assert level_slots(counts, 62, 3, 8).tolist() == [1, 1, 2, 3, 1, 5, 6, 7]
    assert level_slots(counts, 62, 3, 5).tolist() == [1, 1, 1, 2, 1, 1, 3, 4]
    assert level_slots(counts / 62, 62, 3, 5).tolist() == [1, 1, 1, 2, 1, 1, 3, 4]
    assert level_slots(np.zeros(4), 0, 3, 4).tolist() == [1, 1, 1, 1]
    encoded = plain(statistics(), max_slots=6)
    assert encoded.embedded.weight.shape == (12, 8)
    assert encoded(*tensors()).isfinite().all()


def test_the_unseen_vector_learns_from_rare_levels() -> None:
    layout = TableLayout(0, (), (20,))
    codes = np.r_[np.full(30, 2), np.arange(3, 20)][:, None].astype(np.int32)
    s = fold_statistics(np.zeros((47, 0), np.float32), codes, layout, np.arange(47))
    encoded = plain(s)
    encoded(torch.zeros(47, 0), torch.from_numpy(codes)).sum().backward()
    gradient = encoded.embedded.weight.grad
    assert gradient[1].tolist() == [17.0] * 8
    assert gradient[2].tolist() == [30.0] * 8
    assert (gradient[3:] == 0).all()


def test_piecewise_linear_starts_linear_and_has_the_folds_bins() -> None:
    layout = TableLayout(1, (False,), ())
    numbers = np.arange(101, dtype=np.float32)[:, None]
    s = fold_statistics(numbers, np.zeros((101, 0), np.int32), layout, np.arange(101))
    encoded = ple(s, n_bins=4, size=1)
    layer = encoded.embedding
    z = encoded.scaling(torch.from_numpy(numbers))
    torch.testing.assert_close(layer(z), z * layer.weight + layer.bias)
    edges = torch.cat([layer.start[0], z[-1]])
    torch.testing.assert_close(edges, z[[0, 25, 50, 75, 100], 0])
    with torch.no_grad():
        layer.bins.copy_(torch.tensor([[[1.0, 10.0, 100.0, 1000.0]]]))
        layer.weight.zero_()
        layer.bias.zero_()
    torch.testing.assert_close(layer(z[[0, 25, 50, 75, 100]])[:, 0], torch.tensor([0.0, 1.0, 11.0, 111.0, 1111.0]))
    assert layer(z[25:51])[:, 0].diff().diff().abs().max() > 0  # smooth clipping bends the rows, not the pieces
    torch.testing.assert_close(layer(torch.lerp(edges[1], edges[2], 0.25).view(1, 1)), torch.tensor([[3.5]]))


def test_columns_with_few_values_have_fewer_bins() -> None:
    layout = TableLayout(2, (False, False), ())
    numbers = np.array([[0, 5], [1, 5], [0, 5]] * 20, dtype=np.float32)
    s = fold_statistics(numbers, np.zeros((60, 0), np.int32), layout, np.arange(60))
    layer = ple(s, n_bins=8).embedding
    assert (layer.gain > 0).sum(1).tolist() == [1, 0]
    two = fold_statistics(np.array([[0, 5]] * 30 + [[1, 5]] * 3, np.float32), np.zeros((33, 0)), layout, np.arange(33))
    assert ple(two)(torch.tensor([[0.5, 1.0]]), torch.zeros(1, 0)).isfinite().all()


def test_periodic_is_itself_and_waves() -> None:
    encoded = pbld(statistics())
    layer, z = encoded.embedding, encoded.scaling(tensors()[0])
    out = layer(z).unflatten(-1, (4, 4))
    torch.testing.assert_close(out[..., 0], z)
    waves = torch.cos(2 * torch.pi * layer.frequency * z.unsqueeze(-1) + layer.phase - torch.pi / 2)
    wanted = (waves.unsqueeze(-2) * layer.weight).sum(-1) + layer.bias
    torch.testing.assert_close(out[..., 1:], wanted, rtol=1e-4, atol=1e-5)
    assert pbld(statistics(), sigma=100.0).embedding.frequency.std() > 50


def test_untouched_hands_numbers_through() -> None:
    numbers = torch.tensor([[1.0, torch.nan]])
    layout = TableLayout(2, (False, True), ())
    module = Untouched(FoldStatistics.blank(layout))
    assert module(numbers, torch.zeros(1, 0)) is numbers
    assert module.n_features == 2
    with pytest.raises(DataError, match=r"takes numbers only, the table has 5 category columns: choose another"):
        Untouched(statistics())


@pytest.mark.parametrize("make", ENCODINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_dtypes(make: Callable[..., nn.Module], dtype: torch.dtype) -> None:
    numbers, codes = tensors()
    encoded = make(statistics()).to(dtype)
    out = encoded(numbers.to(dtype), codes)
    assert out.shape == (240, encoded.n_features)
    assert out.dtype == dtype
    assert out.isfinite().all()
    torch.testing.assert_close(encoded(numbers.to(dtype)[7:8], codes[7:8].long()), out[7:8])
    for n_numbers, n_codes in ((0, (4, 30)), (2, ()), (1, (3,)), (0, (2,))):
        layout = TableLayout(n_numbers, (True,) * n_numbers, n_codes)
        small = make(FoldStatistics.blank(layout)).to(dtype)
        x = small(torch.ones(3, n_numbers, dtype=dtype), torch.ones(3, len(n_codes), dtype=torch.int32))
        assert x.shape == (3, small.n_features)
        assert x.isfinite().all()


@pytest.mark.parametrize("make", ENCODINGS)
def test_a_stack_is_its_members(make: Callable[..., nn.Module]) -> None:
    numbers, codes = tensors()
    numbers = numbers.double()
    members: list[Encoded] = []
    for m, fold in enumerate((0, 1, 2, 1)):
        torch.manual_seed(m)
        members.append(make(statistics(fold), max_slots=9).double())  # type: ignore[arg-type]
    stack = stack_modules(members)
    rows = torch.stack([torch.randperm(240)[:50] for _ in members])
    out = stack(numbers[rows], codes[rows])
    gradients = torch.autograd.grad(out.sin().sum(), list(stack.parameters())) if out.requires_grad else ()
    for m, member in enumerate(members):
        alone = member(numbers[rows[m]], codes[rows[m]])
        torch.testing.assert_close(out[m], alone, rtol=0, atol=1e-12)
        own = torch.autograd.grad(alone.sin().sum(), list(member.parameters())) if alone.requires_grad else ()
        for a, b in zip(gradients, own, strict=True):
            torch.testing.assert_close(a[m], b, rtol=0, atol=1e-10)
    shared = stack(numbers, codes)  # one table for all members
    torch.testing.assert_close(shared[2], members[2](numbers, codes), rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", ENCODINGS)
def test_strange_rows_stay_finite_and_alone(make: Callable[..., nn.Module]) -> None:
    numbers, codes = tensors()
    encoded = make(statistics())
    before = encoded(numbers, codes)
    numbers, codes = numbers.clone(), codes.clone()
    numbers[0], numbers[1], numbers[2], numbers[3] = torch.nan, torch.inf, -torch.inf, 3e38
    codes[0], codes[1] = 0, 1
    after = encoded(numbers, codes)
    assert after.isfinite().all()
    torch.testing.assert_close(after[4:], before[4:], rtol=0, atol=0)


@pytest.mark.parametrize("make", ENCODINGS)
def test_numbers_may_ask_for_their_gradient(make: Callable[..., nn.Module]) -> None:
    numbers, codes = tensors()
    encoded = make(statistics()).double()
    x = numbers[:4].double().nan_to_num().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: encoded(x, codes[:4]), (x,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("make", ENCODINGS)
def test_a_blank_module_takes_a_saved_state(make: Callable[..., nn.Module]) -> None:
    fitted, blank = make(statistics()), make(FoldStatistics.blank(LAYOUT))
    blank.load_state_dict(fitted.state_dict())
    torch.testing.assert_close(blank(*tensors()), fitted(*tensors()), rtol=0, atol=0)


@pytest.mark.parametrize("make", ENCODINGS)
def test_chance_comes_from_the_seed_alone(make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(3)
    encoded = make(statistics())
    torch.manual_seed(3)
    again = make(statistics())
    torch.testing.assert_close(encoded(*tensors()), again(*tensors()), rtol=0, atol=0)
    state = torch.random.get_rng_state()
    encoded(*tensors())
    assert state.equal(torch.random.get_rng_state())


def test_roles_say_what_learns_slowly_and_what_decays() -> None:
    encoded: Any = pbld(statistics(), rate=0.1, embedding_rate=0.5)
    roles = encoded.embedding.parameter_roles
    assert {name: (role.rate, role.decay) for name, role in roles.items()} == {
        "frequency": (0.1, 1.0),
        "phase": (0.1, 0.0),
        "weight": (0.1, 1.0),
        "bias": (0.1, 0.0),
    }
    assert encoded.embedded.parameter_roles["weight"].rate == 0.5
    assert {role.kind for role in ple(statistics()).embedding.parameter_roles.values()} == {"embedding", "bias"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (plain, {"max_slots": 2}, "max_slots=2: give a number at least 3"),
        (plain, {"embedding_size": 0}, "embedding_size=0"),
        (plain, {"max_one_hot": -1}, "max_one_hot=-1"),
        (ple, {"n_bins": 0}, "n_bins=0"),
        (ple, {"size": 0}, "size=0"),
        (pbld, {"sigma": 0.0}, "sigma=0.0: give a number above 0"),
        (pbld, {"size": 1}, "size=1: give a number at least 2"),
        (pbld, {"n_frequencies": 0}, "n_frequencies=0"),
    ],
)
def test_impossible_options_are_said(make: Callable[..., nn.Module], options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make(statistics(), **options)
