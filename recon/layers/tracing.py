"""Modules that torch.fx, and so torchvision's feature extractors, record as one node without looking inside."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import fx


def one_node(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a module's ``forward`` that decides by sizes or values, which a tracer does not have."""

    @functools.wraps(forward)
    def run(module: Any, *args: Any, **settings: Any) -> Any:
        for x in args:
            if isinstance(x, fx.Proxy) and isinstance(x.tracer, fx.Tracer):
                return x.tracer.create_proxy("call_module", x.tracer.path_of_module(module), args, settings)
        return forward(module, *args, **settings)

    return run
