"""Self-contained HTML pages of the commands on measured patterns.

Belongs here: rendering a template with the number formats of the report. Everything from files is
escaped; a page loads nothing from elsewhere.
"""

from typing import Any

from imitation_refinement.report.page import environment


def render_page(template: str, **context: Any) -> str:
    """Returns a page; every value of the context is escaped."""
    return environment().get_template(template).render(context)
