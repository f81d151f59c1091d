"""A model's parts as plain data, and back: names with their owners, layers of torch, labels of a user's own code.

What a file says is believed as far as its tensors bear it out: a part is built first without memory, compared with the
tensors that the file holds for it, and given up as soon as it asks for more than those.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from autoreg.budget import built_twice
from autoreg.describe import build_module, describe_module
from autoreg.encoding import FoldStatistics, TableLayout
from autoreg.errors import ModelFileError, PluginError, PluginVersionWarning, UnknownNameError, one_line
from autoreg.lossparts import loss_facts
from autoreg.manifest import KEPT, as_json, has_label
from autoreg.member import Member, Point
from autoreg.modelparts import Part
from autoreg.parts import POINTS, activation_factory, resolve
from autoreg.plugins import OURS, SESSION, registry
from autoreg.registry import Owner
from autoreg.space import Candidate, short
from autoreg.stacking import drawing
from autoreg.strictjson import quoted

FREE_COLUMNS = 10_000
"""Columns of a network's input that a file may tell of, beside some times what it holds."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,100}[A-Za-z0-9])?")


def describe_part(part: Part) -> dict[str, Any]:
    """Members of one candidate as JSON: names with their owners, options, shares."""
    candidate = part.candidate
    parameters, owners = {}, {}
    for name, value in candidate.parameters.items():
        parameters[name] = as_json(value)
    for kind in (*KEPT, "loss", "optimizer"):
        value = candidate[kind]
        if isinstance(value, str):
            try:
                owners[kind] = as_owner(value, registry().get(kind, value).owner)
            except PluginError:  # a model that was loaded predicts without its loss and its optimizer
                if kind in KEPT:
                    raise
        parameters.setdefault(kind, as_json(value))
    if not isinstance(candidate["network"], str):
        parameters["network"] = _described(part.template.network, candidate["network"])
    if not isinstance(candidate["activation"], str):
        parameters["activation"] = _described_activation(candidate["activation"], candidate.options("activation"))
    return {
        "label": candidate.label,
        "parameters": parameters,
        "owners": owners,
        "weight": part.weight,
        "n_members": part.n_members,
        "outputs_per_target": part.outputs_per_target,
        "point": part.point if isinstance(part.point, (str, type(None))) else {"loss": as_json(candidate["loss"])},
    }


def as_owner(name: str, owner: Owner) -> dict[str, str]:
    """A part's name and whose it is, as plain data."""
    return {"name": name, "plugin": owner.plugin, "distribution": owner.distribution, "version": owner.version}


def _described_activation(value: Any, options: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping) or value is None:  # from a file, as it was there
        return value
    try:
        with drawing(0):
            return _described(activation_factory(value, options)(), value)
    except TypeError:  # a class that needs arguments: no network used it
        return {"label": short(value)}


def _described(module: nn.Module, value: Any) -> dict[str, Any]:
    """Layers of torch as data; anything else by its label."""
    described = describe_module(module)
    return {"module": described} if described else {"label": short(value)}


@dataclass(frozen=True)
class OwnCode:
    """What the caller of `load` gives beside the file: networks and activations that no file holds."""

    networks: tuple[Any, ...] = ()
    activations: tuple[Any, ...] = ()

    @classmethod
    def of(cls, network: Any = None, activation: Any = None) -> OwnCode:
        """From one object, a list of several, or None."""

        def several(value: Any) -> tuple[Any, ...]:
            if value is None:
                return ()
            return tuple(value) if isinstance(value, (list, tuple)) else (value,)

        return cls(several(network), several(activation))


def rebuild(
    described: Mapping[str, Any], layout: TableLayout, n_targets: int, tensors: Mapping[str, Tensor], own: OwnCode
) -> Part:
    """Build what `describe_part` wrote down, from a manifest that `check_manifest` has passed.

    Parameters
    ----------
    described : mapping
    layout : TableLayout
        Of the model's schema.
    n_targets : int
    tensors : mapping
        All that the file holds for the part; names, shapes and kinds must be those of what is built.
    own : OwnCode

    Raises
    ------
    ModelFileError
        When a part is not installed or not given, cannot be built, or does not fit the tensors.
    """
    given = described["parameters"]
    check_owners(described["owners"])
    point = _point(described)
    rest = {name: value for name, value in given.items() if name.split("__")[0] not in KEPT}
    fitting: list[tuple[bool, Candidate, Member]] = []
    failures = []
    n_elements = sum(tensor.numel() for tensor in tensors.values())
    if layout.n_numbers > n_elements + FREE_COLUMNS:
        raise ModelFileError("the model describes a table larger than its tensors")
    for choice in _choices(given, own, n_elements):
        try:
            template = _build(Candidate(choice), described, layout, n_targets, tensors)
        except ModelFileError as error:
            failures.append(error)
            continue
        same = all(_label(choice[kind]) == _label(given[kind]) for kind in ("network", "activation"))
        if _is_missing(choice["activation"]):
            choice = {**choice, "activation": given["activation"]}
        fitting.append((same, Candidate({**rest, **choice}), template))
    if not fitting:
        raise failures[0]
    best = [item for item in fitting if item[0]] or fitting
    if len(best) > 1:
        raise ModelFileError(
            f"{len(best)} of the networks or activations given fit {quoted(described['label'])}: give one"
        )
    _, candidate, template = best[0]
    outputs, weight = described["outputs_per_target"], float(described["weight"])
    return Part(candidate, template, dict(tensors), point, outputs, weight)


