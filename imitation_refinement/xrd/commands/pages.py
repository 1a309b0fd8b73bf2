"""Self-contained HTML pages of the commands on measured patterns.

Belongs here: rendering a template with the number formats of the report. Everything from files is
escaped; a page loads nothing from elsewhere.
"""

import base64
from typing import Any, NamedTuple

import jinja2

from imitation_refinement.report import interval_number, interval_percent, interval_points, number
from imitation_refinement.verdict import percent, points


class Figure(NamedTuple):
    """A picture of a page: PNG bytes, a title and what it shows."""

    title: str
    caption: str
    png: bytes

    @property
    def data(self) -> str:
        """The picture in base64."""
        return base64.b64encode(self.png).decode("ascii")


def render_page(template: str, **context: Any) -> str:
    """Returns a page; every value of the context is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("imitation_refinement"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent, "points": points, "number": number,
        "interval_percent": interval_percent, "interval_points": interval_points,
        "interval_number": interval_number,
    }  # fmt: skip
    return environment.get_template(template).render(context)
