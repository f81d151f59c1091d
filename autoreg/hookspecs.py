"""The hooks that a plugin may implement.

A plugin is a module with functions marked ``@autoreg.hookimpl``, named in the entry-point group ``autoreg``.
autoreg calls each ``register_...`` function with ``register``; call ``register(name, thing)`` once per thing
offered. A name is lower-case letters, digits, ``_`` and ``-``, and belongs to one plugin. ``space={...}`` maps
options of the thing to the lists or scipy distributions that a search draws from by default; further keywords
are facts about the thing, named below.

Letters for axes, used everywhere:

    N  table rows      K  folds      M  members: networks trained side by side in one stack
    B  rows in a step  D  encoded features        O  targets

Functions may be called on stacked tensors, under ``torch.func.vmap`` or one member at a time. So: no change of
arguments in place, no ``.item()``, no Python ``if`` on tensor values, randomness only from torch.
"""

from __future__ import annotations

from collections.abc import Callable

from pluggy import HookimplMarker, HookspecMarker

hookspec = HookspecMarker("autoreg")
hookimpl = HookimplMarker("autoreg")


@hookspec
def register_activations(register: Callable[..., None]) -> None:
    """Offer activations: ``register(name, activation)``.

    activation : elementwise function ``(x, **options)``, tensor of any shape -> tensor of that shape and dtype; or an
        ``nn.Module`` class of ``(**options)``, whose parameters each member then learns for itself. All options have
        defaults.
    """


@hookspec
def register_losses(register: Callable[..., None]) -> None:
    """Offer losses: ``register(name, loss, outputs_per_target=1, point=None, target_scaling="standard",
    statistic=None, target_range="", facts=None)``.

    loss : function ``(prediction, target, **options) -> one value per row``, ``(..., B, O)`` -> ``(..., B)``.
        It never averages over rows: autoreg takes the weighted mean over B and the sum over M.
    outputs_per_target : Q; the prediction is then (..., B, O * Q), a target's Q numbers side by side.
    point : function from the network's output to what is predicted, (..., B, O * Q) -> (..., B, O), e.g. ``exp`` for
        a log link.
    target_scaling : ``"standard"``, ``"mean"`` where the target is only divided by its mean, or None when the loss
        needs the target in its own units.
    statistic : ``"mean"`` when the best prediction is the mean, which is freed of bias where logarithms were learned.
    target_range : ``"above 0"`` or ``"at least 0"`` where other targets are refused; empty for any.
    facts : function ``(**options) -> dict`` of the five above, for a loss whose options change them.
    """


@hookspec
def register_optimizers(register: Callable[..., None]) -> None:
    """Offer optimizers: ``register(name, make, member_options=False)``.

    make : function ``make(**options)`` -> ``autoreg.gradients.GradientTransform``.
    member_options : whether an option that is a float may also be an (M,) tensor, so that members that differ in it are
        updated together.
    """


@hookspec
def register_networks(register: Callable[..., None]) -> None:
    """Offer networks: ``register(name, make)``.

    make : function ``(n_features, n_outputs, activation, **sizes) -> nn.Module``, mapping (B, D) to (B, O), or to
        (B, k, O): k views whose losses and predictions are averaged. One plain network; autoreg stacks M of them.
        ``activation()`` returns a fresh activation module.
    """


@hookspec
def register_encodings(register: Callable[..., None]) -> None:
    """Offer encodings: ``register(name, make)``.

    make : function ``(statistics, **options) -> nn.Module``; ``statistics`` is an
        ``autoreg.encoding.FoldStatistics`` of one fold's training rows. The module maps ``(numbers, codes)``,
        (..., B, Dn) float with NaN and (..., B, Dc) integer, to (..., B, D), and has an attribute ``n_features``
        = D. Shapes depend on ``statistics.layout`` and the options alone. Where part of the work does not change in
        training, two methods of a module with ``leading_axes = True`` save time: ``fixed(numbers, codes)`` gives other
        numbers and the same codes, computed once for all rows, and ``learned`` of that pair equals the forward. A
        module without parameters is computed once as a whole.
    """


@hookspec
def register_strategies(register: Callable[..., None]) -> None:
    """Offer search strategies: ``register(name, propose, own_seeds=True, choose_epoch=True, half=False, stop=None,
    rungs=(), most_epochs=None)``.

    propose : function ``(space, results, n, seed, **options) -> candidates``; it sees numbers and names only.
        space : ``autoreg.space.Space``; results : finished ``autoreg.results.CandidateResult``s, empty at first;
        n : how many to propose in all, or None for as many as the strategy wants. An empty list ends the search.
    own_seeds : whether every member draws a seed of its own; otherwise all take ``random_state`` itself.
    choose_epoch : whether the best epoch counts; otherwise all epochs run and the last one counts.
    half : whether ``precision="auto"`` may train in bfloat16.
    stop : function ``(space, results, candidate, curve, **options) -> bool``, asked after every epoch whether a
        candidate leaves before its time. ``results`` are those that its proposal saw, ``curve`` its own mean scores
        after each epoch: the answer must not depend on what else is in training.
    rungs : ``((progress, share), ...)``: at these points of their schedule, in (0, 1), the best such share of the
        candidates of a stack stays.
    most_epochs : up to which a candidate trains on, beyond its own ``max_epochs``, while a time limit leaves time.
    """


@hookspec
def register_companions(register: Callable[..., None]) -> None:
    """Offer companions: ``register(name, make, to_module=None, module=None)``.

    make : function ``(layout, random_state) -> scikit-learn regressor``. It is fitted on the coded table as one
        float matrix, numbers first (NaN = missing), then category codes; ``layout`` is an
        ``autoreg.encoding.TableLayout`` that says which is which. A third argument named ``objective`` is told what is
        scored: ``objective.loss`` is ``"squared_error"``, ``"absolute_error"`` or ``"quantile"``, with the level in
        ``objective.quantile``.
    to_module : function ``(fitted, layout) -> nn.Module``, so that the companion can be part of a model: (B, Dn)
        numbers and (B, Dc) codes to (B, O) predictions, the library's numbers to 1e-12. All its numbers are buffers.
    module : the class of that module. An instance keeps in ``options``, as plain JSON, what builds another of its
        shapes: ``module(**options)``. ``check(layout)``, where it has one, raises ValueError for numbers of a hostile
        file.
    """


# Observers look on, for instance to log a search, and change nothing. They are called one at a time, from the thread
# that called ``fit``. An error in one is a warning; it never loses the fit.


@hookspec
def search_started(plan: object) -> None:
    """Look at a search that begins: the first candidates are proposed, and no network is trained yet.

    plan : ``autoreg.results.SearchPlan``; one object for one search, also found as ``results.plan`` later.
    """


@hookspec
def rung_finished(results: object) -> None:
    """Look at a search at a point where candidates have ended, or may be dropped, while others may be in training.

    results : ``autoreg.results.SearchResults`` of the candidates that have ended so far, in the order of their
        proposal, without companions and ensemble. Equal searches make equal calls, whatever ``n_jobs``.
    """


@hookspec
def search_finished(results: object, model: object) -> None:
    """Look at a search that has ended well.

    results : ``autoreg.results.SearchResults``, complete; model : the fitted ``autoreg.AutoRegressor``.
    """


@hookspec
def search_failed(plan: object, error: BaseException) -> None:
    """Look at a search that started and ended in an error, or a Ctrl-C without a result; the error goes on afterwards.

    plan : ``autoreg.results.SearchPlan``.
    """
