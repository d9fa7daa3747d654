"""Configuration files: our TOML, and the parameter files of the authors' PyTorch code.

The latter are Python source with one `OrderedDict` of literals. They are parsed as literals and never executed.
"""

import ast
import tomllib
from pathlib import Path
from typing import Any

from gru4rec.config.train_config import TrainConfig, from_mapping, to_mapping
from inference.shared.errors import UserError


def read_config(path: str | Path) -> dict[str, Any]:
    """The key/value pairs of a configuration file that is valid by itself.

    Raises:
        UserError: as `parse_config`; a key is unknown, or `TrainConfig` refuses a value.
    """
    values = parse_config(path)
    from_mapping(values, source=str(path))
    return values


def parse_config(path: str | Path) -> dict[str, Any]:
    """The key/value pairs of a configuration file, unchecked: TOML, or an official `OrderedDict` parameter file.

    Raises:
        UserError: the file is missing or has neither format.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the configuration {path}: {error}") from None
    if path.suffix == ".py":
        return _official_parameters(text, path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected TOML, got an error: {error}") from None


def _official_parameters(text: str, path: Path) -> dict[str, Any]:
    expected = UserError(f"{path}: expected gru4rec_params = OrderedDict([(name, value), …]) with literal values")
    try:
        tree = ast.parse(text)
        calls = [node.value for node in tree.body if isinstance(node, ast.Assign)]
        if len(calls) != 1 or not isinstance(calls[0], ast.Call) or len(calls[0].args) != 1:
            raise expected
        values = dict(ast.literal_eval(calls[0].args[0]))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise expected from None
    if values.get("embedding") == "layersize":
        layers = {name: value for name, value in values.items() if name == "layers"}
        values["embedding"] = from_mapping(layers, source=str(path)).layers[0]
    return values


def to_toml(config: TrainConfig) -> str:
    """The configuration as TOML text that `read_config` reads back."""
    import tomli_w

    return tomli_w.dumps(to_mapping(config))
