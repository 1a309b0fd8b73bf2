"""Spreadsheets (.xlsx, .xls, .ods), read by python-calamine (extra `formats`).

Belongs here: the one door to python-calamine. Each sheet is read as a text table of the same cells
would be. Works on bytes; opens no files.
"""

import io

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import INSTALL, Columns
from imitation_refinement.xrd.formats.text import read_table


def read_sheets(data: bytes, source: str) -> list[Columns]:
    """Returns the patterns of all sheets that have one, named by the sheet if several have.

    Raises:
        UserError: damaged, no sheet has a pattern, or python-calamine is not installed.
    """
    try:
        import python_calamine
    except ImportError as error:
        raise UserError(f"{source}: spreadsheets need python-calamine; {INSTALL}") from error
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
        sheets = {name: book.get_sheet_by_name(name).to_python() for name in book.sheet_names}
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{source}: damaged, or no spreadsheet ({reason})") from error
    found: dict[str, list[Columns]] = {}
    refused: dict[str, UserError] = {}
    for name, rows in sheets.items():
        lines = ["\t".join(_text(cell) for cell in row) for row in rows]
        if not any(line.strip() for line in lines):
            continue
        try:
            found[name] = read_table(lines, f"{source} (sheet {name})")
        except UserError as error:
            refused[name] = error
    if not found:
        raise next(iter(refused.values()), UserError(f"{source}: no cell has anything in it"))
    several = len(found) > 1
    result = [
        item._replace(name="_".join(part for part in (sheet * several, item.name) if part))
        for sheet, items in found.items()
        for item in items
    ]
    if refused:
        note = f"sheets without a pattern: {', '.join(refused)}"
        result[0] = result[0]._replace(notes=(*result[0].notes, note))
    return result


def _text(cell: object) -> str:
    """Returns a cell as a field of text; line breaks and tabs in it would begin another."""
    text = repr(cell) if isinstance(cell, float) else str(cell)
    return " ".join(text.split())