def _point(described: Mapping[str, Any]) -> str | Point | None:
    point = described["point"]
    if isinstance(point, str) and point not in POINTS:
        raise ModelFileError(f"the model names an unknown link {quoted(point)}; known: {', '.join(POINTS)}")
    if not isinstance(point, Mapping):
        return point
    check_owners(described["owners"], ("loss",))
    try:
        entry = registry().get("loss", point["loss"])
        facts = loss_facts(entry, Candidate(described["parameters"]).options("loss"))
        link, outputs = facts["point"], facts.get("outputs_per_target", 1)
    except (UnknownNameError, KeyError):
        raise ModelFileError(
            f"the model needs the link of loss {quoted(point['loss'])}, and there is none: install its plugin"
        ) from None
    except Exception as error:  # a plugin's function, with options that a stranger may have written
        raise ModelFileError(
            f"loss {quoted(point['loss'])} does not take the options that the model says: {one_line(error)}"
        ) from error
    if outputs != described["outputs_per_target"]:
        raise ModelFileError(
            f"loss {quoted(point['loss'])} reads {outputs} outputs a target, and the model's network has "
            f"{described['outputs_per_target']}"
        )
    return link


def _choices(given: Mapping[str, Any], own: OwnCode, n_elements: int) -> Iterable[dict[str, Any]]:
    """The parameters of the part, once for each network and activation that may stand in for a label."""
    kept = {name: value for name, value in given.items() if name.split("__")[0] in KEPT}
    ours = _is_label(kept["network"])
    if ours and not own.networks:
        raise ModelFileError(
            f"the model holds the numbers of network {quoted(kept['network']['label'])} but not its code: "
            f"load it with load(path, network=...)"
        )
    for name in [name for name, value in kept.items() if "__" in name and has_label(value)]:
        if not (ours and name.startswith("network__")):
            raise ModelFileError(
                f"the model was made with an object as {quoted(name)}, and no file holds it: make the part a plugin"
            )
        del kept[name]  # whoever gives the network gives it with that option set
    if _is_label(kept["encoding"]):
        raise ModelFileError(
            f"the model holds the name of encoding {quoted(kept['encoding']['label'])} but not its code: "
            f"make it a plugin"
        )
    for kind in KEPT:
        if isinstance(kept[kind], Mapping) and "module" in kept[kind]:
            kept[kind] = build_module(kept[kind]["module"], max_parameters=4 * n_elements + 100_000)
            kept = {name: value for name, value in kept.items() if not name.startswith(f"{kind}__")}
    for network in own.networks if ours else [kept["network"]]:
        if not _is_label(kept["activation"]):
            yield {**kept, "network": network}
            continue
        label = kept["activation"]["label"]
        for activation in own.activations or [type("Missing", (Missing,), {"label": label})]:
            yield {**kept, "network": network, "activation": activation}


def _is_label(value: Any) -> bool:
    return isinstance(value, Mapping) and "module" not in value


def _label(value: Any) -> str:
    return value["label"] if _is_label(value) else value.label if _is_missing(value) else short(value)


class Missing(nn.Module):
    """An activation that says that it is missing as soon as a network uses it; many use none."""

    label = ""

    def __init__(self) -> None:
        raise ModelFileError(
            f"the model holds the name of activation {quoted(self.label)} but not its code: "
            f"load it with load(path, activation=...)"
        )


def _is_missing(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Missing)


def check_owners(owners: Mapping[str, Mapping[str, str]], kinds: Sequence[str] = KEPT) -> None:
    """Say what to install when a part's plugin is not here. Losses and optimizers are not needed, but for a link."""
    for kind in kinds:
        if kind not in owners:
            continue
        wanted = owners[kind]
        try:
            registry().get(kind, wanted["name"])
        except UnknownNameError as error:
            owner = Owner(wanted["plugin"], wanted["distribution"], wanted["version"])
            raise ModelFileError(
                f"{kind} {quoted(wanted['name'])} came from {quoted(str(owner))[1:-1]}, {_way_to(owner)}"
            ) from error


