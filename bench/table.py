"""Rows of strings as an aligned text table or as Markdown."""

from collections.abc import Callable, Sequence

Rows = Sequence[Sequence[str]]
Layout = Callable[[Sequence[str], Rows], str]


def text(header: Sequence[str], rows: Rows) -> str:
    """Left-aligns the first column and those under a header that ends in a blank."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if index == 0 or name.endswith(" ") else cell.rjust(width)
            for index, (cell, width, name) in enumerate(zip(cells, widths, header, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join(line(cells) for cells in (header, *rows))


def markdown(header: Sequence[str], rows: Rows) -> str:
    rule = [":--" if i == 0 or name.endswith(" ") else "--:" for i, name in enumerate(header)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))
