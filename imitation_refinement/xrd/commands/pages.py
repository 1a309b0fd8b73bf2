"""Self-contained HTML pages of the commands on measured patterns.

Belongs here: rendering a template with the number formats of the report. Everything from files is
escaped; a page loads nothing from elsewhere.
"""

import base64
from typing import Any, NamedTuple

from imitation_refinement.report import environment


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
    return environment().get_template(template).render(context)
