"""A place with records and the images that they name, on either database, for whole-store tests."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from inspection.events import Erasure, Hold, Naming, PartEvent
from inspection.stores.database import open_engine
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_url
from inspection.stores.schema import metadata
from inspection.stores.sql import open_records
from tests.contracts.drafts import make_draft, make_review

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.record import InspectionDraft, InspectionRecord
    from inspection.stores.sql import SqlRecordStore

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A data folder and the address of its records."""

    data_dir: Path
    url: str

    @classmethod
    def on_sqlite(cls, data_dir: Path) -> Plant:
        """One whose records are in the folder itself."""
        data_dir.mkdir(exist_ok=True)
        return cls(data_dir=data_dir, url=records_url(data_dir))

    @property
    def images(self) -> FileImageStore:
        """Its images, to be written."""
        return FileImageStore(images_dir(self.data_dir))

    def draft(self, **fields: Any) -> InspectionDraft:
        """A draft whose image and evidence map are kept already, as the server does it."""
        number = next(_numbers)
        images = self.images
        made = make_draft(image_sha256=images.put(f"image {number}".encode() * 50), **fields)
        assert made.evidence is not None
        map_sha256 = images.put(f"map {number}".encode() * 20)
        return replace(made, evidence=replace(made.evidence, sha256=map_sha256))

    def inspect(self, count: int = 1, **fields: Any) -> list[InspectionRecord]:
        """Add inspections."""
        with closing(open_records(self.url)) as store:
            return [store.append(self.draft(**fields)) for _ in range(count)]

    def live(self) -> list[InspectionRecord]:
        """A day of this place: inspections, a review, events, a hold, another name; the first."""
        records = self.inspect(6, serial="A1", lot="L1", mould="M1")
        with closing(open_records(self.url)) as store:
            store.append_review(make_review(records[0].id))
            self._say(store)
        return records

    def _say(self, store: SqlRecordStore) -> None:
        number = next(_numbers)
        said = {"product": "knuckle", "by": "kim", "recorded_at": "2026-03-01T00:00:00.000Z"}
        at = "2026-03-01T01:00:00Z"
        store.add(PartEvent(id=f"event-{number}", part="A1", event="shipped", at=at, **said))
        hold = {"scope": "mould", "value": "M1", "reason": "flash"}
        store.add(Hold(id=f"hold-{number}", **hold, **said))  # type: ignore[arg-type]
        naming = {"part": "A1", "serial": f"B{number}", "why": "re-marked", "reason": "worn mark"}
        store.add(Naming(id=f"naming-{number}", **naming, **said))  # type: ignore[arg-type]

    def erase(self, digest: str) -> None:
        """Delete a file as retention does: the entry first, then the file."""
        with closing(open_records(self.url)) as store:
            store.add(
                Erasure(
                    id=f"erasure-{next(_numbers)}",
                    files=(digest,),
                    rule="older than two years",
                    by="retention",
                    recorded_at="2026-03-01T00:00:00.000Z",
                )
            )
        self.images.path(digest).unlink()

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, in order."""
        engine = open_engine(self.url, read_only=True)
        with engine.begin() as connection:
            found = {
                table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
                for table in metadata.sorted_tables
            }
        engine.dispose()
        return found
