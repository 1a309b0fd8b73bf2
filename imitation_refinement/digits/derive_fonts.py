"""Makes the digits-only fonts in `faces/` from the npm packages of Fontsource.

Belongs here: unpacking those packages and cutting the fonts down to ten glyphs. Needed only to
renew the files:

    pip install fonttools==4.68.0
    npm pack @fontsource/kalam@5.3.0 @fontsource/yellowtail@5.3.0 \
        @fontsource/patrick-hand@5.3.0 @fontsource/courier-prime@5.3.0
    python -m imitation_refinement.digits.derive_fonts .

None of them has a Reserved Font Name, so the subsets may keep their names; the licence of each lies
beside it (SIL Open Font License 1.1; Yellowtail: Apache License 2.0). `faces/README.md` says what
was changed, as both licences ask.
"""

import io
import sys
import tarfile
from pathlib import Path

FACES = Path(__file__).with_name("faces")
VERSION = "5.3.0"
PACKAGES = ("kalam", "yellowtail", "patrick-hand", "courier-prime")


def subset(woff: bytes) -> bytes:
    """Returns a TrueType font with the glyphs of 0 to 9 alone, unhinted, outlines unchanged."""
    from fontTools import subset as fonttools  # type: ignore[import-untyped]

    options = fonttools.Options()
    options.hinting = False
    options.layout_features = []  # no ligatures or alternative figures
    options.name_IDs = ["*"]  # copyright and licence stay in the file
    options.recalc_timestamp = False  # the same bytes each time
    font = fonttools.load_font(io.BytesIO(woff), options)
    subsetter = fonttools.Subsetter(options)
    subsetter.populate(text="0123456789")
    subsetter.subset(font)
    font.flavor = None
    result = io.BytesIO()
    font.save(result)
    return result.getvalue()


def main(folder: str) -> None:
    """Writes `<name>.ttf` and `<name>.LICENSE.txt` for each package in `folder`."""
    FACES.mkdir(exist_ok=True)
    for name in PACKAGES:
        with tarfile.open(Path(folder, f"fontsource-{name}-{VERSION}.tgz")) as archive:
            woff = archive.extractfile(f"package/files/{name}-latin-400-normal.woff")
            licence = archive.extractfile("package/LICENSE")
            assert woff is not None and licence is not None
            (FACES / f"{name}.ttf").write_bytes(subset(woff.read()))
            (FACES / f"{name}.LICENSE.txt").write_bytes(licence.read())


if __name__ == "__main__":
    main(sys.argv[1])
