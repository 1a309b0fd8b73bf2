from importlib.metadata import version

import numpy as np
import pytest

from imitation_refinement.xrd.derive_tables import (
    affine_map,
    element_arrays,
    primitive_maps,
    wyckoff_arrays,
)
from imitation_refinement.xrd.tables import element_tables, wyckoff_tables


def test_affine_map_by_hand():
    np.testing.assert_array_equal(
        affine_map("-x+y+1/3, 2x, 5/4"), [[-1, 1, 0, 8], [2, 0, 0, 0], [0, 0, 0, 30]]
    )


def test_body_centred_position_in_primitive_coordinates():
    # (x, 0, 0) and its centring copy are one atom of the primitive cell. With the rows of P
    # (-1 1 1)/2, (1 -1 1)/2, (1 1 -1)/2 the point (x, 0, 0) has primitive coordinates (0, x, x).
    sixths = np.array([[-3, 3, 3], [3, -3, 3], [3, 3, -3]])
    found = primitive_maps(["x, 0, 0", "x+1/2, 1/2, 1/2"], sixths)
    expected = [[[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(version("pyxtal") != "1.1.5", reason="tables were made from pyxtal 1.1.5")
def test_embedded_wyckoff_table_is_what_the_script_derives():
    derived, table = wyckoff_arrays(), wyckoff_tables()._asdict()
    np.testing.assert_array_equal(derived.pop("primitive_sixths") / 6.0, table.pop("primitive"))
    assert derived.keys() == table.keys()
    for name, array in derived.items():
        np.testing.assert_array_equal(array, table[name], strict=True)


@pytest.mark.skipif(
    version("pymatgen-core") != "2026.10.16",
    reason="tables were made from pymatgen-core 2026.10.16",
)
def test_embedded_element_table_is_what_the_script_derives():
    for name, array in element_arrays().items():
        np.testing.assert_array_equal(array, getattr(element_tables(), name), strict=True)


def test_tables_are_shared_and_cannot_be_written():
    assert wyckoff_tables() is wyckoff_tables()
    with pytest.raises(ValueError, match="read-only"):
        element_tables().radius[8] = 0.0
