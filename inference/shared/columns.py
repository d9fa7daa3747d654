"""The names of the columns that a table of clicks has."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of a table's columns; a table without a column `Time` is taken to be in order."""

    session: str = "SessionId"
    item: str = "ItemId"
    time: str = "Time"

    @property
    def names(self) -> tuple[str, str, str]:
        """Session, item and time column."""
        return self.session, self.item, self.time
