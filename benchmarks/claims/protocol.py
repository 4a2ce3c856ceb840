"""The protocol: which networks are trained on which data, in its short and in its full form."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from data_prep.storage.strict_yaml import strict_yaml
from pipelines.runtime.nested import Tree
from pipelines.tuning.space import Point, parse_space

PROTOCOL = Path(__file__).with_name("protocol.yaml")
SUFFIXES = {"dataset.max_shift": ", shifted in training", "network.align": ", centred"}


class Sweep(NamedTuple):
    """The trainings of one network on one data set.

    Attributes:
        name: of it.
        data: bundled or measured.
        train: recon-tune's flags.
        space: what is varied, by the task's keys.
    """

    name: str
    data: str
    train: list[str]
    space: Tree

    def points(self) -> list[Point]:
        """Every point of the space."""
        found: list[Point] = [{}]
        for parameter in parse_space(self.space, list(self.space), self.name).parameters:
            found = [
                point | ({parameter.key: value} if parameter.applies(point) else {})
                for point in found
                for value in (parameter.values if parameter.applies(point) else [None])
            ]
        return found


class Protocol(NamedTuple):
    """All that is trained, and what verdicts rest on.

    Attributes:
        sweeps: in their order.
        margins: of equal quality, by metric; none in the short form, which says nothing of quality.
        shifts: drawn for each slice or image.
    """

    sweeps: list[Sweep]
    margins: dict[str, float]
    shifts: int


def read_protocol(path: Path = PROTOCOL, *, quick: bool) -> Protocol:
    """The protocol of a YAML file, in its short form or in the full one."""
    content = strict_yaml(path.read_text())
    sweeps = [
        Sweep(name, found["data"], found["train"], found["space"] | (found["quick"] if quick else {}))
        for name, found in content["sweeps"].items()
    ]
    return Protocol(sweeps, {} if quick else content["margins"], content["shifts"])


def variant_of(point: Point) -> str:
    """What a network is called: its sampling, the size of the blur, and what was done beside."""
    name = str(point["network.sampling"]) + ("3" if point.get("network.blur") == 3 else "")
    return name + "".join(text for key, text in SUFFIXES.items() if point.get(key) not in (None, 0, "none"))
