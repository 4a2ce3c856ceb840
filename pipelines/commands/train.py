"""``recon-train``: train a network, measure it, and leave a run folder."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.runs.train import configuration, train_configured
from pipelines.runtime.shell import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_train, argv)


def _train(argv: list[str]) -> None:
    config, resumed_from = configuration(argv)
    if config.ray_workers is None:
        train_configured(config, resumed_from)
        return
    from pipelines.runs.ray import train_on_ray  # Ray takes seconds to import

    train_on_ray(config, resumed_from)


if __name__ == "__main__":
    raise SystemExit(main())
