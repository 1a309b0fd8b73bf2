"""Rows of plain numbers in text, all at once.

Belongs here: the fast way for what most files are, and the door to pyarrow's parser of numbers. It
says nothing of text that is not plain: who calls it reads that another way, with the same result.
"""

import numpy as np

try:
    import pyarrow
except ImportError:  # of the extra `scale`
    pyarrow = None

_COMMA, _END = b",\n"
_BLANK = np.isin(np.arange(256), list(b" \t\n"))


def plain_rows(text: str) -> np.ndarray | None:
    r"""Returns the rows of text whose lines are as many plain numbers each, float64 `[n, columns]`.

    They are separated by blanks and tabs, or by one comma each, and lines by `\n` or `\r\n`; each
    is what `float` makes of it, to the bit. None where any line is empty or anything else, or
    pyarrow is not installed.

    Args:
        text: the rows, nothing before or after them.
    """
    if pyarrow is None or not text.isascii():
        return None
    data = text.replace("\r\n", "\n").encode().rstrip(b"\n") + b"\n"
    comma = b"," in data
    if data.translate(None, b"0123456789.+-eE\n" + (b"," if comma else b" \t")):
        return None
    symbols = np.frombuffer(data, np.uint8)
    between = (symbols == _COMMA) | (symbols == _END) if comma else _BLANK[symbols]
    change = np.flatnonzero(between[1:] != between[:-1]) + 1
    edges = change if between[0] else np.concatenate([[0], change])
    first, end = edges[0::2], edges[1::2]
    width = int(np.searchsorted(first, data.index(b"\n")))
    if not width or len(first) % width:
        return None
    if comma and (between[0] or np.any(first[1:] != end[:-1] + 1)):
        return None  # an empty field
    rows = len(first) // width
    if data.count(b"\n") != rows or np.any(symbols[end[width - 1 :: width]] != _END):
        return None
    offset = np.zeros(len(first) + 1, np.int32)
    np.cumsum(end - first, out=offset[1:])
    fields = pyarrow.StringArray.from_buffers(
        len(first), pyarrow.py_buffer(offset), pyarrow.py_buffer(symbols[~between])
    )
    try:
        values = fields.cast(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return None
    return values.to_numpy().reshape(rows, width).copy()
