"""The training loop: one stack of members, from first weights to the weights of each candidate's best epoch.

Knows tensors and functions, no names.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoreg.batches import Batches, EpochBatches, Order
from autoreg.inputs import Data, Inputs
from autoreg.member import Member, has_views, step_buffers
from autoreg.parameters import FlatParameters, Snapshot
from autoreg.schedules import Timeline
from autoreg.specs import CandidateOutcome, OnEpoch, StackSpec
from autoreg.stacking import keep_members, mapped_forwards, stack_modules
from autoreg.updates import Updates, infer_roles

VALIDATION_ELEMENTS = 1 << 13
"""Rows times members that one validation chunk holds: what they need stays in a core's cache."""

GPU_VALIDATION_ELEMENTS = 1 << 20
"""The same on a GPU, with up to 16 numbers a row; with more it is less, since encodings hold many for each."""

PREPARED_ELEMENTS = 1 << 20
"""Rows times members times targets whose numbers are looked up at once."""


def train_stack(spec: StackSpec, data: Data, on_epoch: OnEpoch | None = None) -> list[CandidateOutcome]:
    """Train all members of a stack together.

    Parameters
    ----------
    spec : StackSpec
    data : Data
    on_epoch : function, optional
        Called after each epoch with its number (from 1) and all outcomes so far by candidate. It may return another
        last epoch: what is left of the schedule is then spread over the epochs up to there, and none is left where it
        is not later than the present one.

    Returns
    -------
    list of CandidateOutcome
        In the order of the candidates' first members.
    """
    run = StackRun(spec, data)
    epoch = 0
    while run.members and epoch < run.timeline.last:
        epoch += 1
        begin = time.perf_counter()
        train_loss = run.train_epoch(epoch)
        run.validate(epoch, train_loss)
        run.account(time.perf_counter() - begin)
        last = on_epoch(epoch, run.outcomes) if on_epoch is not None else None
        if last is not None:
            run.end_with(epoch, last)
    run.finish()
    return list(run.outcomes.values())


def wait_for(patience: float, best: int, last: int) -> float:
    """How many epochs after its best one a candidate may go on."""
    return max(patience * best, last / 5) if isinstance(patience, float) else patience


