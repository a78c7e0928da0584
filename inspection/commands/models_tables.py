"""The tables of `inspection models`, for people; each fits 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inspection.package import ModelPackage
    from inspection.registry import Promotion, State

YES_NO = {True: "yes", False: "no", None: ""}


def list_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line for every package, of the values that `models list --format json` gives."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("model", "product"):
        table.add_column(heading, overflow="fold")
    table.add_column("state", overflow="fold", min_width=len("candidate"))
    for heading in ("escape ≤", "certified", "engines", "made"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        bound = row["escape_bound"]
        table.add_row(
            row["model"],
            row["product"],
            row["state"],
            "" if bound is None else f"{100 * bound:.1f} %",
            YES_NO[row["certified"]],
            {True: "agree", False: "differ", None: "?"}[row["engines_agree"]],
            row["created_at"][:10],
        )
    return table


def show_table(package: ModelPackage, state: State, lines: Sequence[Promotion]) -> Table:
    """Everything about a package, a line each; and what was decided on it."""
    document, recipe = package.document, package.recipe
    point = document.operating_point
    rows = [
        ("model", package.reference),
        ("state", state),
        ("product", f"{recipe.product}, recipe revision {recipe.revision}"),
        (
            "made",
            f"{document.created_at} by release {document.code_version}, preset {document.preset}",
        ),
        ("backbone", document.backbone),
        ("precision", document.precision),
    ]
    rows += [
        (
            "class",
            f"{name}: pass below {low:.4g}, "
            + (f"fail from {high:.4g}" if high <= 1 else "never fails by itself"),
        )
        for name, low, high in zip(recipe.classes, point.pass_below, point.fail_from, strict=True)
    ]
    rows += [
        ("novel", f"above {point.novelty_limit:.4g}"),
        ("certificate", point.certificate.in_words()),
    ]
    agreement = document.agreement
    rows.append(("engines", agreement.in_words() if agreement else "were not compared"))
    rows += [
        ("", f"{pair.first} -> {pair.second}: {pair.changes.in_words()}")
        for pair in (agreement.pairs if agreement else ())
    ]
    rows += [
        ("digest", package.digest),
        ("weights", package.weights_digest),
        ("data", document.data_digest),
        ("folder", str(package.folder)),
        ("files", ", ".join(sorted(package.files))),
    ]
    rows += [
        ("decided", "; ".join([f"{line.action} on {line.at[:10]} by {who(line)}", *evidence(line)]))
        for line in lines
    ]
    table = _plain_table()
    for name, value in rows:
        table.add_row(name, value)
    return table


def history_table(lines: Sequence[Promotion]) -> Table:
    """When each decision was taken; what, by whom, and on which evidence beside it."""
    table = _plain_table()
    for line in lines:
        what = {"promote": "promoted", "rollback": "rolled back to", "retire": "retired"}
        said = [f"{line.product}: {what[line.action]} {line.reference}, by {who(line)}"]
        table.add_row(line.at[:16].replace("T", " "), "\n".join([*said, *evidence(line)]))
    return table


def who(line: Promotion) -> str:
    """Who decided it; the account too where the name is another one."""
    return line.by if line.account in (None, line.by) else f"{line.by} (account {line.account})"


def evidence(line: Promotion) -> list[str]:
    """Why it was decided, and what was known, a line each."""
    said = []
    if line.reason is not None:
        said.append(f"reason: {line.reason}")
    if line.accepted_risk is not None:
        said.append(f"accepted risk: {line.accepted_risk}")
    if line.evidence is None:
        said.append("certified" if line.certified else "not certified")
    elif line.action != "retire":
        said += [
            f"certificate: {line.evidence.certificate}",
            f"engines: {line.evidence.agreement}",
        ]
    return said


def _plain_table() -> Table:
    """Two columns: a name, and whatever is to be said of it."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def print_table(table: Table) -> None:
    """To stdout, as wide as its terminal; 80 columns where there is none."""
    Console(soft_wrap=False, highlight=False, markup=False).print(table)
