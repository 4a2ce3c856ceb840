"""YAML files that say each thing once."""

from __future__ import annotations

from pathlib import Path

import yaml

from data_prep.storage.strict_yaml import strict_yaml
from pipelines.runtime.nested import Value
from pipelines.runtime.nested import keys as keys_of
from recon.errors import InputError


def read_yaml(path: Path, what: str, hint: str, example: str) -> dict[str, Value]:
    """The keys of a YAML file.

    Args:
        path: the file.
        what: it is, such as "the configuration".
        hint: what to do where it is no YAML, such as "give another --config".
        example: of such a file.

    Raises:
        InputError: it cannot be read, is no YAML, holds no keys, or has a key twice, nested or dotted.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(f"{what} {path} is not a file: {hint}")
        content = strict_yaml(path.read_text(encoding="utf-8"))
        keys = keys_of(content) if isinstance(content, dict) else []
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {error.strerror}") from None
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except RecursionError:
        raise InputError(f"{path} holds itself or is nested too deeply: mend it or {hint}") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError):  # also a date or a number that there is not
        raise InputError(f"{path} is not valid YAML: mend it or {hint}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no keys: give a YAML file such as {example}")
    for number, key in enumerate(keys):
        if key in keys[:number]:
            raise InputError(f"{path}: the key {key} stands twice, nested and dotted: leave one of them out")
    return content
