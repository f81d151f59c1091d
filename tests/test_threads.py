"""Functions side by side: whose error is raised, and what is left as it was."""

import threading

import pytest
import torch

from autoreg.processes import Stopped
from autoreg.threads import side_by_side


def test_the_error_that_stopped_the_others_is_raised():
    def waits(stop):
        assert stop.wait(30)
        raise Stopped("stopped")

    def fails(stop):
        raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        side_by_side([waits, fails, waits], n_jobs=2)


def test_later_threads_have_as_many_cores_as_before():
    def cores_of_a_new_thread():
        seen = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return seen[0]

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        meet = threading.Barrier(2)
        side_by_side([lambda stop: meet.wait(30), lambda stop: meet.wait(30) + stop.wait(0.2)], n_jobs=2)
        assert cores_of_a_new_thread() == 2
    finally:
        torch.set_num_threads(before)
