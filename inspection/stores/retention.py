"""Images that are kept long enough are deleted; what they were stays on record, and proven.

    rules, now -> choose:  1. standing legal holds
                           2. images of inspections that are due, each once, at most MAX_FILES
                           3. less those that any other inspection names: not due, or held
               -> apply:   Erasure (durable; refused if a legal hold came) -> files go -> choose on

An inspection is due when a rule covers its product and it was received longer ago than the rule
says. Products without a rule keep their images for ever. Nothing but image files and evidence maps
is ever deleted: records, digests and proofs stay.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson
from sqlalchemy import select

from inspection.errors import ConfigurationError, RecordsDamaged
from inspection.events import Erasure
from inspection.names import new_inspection_id
from inspection.stores.derived import in_utc
from inspection.stores.reading import in_months
from inspection.stores.schema import entries, erased_files, holds
from inspection.stores.statements import newest_hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from inspection.stores.files import FileImageStore
    from inspection.stores.sql import SqlRecordStore

MAX_FILES: Final = 200_000
"""Files that are chosen at once: it bounds memory. There may be more; they are chosen next."""

FILES_AN_ENTRY: Final = 1000
CHUNK: Final = 2000
MARGIN_S: Final = 3600.0
"""A file that was put within this time before may belong to an inspection that is going on."""

_DAYS: Final = range(1, 36_526)


# --- rules ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """How long the images of some products are kept.

    Attributes:
        name: of the rule, such as the customer's.
        products: whose images it covers.
        images_days: since an inspection was received.
    """

    name: str
    products: tuple[str, ...]
    images_days: int

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable() or len(self.name) > 100:
            raise ConfigurationError("`name` of a retention rule holds 1 to 100 characters")
        if not self.products or not all(self.products):
            raise ConfigurationError(f"retention rule {self.name!r} names no product")
        if self.images_days not in _DAYS:
            raise ConfigurationError(
                f"retention rule {self.name!r}: `images_days` is a whole number of days, "
                f"{_DAYS.start} to {_DAYS.stop - 1}"
            )

    @property
    def in_words(self) -> str:
        """As an erasure says it."""
        return f"{self.name}: images are kept for {self.images_days} days"


def read_rules(path: Path) -> tuple[RetentionRule, ...]:
    """The rules in a TOML file: tables `[[retention]]` with name, products and images_days.

    Raises:
        ConfigurationError: it cannot be read, a rule does not hold, or two cover one product.
    """
    remedy = 'Write [[retention]] tables: name = "...", products = ["..."], images_days = 365.'
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", remedy=remedy) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}", remedy=remedy) from error
    tables = content.pop("retention", None)
    if content or not isinstance(tables, list) or not tables:
        raise ConfigurationError(f"{path} holds no rules, or something else too", remedy=remedy)
    try:
        rules = tuple(_rule(table) for table in tables)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}", remedy=remedy) from None
    covered: set[str] = set()
    for rule in rules:
        for product in rule.products:
            if product in covered:
                raise ConfigurationError(
                    f"{path}: product {product} is covered twice",
                    remedy="Name each product under one rule, once.",
                )
            covered.add(product)
    return rules


def _rule(table: Any) -> RetentionRule:
    if not isinstance(table, dict) or table.keys() != {"name", "products", "images_days"}:
        raise ConfigurationError("a rule has `name`, `products` and `images_days`, nothing else")
    name, products, days = table["name"], table["products"], table["images_days"]
    fits = isinstance(products, list) and all(isinstance(each, str) for each in products)
    if not isinstance(name, str) or not fits or type(days) is not int:
        raise ConfigurationError("`name` is text, `products` a list of text, `images_days` whole")
    return RetentionRule(name=name, products=tuple(products), images_days=days)


# --- choosing ------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Choice:
    """What may go now.

    Attributes:
        files: digest to rule, of files that are there.
        recorded: those of them that an earlier erasure speaks of; a crash left them.
        holds_seen: as `newest_hold` gave it, before anything was chosen.
        kept: files of due inspections that stay: `held` of them because an inspection that names
            them is under a legal hold, `needed` because another that does is not yet due.
        size_bytes: of `files` together.
        more: whether MAX_FILES was reached.
    """

    files: dict[str, RetentionRule] = field(default_factory=dict)
    recorded: set[str] = field(default_factory=set)
    holds_seen: int = 0
    kept: set[str] = field(default_factory=set)
    held: int = 0
    needed: int = 0
    size_bytes: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """What of an inspection says whether its files may go."""

    sequence: int
    product: str
    part: str
    lot: str | None
    mould: str | None
    received_at: str
    files: tuple[str, ...]


def choose(
    store: SqlRecordStore,
    images: FileImageStore,
    rules: Sequence[RetentionRule],
    *,
    now: datetime,
    skip: frozenset[str] = frozenset(),
) -> Choice:
    """The files that may go now, the oldest first. Changes nothing.

    Args:
        store: the records.
        images: the files.
        rules: no two for one product.
        now: with a zone.
        skip: files that were looked at before, and stayed.

    Raises:
        RecordsDamaged: a record cannot be read: nobody knows then what it names.
    """
    before = {
        product: in_utc((now - timedelta(days=rule.images_days)).isoformat())
        for rule in rules
        for product in rule.products
    }
    rule_of = {product: rule for rule in rules for product in rule.products}
    choice = Choice()
    choice.holds_seen, held = _legal_holds(store)

    def due(named: _Named) -> bool:
        limit = before.get(named.product)
        return limit is not None and _instant(named.received_at) < limit

    found: dict[str, int] = {}  # digest to the last inspection that is due and names it
    for named in _inspections(store):
        if not due(named):
            continue
        for digest in named.files:
            if digest in found:
                found[digest] = named.sequence
            elif digest not in skip and _is_old(images, digest, now):
                if len(found) == MAX_FILES:
                    choice.more = True
                    continue
                found[digest] = named.sequence
                choice.files[digest] = rule_of[named.product]
    for named in _inspections(store) if found else ():
        is_held = _covered(named, held)
        if due(named) and not is_held:
            continue
        for digest in named.files:
            if choice.files.pop(digest, None) is not None:
                choice.kept.add(digest)
                choice.held += is_held
                choice.needed += not is_held
    choice.recorded = _recorded(store, {digest: found[digest] for digest in choice.files})
    for digest in choice.files:
        try:
            choice.size_bytes += images.path(digest).stat().st_size
        except FileNotFoundError:  # it went meanwhile
            continue
    return choice


def _is_old(images: FileImageStore, digest: str, now: datetime) -> bool:
    """Whether the file is there, and nobody has put it lately."""
    try:
        return images.path(digest).stat().st_mtime < now.timestamp() - MARGIN_S
    except FileNotFoundError:
        return False


def _inspections(store: SqlRecordStore) -> Iterator[_Named]:
    """Every inspection in its order, in short transactions: the log can be cleared in between."""
    newest, after = store.newest(), 0
    while after < newest:
        with store.reading("the records cannot be read for retention") as connection:
            rows = connection.execute(
                select(entries.c.sequence, entries.c.body)
                .where(
                    entries.c.sequence > after,
                    entries.c.sequence <= after + CHUNK,
                    entries.c.kind == "inspection",
                    *in_months(connection, after + 1, after + CHUNK),
                )
                .order_by(entries.c.sequence)
            ).all()
        yield from (_named(row.sequence, row.body) for row in rows)
        after += CHUNK


def _named(sequence: int, body: bytes) -> _Named:
    try:
        record = orjson.loads(body)
        evidence = record["evidence"]
        return _Named(
            sequence=sequence,
            product=record["product"],
            part=record["part"],
            lot=record["lot"],
            mould=record["mould"],
            received_at=record["received_at"],
            files=(record["image_sha256"], *([evidence["sha256"]] if evidence else [])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RecordsDamaged(f"record {sequence} is no inspection: {error}") from error


def _instant(received_at: str) -> str:
    # The server writes them in UTC with milliseconds, so that they compare as text.
    return received_at if received_at.endswith("Z") else in_utc(received_at)


def _legal_holds(store: SqlRecordStore) -> tuple[int, set[tuple[str, str, str]]]:
    """How new they are, and (product, scope, value) of those that stand, parts by all names."""
    with store.reading("the holds cannot be read") as connection:
        seen = newest_hold(connection)
        rows = connection.execute(
            select(holds.c.product, holds.c.scope, holds.c.value).where(
                holds.c.legal == 1, holds.c.released.is_(None)
            )
        ).all()
    held = set()
    for product, scope, value in rows:
        names = store.names(product, value).names if scope == "part" else (value,)
        held |= {(product, scope, name) for name in names}
    return seen, held


def _covered(named: _Named, held: set[tuple[str, str, str]]) -> bool:
    return bool(held) and (
        (named.product, "part", named.part) in held
        or (named.product, "lot", named.lot) in held
        or (named.product, "mould", named.mould) in held
    )


def _recorded(store: SqlRecordStore, last_named: dict[str, int]) -> set[str]:
    """Those files that were erased on record after the last inspection that names them."""
    recorded = set()
    digests = list(last_named)
    for start in range(0, len(digests), CHUNK):
        with store.reading("the erased files cannot be read") as connection:
            rows = connection.execute(
                select(erased_files.c.sha256, erased_files.c.sequence).where(
                    erased_files.c.sha256.in_(digests[start : start + CHUNK])
                )
            )
            recorded |= {row.sha256 for row in rows if row.sequence > last_named[row.sha256]}
    return recorded


# --- deleting ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was done: files that are gone, by rule, their bytes, and files kept in spite of it."""

    files: dict[str, int]
    size_bytes: int
    held: int
    needed: int


