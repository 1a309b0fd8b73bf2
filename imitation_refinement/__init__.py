"""Imitation refinement (Bai et al., AAAI 2019): make imperfect patterns recognisable, and true.

The names in `__all__` are the public interface; `api` shows how they are used. They are imported
when they are first asked for: importing the package imports nothing heavy, so that worker processes
that simulate data do without JAX.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Assessment": "model.model",
    "Model": "model.model",
    "UserError": "errors",
    "Analysis": "commands.analysis",
    "analyze": "api",
    "classify": "api",
    "export_model": "model.export",
    "identify": "api",
    "load_model": "model.find",
    "load_phases": "api",
    "read_patterns": "xrd.formats",
    "refine": "api",
    "save_model": "model.portable",
}
__all__ = sorted(_PUBLIC)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
