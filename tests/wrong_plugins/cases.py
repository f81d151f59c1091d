"""The wrong plugins, what the checks find, and what a fit does with each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A wrong plugin.

    Attributes
    ----------
    name : str
        Of the file, and of what it offers.
    kind : str
        Of what it offers; ``plugin`` where it does not come to that.
    check : str
        The first check that fails.
    said : str
        Part of what the check says.
    fit : str
        ``left out`` when it is loaded, ``failed`` as a candidate or companion, ``ranked`` by its validation error like
        any other, ``refused`` with an error that names it, ``noted`` in a warning, ``unharmed`` where the fault does
        not reach the fit, ``not tried`` where nothing can be done.
    fit_said : str
        Part of what the fit says beside its name.
    """

    name: str
    kind: str
    check: str
    said: str
    fit: str
    fit_said: str = ""

    @property
    def path(self) -> Path:
        return HERE / f"{self.name}.py"


CASES = [
    Case("mixes_members", "activation", "members", "depends on another member", "failed", "another member"),
    Case("mixes_rows", "activation", "rows", "depends on another row", "failed", "another row"),
    Case("changes_its_input", "activation", "unchanged", "a change in place", "failed", "in place"),
    Case("gives_float64", "activation", "shape", "came torch.float64", "failed", "torch.float64"),
    Case("infinite_gradient", "activation", "finite", "came nan at", "failed", "not finite"),
    Case("noisy", "activation", "repeatable", "random generator", "failed"),
    Case("wrong_backward", "activation", "gradient", "as finite differences give it", "ranked"),
    Case("raises_in_step_7", "activation", "stack", "out of cheese", "failed", "out of cheese"),
    Case("exits_in_training", "activation", "finite", "SystemExit: no licence", "failed", "SystemExit: no licence"),
    Case("holds_a_lock", "activation", "saved", "cannot pickle", "failed", "cannot pickle"),
    Case("holds_a_lambda", "activation", "pickled", "can be pickled", "ranked"),
    Case("needs_an_argument", "activation", "shape", "slope", "failed", "slope"),
    Case("averages", "loss", "shape", "no mean over rows", "failed", "one value per row"),
    Case("keeps_a_column", "loss", "shape", "(5, 1)", "failed", "one value per row"),
    Case("relative_to_batch", "loss", "rows", "another row of the batch", "failed", "another row"),
    Case("three_outputs", "loss", "point", "point=...", "failed", "point"),
    Case("misspelt_fact", "loss", "facts", "did you mean 'target_scaling'", "ranked"),
    Case("log_of_negative", "loss", "finite", "nan", "failed", "not finite"),
    Case("loss_on_tape", "loss", "finite", "a gradient by the prediction", "failed", "grad"),
    Case("reduces_over_members", "optimizer", "members", "never reduce over the first axis", "failed", "alone"),
    Case("changes_parameters", "optimizer", "unchanged", "a change in place", "failed", "in place"),
    Case("counts_for_itself", "optimizer", "state", "state['steps']", "failed", "tensors"),
    Case("remembers_elsewhere", "optimizer", "leaving", "must be in the state", "failed", "the state"),
    Case("goes_uphill", "optimizer", "downhill", "point downhill", "ranked"),
    Case("not_elementwise", "optimizer", "elementwise", "leave elementwise=False", "ranked"),
    Case("options_for_all", "optimizer", "member_options", "what its own number gives", "ranked"),
    Case("one_axis_short", "network", "shape", "came shape (7,)", "failed", "shape must be"),
    Case("loses_its_numbers", "network", "state", "register_buffer", "failed", "saved and loaded"),
    Case("centres_the_batch", "network", "rows", "depends on another row", "failed", "saved and loaded"),
    Case("own_generator", "network", "first_weights", "others with the same seed", "ranked"),
    Case("plain_attributes", "encoding", "statistics", "use register_buffer", "failed", "saved and loaded"),
    Case("scales_by_the_batch", "encoding", "rows", "in other company", "failed", "saved and loaded"),
    Case("passes_nan_on", "encoding", "finite", "nan", "failed", "not finite"),
    Case("halves_disagree", "encoding", "halves", "to equal the forward", "failed", "saved and loaded"),
    Case("wrong_width", "encoding", "shape", "came shape", "failed", ""),
    Case("proposes_dicts", "strategy", "candidates", "came a dict in it", "refused", "dict"),
    Case("proposes_rubbish", "strategy", "candidates", "colour", "refused", "colour"),
    Case("mutates_results", "strategy", "unchanged", "a change in place", "unharmed"),
    Case("never_ends", "strategy", "ends", "and no end", "noted", "again"),
    Case("strategy_raises", "strategy", "candidates", "ZeroDivisionError", "refused", "ZeroDivisionError"),
    Case("predicts_nan", "companion", "fit", "NaN", "failed", "NaN"),
    Case("exits_in_fit", "companion", "fit", "SystemExit", "failed", "SystemExit"),
    Case("changes_the_table", "companion", "unchanged", "copy it", "unharmed"),
    Case("one_for_all", "companion", "fresh", "the same object", "unharmed"),
    Case("raises_at_import", "plugin", "import", "a_package_that_nobody_has", "left out", "a_package_that_nobody_has"),
    Case("exits_at_import", "plugin", "import", "SystemExit: not on this machine", "left out", "not on this machine"),
    Case("ends_the_process", "plugin", "import", "with status 3", "not tried"),
    Case("hangs_at_import", "plugin", "import", "no end of it", "noted", "Still loading"),
    Case("raises_at_registration", "plugin", "hooks", "colours", "left out", "colours"),
    Case("misspelt_hook", "plugin", "hooks", "register_activation", "left out", "did you mean"),
    Case("name_of_a_builtin", "plugin", "hooks", "autoreg's own", "left out", "autoreg's own"),
    Case("name_with_blanks", "plugin", "hooks", "lower-case letters", "left out", "lower-case letters"),
    Case("registers_a_number", "plugin", "hooks", "not callable", "left out", "not callable"),
    Case("changes_settings", "plugin", "import", "torch's default dtype", "noted", "torch's default dtype"),
    Case("observer_raises", "plugin", "observers", "no route to host", "noted", "no route to host"),
]
