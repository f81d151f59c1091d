"""The command ``autoreg fit``."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from autoreg.completion import dimensions, names_of
from autoreg.console import STARTED, print_json, say
from autoreg.errors import OptionError, SearchError
from autoreg.options import (
    force_option,
    json_option,
    load_with,
    plugin_option,
    reading,
    reading_options,
    to_remember,
)
from autoreg.space import COMPANIONS, EFFORTS, N_FOLDS, NAME_LISTS, PRECISIONS

if TYPE_CHECKING:
    from autoreg.results import SearchResults
    from autoreg.tasks import Roles, Task

RUN = ".run"
"""What stands behind the model's name in that of its run directory."""

NOTICE = "Stopping after the epochs in training, and saving what there is. The same again leaves at once."


@click.command()
@click.argument("table")
@click.option(
    "--target", "targets", metavar="COLUMN", multiple=True, required=True, help="What to predict; may be repeated."
)
@click.option("-o", "--output", metavar="MODEL", help="Where the model goes.  [default: TARGET.safetensors]")
@click.option(
    "--effort",
    type=click.Choice(EFFORTS),
    default="balanced",
    show_default=True,
    help="Size of the plan; it follows from the table's shape alone.",
)
@click.option(
    "--time-limit",
    metavar="TIME",
    help="90, 5m, 1h: a plan for this long on this machine, set-up and saving included, in the place of --effort.",
)
@click.option(
    "--replay",
    metavar="MODEL",
    help="Repeat the search that MODEL came from, without a clock; its seed, folds and metric too, unless given.",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    metavar="K",
    default=N_FOLDS,
    show_default=True,
    help="Folds of the cross-validation.",
)
@click.option("--group", metavar="COLUMN", help="Rows of one group stay in one fold; the column is no feature.")
@click.option("--time", metavar="COLUMN", help="Train on earlier rows than those that are predicted.")
@click.option(
    "--holdout", type=float, metavar="FRACTION", help="Keep a share of the rows out; score on them at the end."
)
@click.option("--valid", metavar="TABLE", help="Score on this table at the end.")
@click.option(
    "--metric", metavar="NAME", default="rmse", show_default=True, help="rmse, mae, r2, ...: as in scikit-learn."
)
@click.option(
    "--encoding",
    "encodings",
    metavar="NAME",
    multiple=True,
    shell_complete=names_of("encoding"),
    help="Search only this; may be repeated.",
)
@click.option(
    "--network",
    "networks",
    metavar="NAME",
    multiple=True,
    shell_complete=names_of("network"),
    help="The same: linear, mlp, resnet, ...",
)
@click.option(
    "--activation",
    "activations",
    metavar="NAME",
    multiple=True,
    shell_complete=names_of("activation"),
    help="The same: relu, silu, tanh, ...",
)
@click.option(
    "--optimizer",
    "optimizers",
    metavar="NAME",
    multiple=True,
    shell_complete=names_of("optimizer"),
    help="The same: adamw, sgd, ...",
)
@click.option(
    "--loss",
    "losses",
    metavar="NAME",
    multiple=True,
    shell_complete=names_of("loss"),
    help="The same: squared_error, huber, ...",
)
@click.option(
    "--space",
    metavar="NAME=VALUES",
    multiple=True,
    shell_complete=dimensions,
    help="Values of one dimension, such as network__depth=1,2,3 or learning_rate=1e-4..1e-1:log; may be repeated.",
)
@click.option(
    "--strategy",
    metavar="NAME",
    default="portfolio",
    show_default=True,
    shell_complete=names_of("strategy"),
    help="portfolio, grid, random, or a plugin's.",
)
@click.option(
    "--strategy-option",
    "strategy_options",
    metavar="NAME=VALUE",
    multiple=True,
    help="An option of the strategy, where it has some; may be repeated.",
)
@click.option("--candidates", type=click.IntRange(1), metavar="N", help="How many networks to try.")
@click.option(
    "--companions",
    type=click.Choice(["compare", "include", "none"]),
    default=COMPANIONS,
    show_default=True,
    help="Trees and simple models on the same folds: taken into the model where they help, only compared, or none.",
)
@click.option(
    "--refit", is_flag=True, help="The model is the best network alone, trained once more on all rows: small and quick."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    metavar="N",
    default=0,
    show_default=True,
    help="Where chance starts: equal seeds, equal models.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Cores that networks and companions are fitted on; the result is the same.  [default: all]",
)
@click.option(
    "--device",
    metavar="auto|cpu|cuda",
    default="auto",
    show_default=True,
    help="Where networks train; auto is the CPU.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Of the matrix products while training; auto takes bfloat16 on a processor that is built for it.",
)
@click.option(
    "--run-dir",
    metavar="DIR",
    help="Where the search's journal goes and stays; the same command goes on from it.  [default: MODEL.run, gone at "
    "the end]",
)
@click.option("--weight", metavar="COLUMN", help="Weights of the rows; the column is no feature.")
@click.option("--ignore", metavar="COLUMN", multiple=True, help="A column that is no feature; may be repeated.")
@click.option("--categorical", metavar="COLUMN", multiple=True, help="A column of categories; may be repeated.")
@click.option("--date", "dates", metavar="COLUMN", multiple=True, help="A column of dates; may be repeated.")
@click.option("--drop-missing-target", is_flag=True, help="Leave out rows without a target.")
@reading
@plugin_option
@json_option
@click.option("--quiet", is_flag=True, help="Print warnings and errors only, and JSON where asked for.")
@force_option
def fit(
    table: str, targets: tuple[str, ...], output: str | None, folds: int, group: str | None, time: str | None,
    holdout: float | None, valid: str | None, run_dir: str | None, space: tuple[str, ...], companions: str, seed: int,
    weight: str | None, ignore: tuple[str, ...], categorical: tuple[str, ...], dates: tuple[str, ...],
    drop_missing_target: bool, plugins: tuple[str, ...], as_json: bool, quiet: bool, force: bool, replay: str | None,
    **options: Any,
) -> None:  # fmt: skip
    """Train networks on TABLE, compare them with trees and simple models, and save the best mean of them."""
    from autoreg.writers import check_output

    output = output or _model_name(targets[0])
    check_output(output, force=force)
    if holdout is not None and valid is not None:
        raise OptionError("--holdout and --valid both say what to score on: give one of them")
    if replay is not None and options["time_limit"] is not None:
        raise OptionError("--time-limit and --replay both say how long to train: give one of them")
    reading_options, search = _split(options)
    estimator = _estimator(search, space, companions, seed, verbose=not quiet, plugins=plugins)
    estimator._begin = STARTED
    if replay is not None:
        seed, folds = _repeat(estimator, replay)

    from autoreg.journal import remove
    from autoreg.report import card
    from autoreg.report.measures import held_out
    from autoreg.tasks import Roles

    roles = Roles(targets, group, time, weight, ignore, categorical, dates)
    task = _read_task(table, roles, reading_options, drop_missing_target)
    task, test = _set_aside(task, roles, holdout, valid, seed, reading_options, drop_missing_target)
    estimator._column_kinds = {"categorical": categorical, "dates": dates}
    number = _search(estimator, task, folds, seed, run_dir, output)
    manifest = estimator.model_.manifest
    manifest["not_features"] = roles.not_features()
    manifest["reading"] = to_remember(reading_options)
    manifest["folds_asked"] = folds
    if test is not None:
        try:
            rows = held_out(estimator, task, test, seed)
        except BaseException:
            estimator.save(output, force=force)
            say(f"Saved {output}, without scores on the rows kept out.")
            raise
        manifest["held_out"] = {"n_rows": len(test.X), "scoring": manifest["scoring"], "models": rows}
    estimator.save(output, force=force)
    if number:
        _tell_of_early_end(manifest, run_dir or output + RUN, output)
    elif run_dir is None:
        remove(output + RUN)
    if as_json:
        print_json({"model": output, **card.summary(manifest, estimator.results_)})
    elif not quiet:
        _print_fit(estimator.results_, manifest.get("held_out"), output)
    if number:
        click.get_current_context().exit(128 + number)