def apply(
    store: SqlRecordStore,
    images: FileImageStore,
    rules: Sequence[RetentionRule],
    *,
    by: str,
    now: datetime | None = None,
    progress: Callable[[int], None] | None = None,
) -> Erased:
    """Delete the images that are due. The server may go on meanwhile.

    The entry that says so is durable before the first of its files goes; a crash in between leaves
    files that the next run takes away.

    Args:
        store: the records.
        images: the files.
        rules: no two for one product.
        by: who deletes.
        now: with a zone; the clock's when absent.
        progress: called with the number of files that are gone.

    Raises:
        ChangedMeanwhile: a legal hold came meanwhile; what is gone by then was not covered by it.
        RecordError: an entry could not be made durable, or the disk refused.
    """
    moment = now or datetime.now(UTC)
    gone: dict[str, int] = dict.fromkeys((rule.name for rule in rules), 0)
    stayed: set[str] = set()
    size = held = needed = 0
    while True:
        choice = choose(store, images, rules, now=moment, skip=frozenset(stayed))
        stayed |= choice.kept
        held, needed = held + choice.held, needed + choice.needed
        for rule in rules:
            digests = [digest for digest, of in choice.files.items() if of is rule]
            for start in range(0, len(digests), FILES_AN_ENTRY):
                some = digests[start : start + FILES_AN_ENTRY]
                _record(store, [d for d in some if d not in choice.recorded], rule, by, choice)
                for digest in some:
                    freed = images.remove(digest, older_than=moment.timestamp() - MARGIN_S)
                    size += freed
                    gone[rule.name] += bool(freed)
                    if not freed:
                        stayed.add(digest)
                if progress is not None:
                    progress(sum(gone.values()))
        if not choice.more:
            return Erased(files=gone, size_bytes=size, held=held, needed=needed)


def _record(
    store: SqlRecordStore, files: list[str], rule: RetentionRule, by: str, choice: Choice
) -> None:
    if not files:
        return
    recorded_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    erasure = Erasure(
        id=new_inspection_id(),
        files=tuple(files),
        rule=rule.in_words,
        by=by,
        recorded_at=recorded_at,
    )
    store.erase(erasure, holds_seen=choice.holds_seen)
