"""A row per click: the columns that are read, with nested values unrolled.

A column may be a path into nested values (contexts.product.sku). Lists on the way are unrolled, those of one depth
together, so that {"session": 1, "events": [{"aid": 7, "ts": 0}, {"aid": 8, "ts": 9}]} becomes two rows. Text that holds
JSON, or a list such as "['a' 'b']", is read as what it holds.
"""

from collections.abc import Mapping

import polars as pl

from gru4rec.data.reading.json_objects import as_text
from gru4rec.data.reading.log_file import LogFile, missing_column, reading_errors

SAMPLE_ROWS = 1000
ROW = "row"
BRACKETED, LISTED = r"^\s*\[.*\]\s*$", r"[^\s,'\"\[\]]+"
OBJECT, BETWEEN_OBJECTS = r"^\s*\{.*\}\s*$", r"\}\s+\{"

Path = tuple[str, ...]


def select_rows(file: LogFile, columns: Mapping[str, str], item_separator: str = "") -> pl.LazyFrame:
    """The rows of a file, one per click, in its order.

    Args:
        file: the file.
        columns: role → name or path of a column; "a+b" takes the items of a and then that of b.
        item_separator: between the items of one cell; "" if a cell holds one.

    Returns:
        A frame with a column per role, and "row", the row of the file from 1.

    Raises:
        UserError: there is no such column.
    """
    paths = {role: [_find_path(file, role, part) for part in _parts(file, name)] for role, name in columns.items()}
    table = _Table(file, [path for parts in paths.values() for path in parts])
    table.open_structs()
    items = paths["item"]
    if len(items) > 1:
        table.join_items(items)
    elif table.kinds.get(items[0]) == pl.String:
        table.split_cells(items[0], item_separator)
    while table.unroll(items[0]):
        table.open_structs()
    return table.frame.select(ROW, **{role: pl.col(_column(parts[0])) for role, parts in paths.items()})


def kinds_of(file: LogFile, columns: Mapping[str, str]) -> dict[str, pl.DataType]:
    """The type of each role's values in the rows of a file.

    Raises:
        UserError: there is no such column.
    """
    with reading_errors(file):
        return dict(select_rows(file, columns).collect_schema())


def _parts(file: LogFile, name: str) -> list[str]:
    return [name] if name in file.names else name.split("+")


def _find_path(file: LogFile, role: str, name: str) -> Path:
    """The steps to a column: its name, or the names on the way into nested values."""
    path = (name,) if name in file.names else tuple(name.split("."))
    if file.names.count(path[0]) != 1:
        raise missing_column(file, role, name)
    return path


def _column(path: Path) -> str:
    return "\x1f".join(path)


class _Table:
    """A frame whose columns are opened and unrolled until every path is one of them.

    Args:
        file: the file.
        paths: the columns to reach.
    """

    def __init__(self, file: LogFile, paths: list[Path]):
        self._file = file
        self._paths = paths
        schema = file.schema()
        self.kinds = {path[:1]: schema[path[0]] for path in paths}
        columns = [pl.col(path[0]).alias(_column(path)) for path in self.kinds]
        self.frame = file.frame.with_row_index(ROW, 1).select(ROW, *columns)

    def open_structs(self) -> None:
        """Add the next step of each path as a column, as far as the values are objects or text that holds them."""
        for path in self._paths:
            for size in range(1, len(path)):
                outer, step = path[:size], path[: size + 1]
                if step in self.kinds or outer not in self.kinds:
                    continue
                if self.kinds[outer] == pl.String:
                    self._decode(outer)
                kind = self.kinds[outer]
                if isinstance(kind, pl.List):
                    break
                fields = {field.name: field.dtype for field in kind.fields} if isinstance(kind, pl.Struct) else {}
                if path[size] not in fields:
                    raise missing_column(self._file, "nested", ".".join(path))
                self.kinds[step] = fields[path[size]]  # type: ignore[assignment]
                opened = pl.col(_column(outer)).struct.field(path[size]).alias(_column(step))
                self.frame = self.frame.with_columns(opened)

    def _decode(self, path: Path) -> None:
        """Read text that holds JSON; of several objects one after the other, the fields of all."""
        text = pl.col(_column(path)).str.replace_all(BETWEEN_OBJECTS, ", ")
        sample = self._sample(path).str.replace_all(BETWEEN_OBJECTS, ", ")
        if sample.is_empty() or not sample.str.contains(OBJECT).all():
            return
        kind = as_text(sample.str.json_decode(infer_schema_length=SAMPLE_ROWS).dtype)
        self._replace(path, text.str.json_decode(kind), kind)

    def split_cells(self, path: Path, separator: str) -> None:
        """Read cells that hold several items as lists."""
        if separator:
            self._replace(path, pl.col(_column(path)).str.split(separator), pl.List(pl.String()))
        else:
            sample = self._sample(path)
            if not sample.is_empty() and sample.str.contains(BRACKETED).all():
                self._replace(path, pl.col(_column(path)).str.extract_all(LISTED), pl.List(pl.String()))

    def join_items(self, paths: list[Path]) -> None:
        """Join the items of several columns into lists in the first one."""
        for path in paths:
            if self.kinds[path] == pl.String:
                self.split_cells(path, "")
        joined = pl.concat_list([pl.col(_column(path)) for path in paths])
        self._replace(paths[0], joined, pl.List(pl.String()))
        for path in paths[1:]:
            self.kinds.pop(path)

    def unroll(self, item: Path) -> bool:
        """Give each element of the outermost lists a row; false if the items are in none."""
        lists = [path for path, kind in self.kinds.items() if isinstance(kind, pl.List)]
        if not any(item[: len(path)] == path for path in lists):
            return False
        for path in lists:
            self.kinds[path] = self.kinds[path].inner  # type: ignore[attr-defined]
        self.frame = self.frame.explode([_column(path) for path in lists])
        return True

    def _replace(self, path: Path, value: pl.Expr, kind: pl.DataType) -> None:
        self.frame, self.kinds[path] = self.frame.with_columns(value.alias(_column(path))), kind

    def _sample(self, path: Path) -> pl.Series:
        column, samples = _column(path), self._file.samples
        if column not in samples:
            with reading_errors(self._file):
                samples[column] = self.frame.select(column).head(SAMPLE_ROWS).collect()[column].drop_nulls()
        return samples[column]
