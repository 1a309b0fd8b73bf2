"""Structures of a chemical system from the Materials Project, kept as JSON lines.

Belongs here: the one request and its file. The client is the package mp-api (extra
`materials-project`); the key comes from the environment variable MP_API_KEY and is never stored.
The data are under CC BY 4.0; cite A. Jain et al., APL Materials 1, 011002 (2013).
"""

import gzip
import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import atomic_file

_NEEDED = "pip install 'imitation-refinement[materials-project]'"
_MAX_ELEMENTS = 6


def subsystems(chemical_system: str) -> list[str]:
    """Returns a chemical system and all smaller ones in it, elements in alphabetical order.

    Args:
        chemical_system: elements joined by '-', such as `Li-Fe-O`, which gives Fe, Fe-Li, ...

    Raises:
        UserError: not so written, or more than six elements.
    """
    elements = sorted(set(chemical_system.split("-")))
    written = all(re.fullmatch("[A-Z][a-z]?", element) for element in elements)
    if not (written and len(elements) <= _MAX_ELEMENTS):
        raise UserError(
            f"config.data.materials_project = {chemical_system!r}: must be up to {_MAX_ELEMENTS} "
            "elements joined by '-', such as 'Li-Fe-O'"
        )
    sizes = range(1, len(elements) + 1)
    return ["-".join(some) for size in sizes for some in itertools.combinations(elements, size)]


def materials_project(
    chemical_system: str,
    cache_dir: str | os.PathLike[str],
    client: Callable[[str], Any] | None = None,
) -> Path:
    """Returns a file of JSON lines with all structures of a chemical system and its subsystems.

    It is fetched once; delete the file to fetch it anew. Structures predicted by GNoME are left
    out: their licence forbids commercial use.

    Args:
        chemical_system: see `subsystems`.
        cache_dir: where the file is kept.
        client: makes a client (a context manager) from a key; None: `mp_api.client.MPRester`.

    Raises:
        UserError: no key, no package, no answer, or no structure.
    """
    systems = subsystems(chemical_system)
    path = Path(cache_dir) / "materials-project" / f"{systems[-1]}.jsonl.gz"
    if path.exists():
        return path
    key = os.environ.get("MP_API_KEY", "").strip()
    if not key:
        raise UserError(
            "config.data.materials_project: no key; make one at "
            "https://next-gen.materialsproject.org/api and set the environment variable MP_API_KEY"
        )
    client = client or _client()
    logging.info("asking the Materials Project for %s", ", ".join(systems))
    try:
        with client(key) as rester:
            found = rester.materials.summary.search(
                chemsys=systems,
                deprecated=False,
                include_gnome=False,
                all_fields=False,
                fields=["material_id", "structure"],
            )
    except Exception as error:  # the client raises its own, and those of its HTTP library
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].replace(key, "...")
        raise UserError(f"config.data.materials_project: no answer ({reason})") from None
    if not found:
        raise UserError(f"config.data.materials_project: no structure of {systems[-1]}")
    lines = sorted(_line(str(entry.material_id), entry.structure) for entry in found)
    with atomic_file(path) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        packed.write("".join(lines).encode())
    return path


def _line(name: str, structure: Any) -> str:
    entry = {
        "id": name,
        "source": "Materials Project, CC BY 4.0",
        "lattice": structure.lattice.matrix.tolist(),
        "species": [site.specie.symbol for site in structure],
        "frac_coords": structure.frac_coords.tolist(),
    }
    return json.dumps(entry) + "\n"


def _client() -> Callable[[str], Any]:
    try:
        from mp_api.client import MPRester
    except ImportError as error:
        raise UserError(f"config.data.materials_project: needs mp-api: {_NEEDED}") from error
    return MPRester
