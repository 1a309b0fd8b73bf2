"""Formulas as pymatgen writes them, from amounts and from text."""

import pytest

from imitation_refinement.xrd.formula import anonymous_formula, parsed_formula, reduced_formula


@pytest.mark.parametrize(
    ("amounts", "formula"),
    [
        ({"O": 4, "Ti": 2}, "TiO2"),
        ({"Li": 4, "Fe": 4, "P": 4, "O": 16}, "LiFePO4"),
        ({"O": 2, "H": 2, "Ca": 1}, "Ca(HO)2"),
        ({"O": 8}, "O2"),
        ({"Li": 2, "O": 2}, "Li2O2"),
        ({"Fe": 0.9, "O": 1.0}, "Fe0.9O"),
        ({"S": 8, "Fe": 4}, "FeS2"),
        ({"Al": 1}, "Al"),
    ],
)
def test_reduced(amounts, formula):
    assert reduced_formula(amounts) == formula


def test_same_as_pymatgen():
    core = pytest.importorskip("pymatgen.core")
    for text in ("Ca3Al2Si3O12", "KAl3Si3O12H2", "Mg3N2O6", "NaCl", "YBa2Cu3O7", "Cu2CO5H2",
                 "La2O3", "P2N4H10", "Fe3O4", "BaSO4", "Al2S3O12"):  # fmt: skip
        composition = core.Composition(text)
        amounts = {element.symbol: 2 * n for element, n in composition.items()}
        assert reduced_formula(amounts) == composition.reduced_formula
        assert anonymous_formula(amounts) == composition.anonymized_formula


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("Ca(OH)2", {"Ca": 1, "O": 2, "H": 2}),
        ("'Fe0.9 O'", {"Fe": 0.9, "O": 1}),
        ("Al2 (Si O4)3", {"Al": 2, "Si": 3, "O": 12}),
        ("D2 O", {"H": 2, "O": 1}),
    ],
)
def test_parsed(text, amounts):
    assert parsed_formula(text) == pytest.approx(amounts)


@pytest.mark.parametrize("text", ["", "Quartz!", "Xx2", "Ca(OH", "ab"])
def test_no_formula(text):
    with pytest.raises(ValueError, match="no formula"):
        parsed_formula(text)
