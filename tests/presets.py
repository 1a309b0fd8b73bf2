"""Configs of `configs/`, loaded as main.py would."""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

CONFIGS = Path(__file__).parents[1] / "configs"


def preset(name: str = "", file: str = "xrd.py") -> ConfigDict:
    """Returns a config; `name` as after the colon of --config."""
    return runpy.run_path(str(CONFIGS / file))["get_config"](name)
