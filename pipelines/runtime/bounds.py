"""The numbers that a setting may have, stated once for each key."""

from __future__ import annotations

from collections.abc import Iterator

from jsonargparse import Namespace

from recon.errors import InputError

Number = int | float
LARGEST_INT, LARGEST_FLOAT = 2**31 - 1, 1e30  # of all others: what 32 bits hold
MOST_CPUS = 1024
SEED = (0, 2**32 - 1)  # numpy's
SIDE = (1, 2**14)  # pixels
SHIFTS, MAX_SHIFT = (0, 2**16), (1, 2**14)
BATCH_SIZE = (1, 2**20)
COILS, NOISE, PHOTONS = (0, 2**8), (0, 1e6), (0, 1e15)
BOUNDS: dict[str, tuple[Number, Number]] = {
    "seed": SEED,
    "threads": (1, MOST_CPUS),
    "ray_workers": (1, 2**12),
    "dataset.accelerations": (1, 2**10),
    "dataset.batch_size": BATCH_SIZE,
    "dataset.fold": (0, 2**10),
    "dataset.folds": (3, 2**10),
    "dataset.image_size": SIDE,
    "dataset.max_shift": (0, 2**14),
    "dataset.n_workers": (0, MOST_CPUS),
    "network.n_classes": (1, 2**20),
    "network.in_channels": (1, 2**10),
    "network.stride": (2, 2**5),
    "network.widths": (-LARGEST_INT, 2**16),
    "loss.label_smoothing": (0, 1),
    "optimizer.lr": (0, LARGEST_FLOAT),
    "scheduler.step_size": (1, LARGEST_INT),
    "trainer.accumulate_grad_batches": (1, 2**20),
    "trainer.devices": (-1, MOST_CPUS),
    "trainer.gradient_clip_val": (0, LARGEST_FLOAT),
    "trainer.limit_train_batches": (0, LARGEST_INT),
    "trainer.limit_val_batches": (0, LARGEST_INT),
    "trainer.log_every_n_steps": (0, LARGEST_INT),
    "trainer.min_epochs": (0, LARGEST_INT),
    "trainer.num_nodes": (1, 2**12),
    "evaluation.shifts": SHIFTS,
    "evaluation.max_shift": MAX_SHIFT,
}


def check_bounds(config: Namespace) -> None:
    """Refuse numbers that nothing can work with, wherever they stand.

    Raises:
        InputError: names the key and the nearest number that is possible.
    """
    for key, value in config.items():
        for number in _numbers(_read(value) if key == "trainer.devices" else value):
            least, most = BOUNDS.get(key, (-LARGEST_INT, LARGEST_INT) if isinstance(number, int) else (-1e30, 1e30))
            check_number(key, number, least, most)


def check_number(name: str, number: Number, least: Number, most: Number) -> None:
    """Refuse a number outside its bounds, inf and nan among them.

    Args:
        name: the setting's, for the message.
        number: what the user gave.
        least: the smallest that is possible.
        most: the largest.

    Raises:
        InputError: names the setting, the number and the bound.
    """
    if not least <= number <= most:
        given = f"{number:.6g}" if isinstance(number, float) or number.bit_length() < 1000 else "too large"
        given = str(number) if isinstance(number, int) and number.bit_length() < 70 else given
        remedy = f"{least} or more" if number < least else f"at most {most}" if number > most else "a number"
        raise InputError(f"{name} is {given}: give {remedy}")


def _read(value: object) -> object:
    """Lightning takes a number of devices as text too."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _numbers(value: object) -> Iterator[Number]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
