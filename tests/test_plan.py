"""How a plan's candidates are shared among stacks."""

from types import SimpleNamespace

import pytest

from autoreg.grouping import GPU_STACK_BYTES, STACK_BYTES, UNEVEN, _longest_of_two, stacks_of


def items(key, n, work=1.0, size=1):
    return [SimpleNamespace(key=key, work=work, bytes=size, place=(key, i)) for i in range(n)]


@pytest.mark.parametrize(
    ("groups", "sizes"),
    [
        ([("a", 8, 1.0)], [4, 4]),
        ([("a", 4, 1.0), ("b", 4, 1.3)], [4, 4]),
        ([("a", 6, 1.0), ("b", 1, 1.0)], [3, 3, 1]),
        ([("a", 4, 1.0), ("b", 4, 1.0), ("c", 4, 1.0)], [2, 2, 4, 4]),
        ([("a", 1, 9.0), ("b", 4, 1.0)], [1, 4]),
        ([("a", 1, 1.0)], [1]),
        ([], []),
    ],
)
def test_two_cores_have_about_equal_work_in_as_few_stacks_as_that_takes(groups, sizes):
    built = [item for key, n, work in groups for item in items(key, n, work)]
    stacks = stacks_of(built)
    assert [len(stack) for stack in stacks] == sizes
    assert [item.place for stack in stacks for item in stack] == [item.place for item in built]
    if max(sizes, default=1) > 1:
        assert _longest_of_two(stacks) <= max(UNEVEN * sum(i.work for i in built) / 2, max(i.work for i in built))


def test_a_stack_fits_into_memory():
    stacks = stacks_of(items("a", 10, size=STACK_BYTES // 3))
    assert [len(stack) for stack in stacks] == [2, 3, 2, 3]


def test_a_gpu_takes_larger_stacks_and_none_is_cut_for_a_second_core():
    assert [len(stack) for stack in stacks_of(items("a", 8), device="cuda")] == [8]
    large = GPU_STACK_BYTES // 3
    assert [len(stack) for stack in stacks_of(items("a", 4, size=large), device="cuda")] == [2, 2]
    assert GPU_STACK_BYTES > STACK_BYTES
