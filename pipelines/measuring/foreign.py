"""Networks that this program did not write, by the name of what makes them: ``package.module:factory``."""

from __future__ import annotations

import importlib
import json
import os
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from pipelines.runtime.nested import Value
from recon.errors import InputError, check_choice, nearest

TAKES = {
    "image": "the normalised image, which it gives back as one of the same shape",
    "measurement": "k-space and mask, or sinogram, geometry and back-projection, from which it makes the image",
    "maps": "k-space, mask and the file's coil maps",
}
LONG = 300  # characters of another program's error


class ForeignNetwork(nn.Module):
    """What a factory makes, in the place of one of our networks.

    Args:
        factory: ``package.module:name`` of a class of networks, or of a function that is annotated to return one.
        args: the factory's arguments.
        takes: of reconstruction, what the network is handed: a key of TAKES.
        total_stride: each side of an image must be a multiple of it; 1 where any size will do.
        n_classes: of a classifier's data; the factory has its own argument for it.
        in_channels: the same.

    Raises:
        InputError: there is no such factory, or it refuses the arguments.
    """

    def __init__(
        self,
        factory: str,
        args: dict[str, Any] | None = None,
        takes: str = "image",
        total_stride: int = 1,
        n_classes: int = 1,
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        check_choice("network.takes", takes, TAKES)
        if total_stride < 1:
            raise InputError(f"network.total_stride is {total_stride}: give 1 or more")
        self.factory, self.total_stride, self.n_classes = factory, total_stride, n_classes
        self.model = make_model(factory, args or {})

    def forward(self, *inputs: Any) -> Any:
        """What the model makes of its inputs, which it may work on in place: they are copies."""
        return self.model(*(x.clone() if isinstance(x, Tensor) else x for x in inputs))

    def try_out(self, run: Callable[[], Any], given: str, expected: tuple[int, ...]) -> None:
        """Refuse a model that cannot take its input, or whose output is of another shape, before anything is measured.

        Args:
            run: gives the output for one sample.
            given: what that sample is, for the message.
            expected: the shape that the output must have.

        Raises:
            InputError: says what it made of the sample.
        """
        try:
            with torch.inference_mode():
                output = run()
        except (InputError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise InputError(
                f"{self.factory} cannot take {given} ({_said(error)}): give other --model-args, another size, or "
                "wrap it in a factory of your own"
            ) from error
        if not isinstance(output, Tensor) or output.is_complex() or tuple(output.shape) != expected:
            found = tuple(output.shape) if isinstance(output, Tensor) else f"what is of type {type(output).__name__}"
            found = f"complex {found}" if isinstance(output, Tensor) and output.is_complex() else found
            raise InputError(
                f"{self.factory} makes {found} of {given} where {expected} is needed: give other --model-args, or wrap "
                "it in a factory of your own"
            )


def foreign_in(network: nn.Module) -> ForeignNetwork | None:
    """The network that is not ours, itself or inside of an alignment; None where all is ours."""
    return next((module for module in network.modules() if isinstance(module, ForeignNetwork)), None)


def model_args(words: Sequence[str]) -> dict[str, Value]:
    """The arguments of another program's factory, from ``key=value``, each value YAML.

    Raises:
        InputError: a word is not of this form, or names a key twice.
    """
    found: dict[str, Value] = {}
    for word in words:
        if word == "--model-args":  # it may stand several times
            continue
        key, equals, value = word.partition("=")
        if not (equals and key.isidentifier()) or key in found:
            what = "names an argument twice" if key in found else "is not of the form name=value"
            raise InputError(f"--model-args {word} {what}: write --model-args spatial_dims=2 features='[8, 16]'")
        try:
            found[key] = yaml.safe_load(value)
            json.dumps(found[key], allow_nan=False)
        except (yaml.YAMLError, TypeError, ValueError, RecursionError):
            raise InputError(f"--model-args {word} is not valid YAML after the =: mend it, or quote it") from None
    return found


def make_model(factory: str, args: Mapping[str, Any]) -> nn.Module:
    """Call a factory; with weights also where the default device is meta, on which many constructors do not run.

    Raises:
        InputError: see :func:`find_factory`; or it refuses the arguments, or makes no network.
    """
    make = find_factory(factory)
    try:
        with torch.device("cpu"):
            model = make(**args)
    except (InputError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        given = ", ".join(f"{key}={value}" for key, value in args.items()) or "none"
        raise InputError(f"{factory} refuses its --model-args ({given}): {_said(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{factory} gives what is of type {type(model).__name__}, which is no torch.nn.Module: name another"
        )
    return model


def find_factory(name: str) -> Callable[..., nn.Module]:
    """Import a factory; from the folder where the command was started, too.

    A run folder names its factory, and may come from others: so nothing is called that does not say that it makes a
    network.

    Args:
        name: ``package.module:name``.

    Raises:
        InputError: the module cannot be imported, has no such name, or it is no factory of networks.
    """
    path, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(path)
    except (Exception, SystemExit) as error:  # of the module itself, or of what it imports
        raise InputError(
            f"cannot import {path} of {name} ({_said(error)}): install it, or start in the folder that holds it"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        near = nearest(attribute, dir(module))
        hint = f"did you mean {path}:{near}?" if near else f"name one of its networks, as in {path}:Network"
        raise InputError(f"{path} has no {attribute or 'factory without a name'}: {hint}")
    if not callable(found):
        raise InputError(f"{name} is of type {type(found).__name__} and cannot be called: name a class or a function")
    returned = found if isinstance(found, type) else _returned(found)
    if not (isinstance(returned, type) and issubclass(returned, nn.Module)):
        raise InputError(
            f"{name} does not say that it makes a network, and was not called: name a class of torch.nn.Module, or "
            "annotate the function, as in def factory() -> torch.nn.Module"
        )
    return found


def _returned(function: Any) -> Any:
    """What a function is annotated to return; None where that is not known."""
    annotation = {"return": getattr(function, "__annotations__", {}).get("return")}
    try:
        names = getattr(function, "__globals__", {})
        return typing.get_type_hints(SimpleNamespace(__annotations__=annotation), names).get("return")
    except Exception:  # a name that only a type checker knows
        return None


def _said(error: Exception | SystemExit) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:LONG]}" if said else type(error).__name__
