"""Bodies of ``/api/console/terminals``: the operator's console in a browser."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LEAST_COLUMNS, MOST_COLUMNS = 40, 500
LEAST_ROWS, MOST_ROWS = 12, 200
MOST_KEYS = 65_536
"""Characters that are typed or pasted at once."""

Columns = Annotated[int, Field(ge=LEAST_COLUMNS, le=MOST_COLUMNS)]
Rows = Annotated[int, Field(ge=LEAST_ROWS, le=MOST_ROWS)]


class TerminalWish(BaseModel):
    """The window that a console is to have, in cells; what the browser's language is."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    columns: Columns = 80
    rows: Rows = 24
    language: Annotated[str, Field(pattern="^(en|zh)$")] = "en"
    light: bool = False


class TerminalInput(BaseModel):
    """What was typed, the window's new size, whether it has the focus. Any part may be left out; ``columns`` and
    ``rows`` come together."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    keys: Annotated[str, Field(max_length=MOST_KEYS)] = ""
    columns: Columns | None = None
    rows: Rows | None = None
    focused: bool | None = None