class StackRun:
    """The state of a stack in training."""

    def __init__(self, spec: StackSpec, data: Data) -> None:
        # one optimizer's members side by side; sorted() keeps a candidate's members together
        keys = list(dict.fromkeys(member.optimizer.key for member in spec.members))
        self.spec = spec
        self.members = sorted(spec.members, key=lambda member: keys.index(member.optimizer.key))
        self.timeline = Timeline(spec.max_epochs)
        self.data = data
        self.outcomes = {member.candidate: CandidateOutcome(member.candidate) for member in spec.members}
        stack = stack_modules([member.module for member in self.members], [m.seed for m in self.members])
        assert isinstance(stack, Member)
        self.device = data.target.device
        self.stack = stack.to(self.device, spec.dtype)
        # the target's scale stays float64: a float32 target far from zero would lose its digits
        self.stack.center = torch.stack([member.module.center for member in self.members]).to(self.device)
        self.stack.spread = torch.stack([member.module.spread for member in self.members]).to(self.device)
        logs = any(bool(member.module.log.any()) for member in self.members)
        self.log_target = data.target.log() if logs else None
        encodings = [(member.encoding_key, member.module.encoding) for member in self.members]
        self.inputs = Inputs(encodings, self.stack, data, spec.dtype)
        self.store = FlatParameters(self.stack, spec.half)
        self.updates = Updates([member.optimizer for member in self.members], self.store, infer_roles(self.stack))
        self.batches = Batches(
            [Order(member.seed, member.train, member.batch_size, member.subsample) for member in self.members],
            data.sample_weight,
            self.device,
        )
        self.mapped = mapped_forwards(self.stack)
        self._arrange()

    def _arrange(self) -> None:
        """Find out once what every step asks of the members that are left."""
        groups: dict[Hashable, list[int]] = {}
        for m, member in enumerate(self.members):
            groups.setdefault(member.loss.key, []).append(m)
        self.loss_groups = list(groups.values())
        self.step_counters = step_buffers(self.stack)

    def train_epoch(self, epoch: int) -> Tensor:
        """One pass over each member's rows; returns the mean training loss, (M,)."""
        batches = self.batches.epoch(epoch, self.spec.dtype)
        rates = self.learning_rates(epoch)
        self.stack.train()
        total = self.train_steps(batches, rates, 0, batches.n_steps)
        steps = torch.tensor(self.batches.n_steps, dtype=self.spec.dtype, device=self.device)
        return total / steps

    def train_steps(self, batches: EpochBatches, learning_rates: Tensor, start: int, stop: int) -> Tensor:
        """Some of an epoch's steps; returns the sum of each member's losses, (M,).

        Parameters
        ----------
        batches : EpochBatches
        learning_rates : Tensor, (S, M)
            Of all the epoch's steps.
        start, stop : int
        """
        total = torch.zeros(len(self.members), dtype=self.spec.dtype, device=self.device)
        # what needs no network is prepared for many steps at once
        many = max(1, PREPARED_ELEMENTS // (len(self.members) * batches.rows.shape[2] * self.data.target.shape[1]))
        for first in range(start, stop, many):
            rows, weight, counts = batches.steps(first, min(first + many, stop))
            target = self._scaled_target(rows)
            active = torch.from_numpy((counts > 0).astype(np.int64)).to(self.device)
            for s in range(len(rows)):
                idle = np.flatnonzero(counts[s] == 0).tolist()
                for mapped in self.mapped:
                    mapped.begin_step(counts[s], rows.shape[2])
                total += self._step(rows[s], weight[s], target[s], learning_rates[first + s], idle)
                if self.step_counters:
                    torch._foreach_add_(self.step_counters, [active[s]] * len(self.step_counters))
        return total

    def _step(self, rows: Tensor, weight: Tensor, target: Tensor, learning_rate: Tensor, idle: Sequence[int]) -> Tensor:
        """One step of all members; returns each member's loss, (M,)."""
        output = self.inputs.forward(rows).to(self.spec.dtype)
        losses = (self._row_losses(output, target) * weight).sum(1)
        parameters = list(self.store.parameters.values())
        if parameters:
            # each member's gradient is that of its own loss; given what to multiply by, torch imports sympy first
            gradients = torch.autograd.grad(losses.sum(), parameters, allow_unused=True)
            self.updates.step(gradients, learning_rate, idle)
        return losses.detach()

    def _row_losses(self, output: Tensor, target: Tensor) -> Tensor:
        """(M, B) losses; each group of members with one loss by itself."""
        if has_views(output, stacked=True):
            target = target.unsqueeze(-2).expand(*output.shape[:-1], target.shape[-1])
        if len(self.loss_groups) == 1:
            losses = self.members[0].loss.function(output, target)
        else:
            parts = [self.members[g[0]].loss.function(output[g], target[g]) for g in self.loss_groups]
            order = torch.tensor([m for g in self.loss_groups for m in g], device=self.device).argsort()
            losses = torch.cat(parts)[order]
        return losses.mean(-1) if losses.ndim == 3 else losses

    def _scaled_target(self, rows: Tensor) -> Tensor:
        """(..., M, B) rows to (..., M, B, O) targets as the losses see them."""
        target = self.data.target[rows]
        if self.log_target is not None:
            target = torch.where(self.stack.log.unsqueeze(1), self.log_target[rows], target)
        return ((target - self.stack.center.unsqueeze(1)) / self.stack.spread.unsqueeze(1)).to(self.spec.dtype)

    def learning_rates(self, epoch: int) -> Tensor:
        """(S, M): each step's learning rates."""
        steps = self.batches.n_steps
        table = np.zeros((max(steps), len(self.members)))
        factors: dict[Hashable, list[float]] = {}
        for m, member in enumerate(self.members):
            key = steps[m], member.schedule
            if key not in factors:
                factors[key] = [member.schedule(self.timeline.at(epoch, s, steps[m])) for s in range(steps[m])]
            table[: steps[m], m] = np.multiply(factors[key], member.learning_rate)
        return torch.from_numpy(table).to(self.device, self.spec.dtype)

    def validate(self, epoch: int, train_loss: Tensor) -> None:
        """Score all members, note what is best so far, and let candidates leave that failed or ran out of patience."""
        finite = torch.isfinite(train_loss).tolist()
        losses = train_loss.tolist()
        last = epoch == self.timeline.last
        scored = len(self.members[0].valid) > 0 and (self.spec.choose_epoch or last or self.spec.patience is not None)
        predictions, scores = self._score() if scored else (None, [float("nan")] * len(self.members))
        leaving = []
        for candidate, places in self._places().items():
            outcome = self.outcomes[candidate]
            outcome.train_curve.append(float(np.mean([losses[m] for m in places])))
            mean = float(np.mean([scores[m] for m in places]))
            if scored:
                outcome.curve.append(mean if np.isfinite(mean) else math.nan)
            outcome.failure = self._failure(epoch, all(finite[m] for m in places), mean if scored else 0.0)
            if outcome.failure:
                leaving += places
                continue
            better = mean > outcome.score
            if (scored and better and self.spec.choose_epoch) or (last and not (self.spec.choose_epoch and scored)):
                outcome.epoch, outcome.score = epoch, mean
                self._note(outcome, places, predictions)
            elif self._is_out_of_patience(epoch - outcome.epoch, outcome.epoch):
                leaving += places
                continue
            if self.spec.stop and self.spec.choose_epoch and not last and self.spec.stop(candidate, outcome.curve):
                outcome.pruned = epoch
                leaving += places
        if scored and self.spec.choose_epoch and not last:
            leaving += self._weakest(epoch, set(leaving))
        if leaving:
            self._leave(set(leaving))

    def _failure(self, epoch: int, finite: bool, score: float) -> str:
        """Why a candidate cannot go on; empty where it can."""
        if not finite:
            return f"not finite in epoch {epoch}: a smaller learning rate may help"
        if score == -math.inf and not self.spec.choose_epoch:
            return (
                f"epoch {epoch} has predictions for which the metric has no value: "
                "a loss with a log link keeps them positive"
            )
        if not np.isfinite(score) and score != -math.inf:
            return f"score not finite in epoch {epoch}: a smaller learning rate, or more validation rows, may help"
        return ""

    def _is_out_of_patience(self, waited: int, best: int) -> bool:
        patience = self.spec.patience
        return patience is not None and waited >= wait_for(patience, best, self.timeline.last)

    def _weakest(self, epoch: int, leaving: set[int]) -> list[int]:
        """The places of those that a rung at this epoch leaves no room for."""
        room = [share for t, share in self.spec.rungs if self.timeline.passes(t, epoch)]
        if not room:
            return []
        left = {candidate: places for candidate, places in self._places().items() if places[0] not in leaving}
        ranked = sorted(left, key=lambda candidate: -self.outcomes[candidate].score)
        weakest = ranked[math.ceil(min(room) * len(self.outcomes)) :]
        for candidate in weakest:
            self.outcomes[candidate].pruned = epoch
        return [m for candidate in weakest for m in left[candidate]]

    def end_with(self, epoch: int, last: int) -> None:
        """Move the end of training to another epoch; one that is over ends it now."""
        if last > epoch:
            self.timeline.move_end(epoch, last)
            return
        unnoted = {c: places for c, places in self._places().items() if self.outcomes[c].snapshot is None}
        if unnoted:
            # all epochs should have run, and the last one have counted: this is the last one now
            scored = len(self.members[0].valid) > 0
            predictions = self._score()[0] if scored else None
            for candidate, places in unnoted.items():
                self.outcomes[candidate].epoch = epoch
                self._note(self.outcomes[candidate], places, predictions)
        self.timeline.last = epoch

    def _places(self) -> dict[int, list[int]]:
        """The places of each candidate's members in the stack."""
        places: dict[int, list[int]] = {}
        for m, member in enumerate(self.members):
            places.setdefault(member.candidate, []).append(m)
        return places

    @torch.no_grad()
    def _score(self) -> tuple[list[NDArray[np.float64]], list[float]]:
        """Predictions (V, O) and score of each member on its validation rows."""
        before = self._use_averaged()
        self.stack.eval()
        for mapped in self.mapped:
            mapped.counts = None
        longest = max(len(member.valid) for member in self.members)
        rows = np.stack([np.resize(member.valid, longest) for member in self.members])
        weight = np.stack([np.arange(longest) < len(member.valid) for member in self.members]).astype(float)
        if self.data.sample_weight is not None:
            weight = weight * self.data.sample_weight[rows]
        index = torch.from_numpy(rows).to(self.device)
        most = VALIDATION_ELEMENTS
        if self.device.type != "cpu":
            most = max(most, GPU_VALIDATION_ELEMENTS * 16 // max(16, self.inputs.numbers.shape[1]))
        chunk = max(64, most // len(self.members))
        prediction = torch.cat([self._predict(part) for part in index.split(chunk, dim=1)], dim=1)
        scores = self.spec.score(self.data.target[index], prediction, torch.from_numpy(weight).to(self.device)).tolist()
        if before is not None:
            self.store.load(before)
        found = prediction.cpu()
        arrays = [found[m, : len(member.valid)].numpy() for m, member in enumerate(self.members)]
        return arrays, scores

    def _use_averaged(self) -> Tensor | None:
        averaged = self.updates.evaluation()
        return None if averaged is None else self.store.load(averaged)

    def _predict(self, rows: Tensor) -> Tensor:
        output = self.inputs.forward(rows).to(self.spec.dtype)
        points = {member.loss.point for member in self.members}
        views = has_views(output, stacked=True)
        if len(points) == 1:
            return self.stack.original_units(output, points.pop(), views)
        parts = []
        for m, member in enumerate(self.members):
            one = output[m] if member.loss.point is None else member.loss.point(output[m])
            parts.append(one.mean(-2) if views else one)
        return self.stack.original_units(torch.stack(parts), None, False)

    @torch.no_grad()
    def _note(
        self,
        outcome: CandidateOutcome,
        places: list[int],
        predictions: list[NDArray[np.float64]] | None,
    ) -> None:
        """Keep a candidate's weights and predictions of now."""
        before = self._use_averaged()
        outcome.snapshot = Snapshot(self.stack, places, self.store)
        if before is not None:
            self.store.load(before)
        outcome.predictions = [predictions[m] for m in places] if predictions is not None else []

    def _leave(self, leaving: set[int]) -> None:
        """Take members out of the stack for good: their memory and time go too."""
        stay = [m for m in range(len(self.members)) if m not in leaving]
        self.members = [self.members[m] for m in stay]
        if not stay:
            return
        self.updates.keep(stay)
        self.store.keep(stay)
        keep_members(self.stack, stay)
        self.batches.keep(stay)
        self.inputs.keep(stay)
        self._arrange()

    def account(self, seconds: float) -> None:
        """Share an epoch's time among the candidates in training."""
        alive = self._places() or self.outcomes
        for candidate in alive:
            self.outcomes[candidate].seconds += seconds / len(alive)

    def finish(self) -> None:
        """Give each candidate the weights of its chosen epoch, or say so when it never had a usable one."""
        for outcome in self.outcomes.values():
            if outcome.snapshot is not None:
                outcome.states, outcome.snapshot = outcome.snapshot.states(self.store), None
            elif not outcome.failure:
                outcome.failure = "no epoch gave a finite score"
