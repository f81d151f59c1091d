"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from autoreg import __version__
from autoreg.cli_check import check
from autoreg.cli_fit import fit
from autoreg.cli_plugins import plugins
from autoreg.console import Commands, print_json
from autoreg.errors import DataError, DataWarning, OptionError
from autoreg.options import (
    as_when_fitted,
    force_option,
    json_option,
    load_with,
    plugin_option,
    reading,
    reading_options,
)

if TYPE_CHECKING:
    import pandas as pd


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="autoreg", message="%(prog)s %(version)s")
def autoreg() -> None:
    """Train neural regressors for a table, keep the best, and predict with it.

    TABLE is csv, tsv, csv.gz, parquet, feather, json lines or xlsx, or - for csv on standard input.
    """


autoreg.add_command(fit)
autoreg.add_command(plugins)
plugins.add_command(check)


@autoreg.command()
@click.argument("model", metavar="MODEL")
@click.argument("table")
@click.option(
    "-o", "--output", metavar="FILE", help="Where to, by its end: csv, csv.gz, tsv, parquet, feather, jsonl, xlsx."
)
@click.option("--keep", metavar="COLUMN", multiple=True, help="Carry a column of TABLE along; may be repeated.")
@reading
@plugin_option
@force_option
def predict(
    model: str, table: str, output: str | None, keep: tuple[str, ...], plugins: tuple[str, ...], force: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Predict the rows of TABLE: one column named after the target, in the order of the rows."""
    from autoreg.writers import check_output, suffix_of, write_table

    if output is not None:
        suffix_of(output)
        check_output(output, force=force)
    estimator, frame = _model_and_table(model, table, reading_options(**options), plugins, keep)

    import numpy as np
    import pandas as pd

    from autoreg.tasks import no_column

    manifest = estimator.model_.manifest
    targets = manifest["targets"]
    for name in keep:
        if name not in frame.columns:
            raise OptionError(no_column(name, "--keep", list(frame.columns)))
        if name in targets:
            raise OptionError(f"--keep '{name}': the prediction has this name; rename the column in the table")
    features = _features_of(frame, estimator, {*targets, *keep, *manifest.get("not_features", ())})
    prediction = np.asarray(estimator.predict(features), dtype=np.float64).reshape(len(frame), len(targets))
    result = pd.concat(
        [_whole(frame[list(dict.fromkeys(keep))]), pd.DataFrame(prediction, columns=targets, index=frame.index)], axis=1
    )
    if output is None:
        result.to_csv(sys.stdout, index=False)
        sys.stdout.flush()
    else:
        write_table(result, output, force=force)


def _whole(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole numbers without a decimal point, where pandas has given them one for an empty cell's sake."""
    import numpy as np

    floats = frame.select_dtypes(np.floating)
    whole = [name for name in floats if floats[name].isna().any() and (floats[name].dropna() % 1 == 0).all()]
    return frame.astype(dict.fromkeys([name for name in whole if floats[name].abs().max() < 2**53], "Int64"))


def _features_of(frame: pd.DataFrame, estimator: Any, aside: set[str]) -> pd.DataFrame:
    """The columns to predict from, with a warning for what is not used; `aside` are known to be no features.

    A model that was fitted on an array calls its columns x0, x1, ...: where a table has other names, its columns are
    taken by their places.
    """
    from autoreg.frames import some

    names = [column.name for column in estimator.schema_.columns]
    named = hasattr(estimator, "feature_names_in_")
    if not named and not set(names) <= set(frame.columns):
        text = "the model was fitted on columns without names: those of the table are taken by their places"
        warnings.warn(text, DataWarning, stacklevel=2)
        as_many = len(frame.columns) == len(names)
        return frame if as_many else frame.drop(columns=[name for name in frame.columns if name in aside])
    known = {*names, *aside}
    unknown = [name for name in frame.columns if name not in known]
    if unknown:
        what = "1 column" if len(unknown) == 1 else f"{len(unknown)} columns"
        warnings.warn(f"{what} that the model does not know, not used: {some(unknown)}", DataWarning, stacklevel=2)
    return frame if named else frame[names]


@autoreg.command()
@click.argument("model", metavar="MODEL")
@click.argument("table")
@click.option("--drop-missing-target", is_flag=True, help="Leave out rows without a target.")
@click.option("--weight", metavar="COLUMN", help="Weights of the rows.")
@reading
@plugin_option
@json_option
def evaluate(
    model: str, table: str, drop_missing_target: bool, weight: str | None, plugins: tuple[str, ...], as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Score MODEL on the rows of TABLE, whose targets are known."""
    estimator, frame = _model_and_table(model, table, reading_options(**options), plugins)

    from autoreg.report.measures import by_target, by_target_text
    from autoreg.targets import read_target
    from autoreg.tasks import Roles, make_task

    targets = tuple(estimator.model_.manifest["targets"])
    missing = [name for name in targets if name not in frame.columns]
    if missing:
        raise DataError(f"{table} has no column '{missing[0]}', which the model predicts: nothing to compare with")
    task = make_task(frame, Roles(targets, weight=weight), drop_missing_target=drop_missing_target)
    features = _features_of(task.X, estimator, set(estimator.model_.manifest.get("not_features", ())))
    found = by_target(targets, read_target(task.y), estimator.predict(features), task.weight)
    if as_json:
        print_json({"n_rows": len(task.X), "targets": found})
    else:
        click.echo(f"{len(task.X)} rows\n{by_target_text(found)}")


def _model_and_table(
    model: str, table: str, reading_options: dict[str, Any], plugins: Sequence[str], keep: Sequence[str] = ()
) -> tuple[Any, pd.DataFrame]:
    from autoreg import load
    from autoreg.readers import read_table

    load_with(plugins)
    estimator = load(model)
    # categories are compared as they are written: 007 is not 7
    as_text = [column.name for column in estimator.schema_.columns if column.kind == "category"]
    # and so is what joins the predictions to other tables
    as_text += [name for name in keep if name not in {column.name for column in estimator.schema_.used}]
    options = as_when_fitted(reading_options, estimator.model_.manifest)
    return estimator, read_table(table, as_text=as_text, **options)


@autoreg.command()
@click.argument("model", metavar="MODEL")
@click.option("--schema", "only_schema", is_flag=True, help="Show the columns instead.")
@json_option
def show(model: str, only_schema: bool, as_json: bool) -> None:
    """Tell what MODEL was fitted on, what it consists of, and its leaderboard."""
    from autoreg.persistence import read_manifest
    from autoreg.report.card import card, schema_text

    manifest = read_manifest(model)
    if as_json:
        print_json(manifest["schema"] if only_schema else manifest)
    else:
        click.echo(schema_text(manifest) if only_schema else card(manifest))
