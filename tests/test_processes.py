"""Work in forks: results, questions, errors and deaths arrive; a fit gives the same bits as in threads."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from autoreg import AutoRegressor
from autoreg.processes import Forks, ProcessEnded, Stopped, may_fork


class TwoArguments(Exception):
    """Cannot be unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class SaysMore(Exception):
    """Says something else once it has been unpickled."""

    def __init__(self, name):
        super().__init__(f"no column {name}")


def work(order, ask):
    if order == "pid":
        return os.getpid()
    if order == "error":
        raise LookupError("not there")
    if order == "strange error":
        raise TwoArguments(1, 2)
    if order == "error that says more":
        raise SaysMore("x")
    if order == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "leave":
        os._exit(3)
    if order == "lambda":
        return lambda: None
    return [ask(question) for question in range(order)]


def test_questions_are_answered_in_the_process_that_was_forked():
    with Forks(work, 1) as forks:
        assert forks.run(3, lambda question: (question, os.getpid())) == [(i, os.getpid()) for i in range(3)]
        assert forks.run("pid", None) != os.getpid()


def test_errors_arrive_and_the_fork_goes_on():
    with Forks(work, 1) as forks:
        before = forks.run("pid", None)
        with pytest.raises(LookupError, match="not there"):
            forks.run("error", None)
        with pytest.raises(Exception, match="1 and 2") as caught:
            forks.run("strange error", None)
        assert type(caught.value).__name__ == "TwoArguments"
        with pytest.raises(Exception, match=r"^no column x$"):
            forks.run("error that says more", None)
        assert forks.run("pid", None) == before


@pytest.mark.parametrize(("order", "how"), [("die", "by signal SIGKILL"), ("leave", "with status 3")])
def test_a_fork_that_dies_is_reported_and_replaced(order, how):
    with Forks(work, 1) as forks:
        before = forks.run("pid", None)
        with pytest.raises(ProcessEnded, match=how):
            forks.run(order, None)
        assert forks.run("pid", None) != before


def test_an_error_of_the_answer_ends_the_fork_and_another_takes_its_place():
    def refuse(question):
        raise KeyError(question)

    with Forks(work, 1) as forks:
        pid = forks.run("pid", None)
        for _ in range(3):
            with pytest.raises(KeyError):
                forks.run(2, refuse)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert forks.run(1, lambda question: question) == [0]


def test_nobody_waits_for_a_fork_when_all_is_stopped():
    def stop(question):
        raise Stopped("stopped")

    with Forks(work, 1) as forks:
        for _ in range(3):
            with pytest.raises(Stopped):
                forks.run(2, stop)


def test_results_that_cannot_be_sent_are_errors():
    with Forks(work, 1) as forks:
        with pytest.raises(Exception, match="lambda"):
            forks.run("lambda", None)
        assert forks.run(0, None) == []


def test_what_the_group_is_told_is_not_for_forks():
    with Forks(work, 1) as forks:
        pid = forks.run("pid", None)
        assert os.getpgid(pid) == pid != os.getpgid(0)
        os.kill(pid, signal.SIGINT)
        assert forks.run("pid", None) == pid


def test_a_fork_that_ended_meanwhile_is_replaced_before_it_is_asked():
    with Forks(work, 1) as forks:
        pid = forks.run("pid", None)
        os.kill(pid, signal.SIGKILL)
        while _is_alive(pid):
            time.sleep(0.01)
        assert forks.run("pid", None) != pid


def test_threads_use_a_fork_each():
    meet, pids = threading.Barrier(2), []

    def one():
        forks.run(1, lambda question: meet.wait(30))
        pids.append(forks.run("pid", None))

    with Forks(work, 2) as forks:
        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(pids) == 2


ALONE = """
import os, sys, time
from autoreg.processes import Forks
forks = Forks(lambda order, ask: [ask(os.getpid()) for _ in range(order)], 2)
def answer(pid):
    print(pid, flush=True)
    time.sleep(600)
forks.run(2, answer)
"""


def test_forks_end_when_their_process_is_killed():
    with subprocess.Popen([sys.executable, "-c", ALONE], stdout=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline())
        process.kill()
    for _ in range(100):
        if not _is_alive(pid):
            return
        time.sleep(0.05)
    raise AssertionError("the fork lives on")


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_a_process_in_which_others_have_threads_is_not_forked():
    def ask(found):
        found.append(may_fork())

    assert may_fork() == (sys.platform == "linux")
    found = []
    thread = threading.Thread(target=ask, args=[found])
    thread.start()
    thread.join()
    assert found == [False]


def test_objects_of_a_users_are_used_in_the_users_process(monkeypatch):
    monkeypatch.setattr("autoreg.search.WORTH_FORKS", 0)
    pids = set()

    def loss(prediction, target):
        pids.add(os.getpid())
        return (prediction - target).square().sum(-1)

    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60.0)
    space = {"max_epochs": [2]}
    for losses in ([loss], ["mse"]):
        AutoRegressor(effort="quick", losses=losses, space=space, companions=None, n_jobs=2, verbose=0).fit(X, y)
    assert pids == {os.getpid()}


def test_the_same_bits_in_forks_and_threads(monkeypatch):
    X, y = np.random.default_rng(0).normal(size=(90, 3)), np.arange(90.0)
    given = {"effort": "quick", "space": {"max_epochs": [4]}, "companions": None, "random_state": 0, "verbose": 0}
    monkeypatch.setattr("autoreg.search.WORTH_FORKS", 0)
    apart = AutoRegressor(**given, n_jobs=2).fit(X, y).predict(X)
    monkeypatch.setattr("autoreg.search.may_fork", lambda: False)
    for jobs in (1, 2):
        np.testing.assert_array_equal(AutoRegressor(**given, n_jobs=jobs).fit(X, y).predict(X), apart)


DYING = """
import os
from autoreg import hookimpl
from torch import nn

class Dying(nn.Module):
    def forward(self, x):
        if self.training:
            os._exit(7)
        return x

@hookimpl
def register_activations(register):
    register("dying", Dying)
"""


def _fit(table, folder, *options):
    command = [sys.executable, "-m", "autoreg", "fit", str(table), "--target", "y", "--effort", "quick"]
    return subprocess.run([*command, "-o", str(folder), *options], capture_output=True, text=True)


@pytest.fixture
def table(tmp_path):
    rows = "\n".join(f"{i % 7},{i % 11},{(i % 7) * (i % 11)}" for i in range(60))
    path = tmp_path / "table.csv"
    path.write_text(f"a,b,y\n{rows}\n")
    return path


def test_the_same_bits_in_forks_as_in_one_process(table, tmp_path):
    files = []
    for jobs in ("1", "2"):
        done = _fit(table, tmp_path / f"{jobs}.safetensors", "--jobs", jobs, "--space", "max_epochs=60")
        assert done.returncode == 0, done.stderr
        files.append(load_file(tmp_path / f"{jobs}.safetensors"))
    assert files[0].keys() == files[1].keys()
    assert all(files[0][name].tobytes() == files[1][name].tobytes() for name in files[0])


def test_a_plugin_that_ends_its_process_fails_alone(table, tmp_path):
    plugin = tmp_path / "dying.py"
    plugin.write_text(DYING)
    options = ("--plugin", str(plugin), "--activation", "dying", "--activation", "relu", "--jobs", "2")
    done = _fit(table, tmp_path / "m.safetensors", *options, "--space", "max_epochs=90", "--companions", "none")
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [sys.executable, "-m", "autoreg", "show", str(tmp_path / "m.safetensors")], capture_output=True, text=True
    )
    assert "ended with status 7" in shown.stdout