def _search(estimator: Any, task: Task, folds: int, seed: int, run_dir: str | None, output: str) -> int:
    """Fit, and return the signal that ended the search early, or 0."""
    from autoreg.folds import make_folds
    from autoreg.journal import remove
    from autoreg.stopping import early_end

    groups = task.groups
    if folds != N_FOLDS or task.time is not None:
        splits = make_folds(None, len(task.X), None, groups, seed, task.time, n_folds=folds)
        estimator.set_params(cv=[(fold.train, fold.valid) for fold in splits])
        estimator._over_time, groups = task.time is not None, None
    estimator.set_params(run_dir=run_dir or output + RUN)
    try:
        with early_end(signal.SIGINT, signal.SIGTERM, notice=NOTICE) as stop:
            estimator.fit(task.X, task.y, task.weight, groups=groups)
    except SearchError:  # a search without a result has nothing to go on from
        if run_dir is None:
            remove(output + RUN)
        raise
    estimator.set_params(cv=None, run_dir=None)
    return stop.number


def _tell_of_early_end(manifest: Mapping[str, Any], run_dir: str, output: str) -> None:
    networks = sum(row["parameters"] is not None and not row["failure"] for row in manifest["leaderboard"])
    what = f"{networks} network{'s' * (networks != 1)} among it"
    further = f" The same command with --force goes on from {run_dir}." if Path(run_dir).exists() else ""
    say(f"Stopped early: {output} was chosen from what had a score, {what}.{further}")