def _way_to(owner: Owner) -> str:
    """What to do about a plugin that does not offer what a model needs."""
    name = owner.distribution
    if owner == SESSION:
        return "where it was registered by hand: do so again (autoreg.register), or give its file with --plugin FILE.py"
    if not name:
        return "a file that is not loaded: give it with --plugin FILE.py"
    # what is told to be typed must be a name and nothing else
    if not _NAME.fullmatch(name):
        return "which is not installed"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"which is not installed: pip install {name}"
    if version != owner.version and _NAME.fullmatch(owner.version):
        return f"and {name} {version} does not offer it: pip install {name}=={owner.version}"
    return f"and {name} {version} does not offer it here: autoreg plugins list --load tells why"


def tell_other_versions(members: Iterable[Mapping[str, Any]]) -> None:
    """Warn, once for each plugin, where a model needs a part that came from another version, or another plugin.

    Parameters
    ----------
    members : iterable of mapping
        From a manifest that `check_manifest` has passed.
    """
    told = set()
    for described in members:
        kinds = ("companion", *KEPT, "loss") if isinstance(described.get("point"), Mapping) else ("companion", *KEPT)
        for kind in kinds:
            if kind not in described["owners"]:
                continue
            wanted = described["owners"][kind]
            before = Owner(wanted["plugin"], wanted["distribution"], wanted["version"])
            try:
                found = registry().get(kind, wanted["name"]).owner
            except PluginError:  # `rebuild` says it
                continue
            same = before.distribution == found.distribution
            # what is ours reads the files of older versions, and says so where it does not
            if (same and (before.version == found.version or found.distribution == OURS)) or (before, found) in told:
                continue
            told.add((before, found))
            text = f"{kind} {quoted(wanted['name'])} came from {quoted(str(before))[1:-1]}, and "
            text += f"{found.version} is installed" if same else f"here it comes from {found}"
            exact = _NAME.fullmatch(before.distribution) and _NAME.fullmatch(before.version)
            way = f"; for the same ones pip install {before.distribution}=={before.version}" if exact else ""
            warnings.warn(f"{text}: predictions may differ{way}", PluginVersionWarning, stacklevel=4)


def _build(
    candidate: Candidate,
    described: Mapping[str, Any],
    layout: TableLayout,
    n_targets: int,
    tensors: Mapping[str, Tensor],
) -> Member:
    """A member of the candidate that fits the tensors."""
    statistics = FoldStatistics.blank(layout)
    scale = torch.zeros(n_targets, dtype=torch.float64), torch.ones(n_targets, dtype=torch.float64)
    try:
        recipe = replace(resolve(candidate), outputs_per_target=described["outputs_per_target"])
        return built_twice(
            lambda: recipe.make_member(statistics, *scale, 0),
            lambda member: check_tensors(member, tensors, described["n_members"]),
            tensors,
        )
    except ModelFileError:
        raise
    except Exception as error:  # a part that is built as a stranger says may raise anything
        raise ModelFileError(
            f"{quoted(described['label'])} cannot be built as the model says: {one_line(error)}"
        ) from error


def check_tensors(outline: Member, tensors: Mapping[str, Tensor], n_members: int) -> None:
    """Raise `ModelFileError` unless a part's tensors, (F, ...), are those of its member."""
    expected = {name: ((n_members, *tensor.shape), tensor.dtype) for name, tensor in outline.state_dict().items()}
    compare_tensors(expected, tensors, "network")


def compare_tensors(
    expected: Mapping[str, tuple[tuple[int, ...], torch.dtype]], tensors: Mapping[str, Tensor], what: str
) -> None:
    """Raise `ModelFileError` unless tensors have the names, shapes and kinds that a part needs."""
    for name in sorted({*expected, *tensors}):
        if name not in expected:
            raise ModelFileError(f"the model has a tensor {quoted(name)} that its {what} has no use for")
        if name not in tensors:
            raise ModelFileError(f"the model has no tensor {quoted(name)}, which its {what} needs")
        (wanted, dtype), found = expected[name], tuple(tensors[name].shape)
        if wanted != found:
            raise ModelFileError(f"the model's tensor {quoted(name)} has shape {found}, its {what} needs {wanted}")
        kinds = [kind.is_floating_point or kind for kind in (dtype, tensors[name].dtype)]
        if kinds[0] != kinds[1]:
            raise ModelFileError(
                f"the model's tensor {quoted(name)} is {tensors[name].dtype}, its {what} needs {dtype}"
            )