def _print_fit(results: SearchResults, held: Mapping[str, Any] | None, output: str) -> None:
    from autoreg.report import leaderboard
    from autoreg.report.measures import held_out_text

    click.echo(leaderboard.text(results))
    if results.verdict:
        click.echo(f"\n{results.verdict}")
    if held is not None:
        click.echo(f"\nOn {held['n_rows']} rows kept out of everything:")
        click.echo(held_out_text(held["models"], held["scoring"]))
    sys.stdout.flush()
    say(f"\nSaved {output}. Next: autoreg predict {shlex.quote(output)} TABLE")


def _model_name(target: str) -> str:
    stem = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in target)
    return f"{stem}.safetensors"


def _split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of `reading`, and the rest."""
    names = ("sep", "encoding", "decimal", "thousands", "na_values")
    return reading_options(**{name: options.pop(name) for name in names}), options


def _estimator(
    search: dict[str, Any], space: Sequence[str], companions: str, seed: int, *, verbose: bool, plugins: Sequence[str]
) -> Any:
    """An unfitted AutoRegressor; names are looked up now, before a large table is read."""
    from autoreg import AutoRegressor
    from autoreg.plugins import registry
    from autoreg.scoring import as_metric
    from autoreg.space import parse_dimension, parse_option

    load_with(plugins)
    if search["time_limit"] is not None:
        from autoreg.pace import seconds_of

        seconds_of(search["time_limit"])
    search["n_candidates"], search["n_jobs"] = search.pop("candidates"), search.pop("jobs")
    search["strategy_options"] = dict(parse_option(text) for text in search["strategy_options"]) or None
    search["scoring"] = as_metric(search.pop("metric")).name
    registry().get("strategy", search["strategy"])
    for option, kind in NAME_LISTS.items():
        names = list(search[option])
        for name in names:
            registry().get(kind, name)
        search[option] = names or None
    dimensions = dict(parse_dimension(text) for text in space)
    return AutoRegressor(
        **search, space=dimensions or None, companions=None if companions == "none" else companions,
        random_state=seed, verbose=int(verbose),
    )  # fmt: skip


REPEATED: Mapping[str, set[str]] = {
    "scoring": {"metric"},
    "companions": {"companions"},
    "ensemble": set(),
    "strategy": {"strategy"},
    "strategy_options": {"strategy", "strategy_options"},
    "refit": {"refit"},
}
"""Parameters of the estimator that a replay takes from the model, unless one of these options is given."""


def _repeat(estimator: Any, model: str) -> tuple[int, int]:
    """Have the search of a model repeated; its seed and its number of folds, unless others are given."""
    from autoreg.manifest import has_label, is_count, is_object, read_field
    from autoreg.persistence import read_manifest
    from autoreg.plans import plan_of

    manifest = read_manifest(Path(model))
    estimator._again = again = plan_of(manifest)
    before = read_field(read_field(manifest, "estimator", is_object, "an object"), "parameters", is_object, "an object")
    context = click.get_current_context()
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    for name, options in REPEATED.items():
        if given & options:
            continue
        if has_label(before.get(name)):
            raise OptionError(f"--replay {model}: its {name} was an object of your own; give it on the command line")
        estimator.set_params(**{name: before.get(name)})
    if "seed" not in given:
        estimator.set_params(random_state=again.seed)
    if "folds" not in given and before.get("cv") is not None:
        raise OptionError(f"--replay {model}: its folds were given in Python, as cv: repeat it there, or give --folds")
    # a table may have had fewer, and would have others if only these were asked for
    name = "folds_asked" if "folds_asked" in manifest else "n_folds"
    folds = context.params["folds"] if "folds" in given else read_field(manifest, name, is_count, "a number of folds")
    return estimator.random_state, folds


def _read_task(
    table: str, roles: Roles, reading_options: dict[str, Any], drop_missing_target: bool, texts: Sequence[str] = ()
) -> Task:
    from autoreg.readers import read_table
    from autoreg.tasks import make_task

    frame = read_table(table, as_text=[*roles.categorical, *texts], **reading_options)
    return make_task(frame, roles, drop_missing_target=drop_missing_target)


def _set_aside(
    task: Task, roles: Roles, holdout: float | None, valid: str | None, seed: int, reading_options: dict[str, Any],
    drop_missing_target: bool,
) -> tuple[Task, Task | None]:  # fmt: skip
    """What to fit on, and what to score on at the end."""
    if valid is not None:
        # what is text here is text there: 007 is not 7
        texts = [str(name) for name in task.X.select_dtypes(["object", "string"])]
        return task, _read_task(valid, roles, reading_options, drop_missing_target, texts)
    if holdout is None:
        return task, None
    from autoreg.folds import hold_out

    fold = hold_out(holdout, len(task.X), task.groups, seed, task.time)
    return task.take(fold.train), task.take(fold.valid)
