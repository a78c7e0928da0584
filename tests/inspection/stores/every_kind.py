"""A small store that holds entries of every kind, and rows in every table made from them."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from inspection.events import (
    Assembly,
    Erasure,
    Hold,
    Naming,
    PartEvent,
    ProcessValue,
    ProcessValues,
    Release,
)
from inspection.names import new_inspection_id
from inspection.store import Submission, ViewSetDraft
from inspection.stores.files import FileImageStore
from inspection.stores.places import images_dir, records_url
from inspection.stores.sql import open_records
from tests.contracts.drafts import make_draft, make_review

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.record import InspectionDraft
    from inspection.stores.sql import SqlRecordStore

PRODUCT = "knuckle"
AT = "2026-03-01T08:00:00+09:00"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def picture(number: int, side: int = 8) -> bytes:
    """A PNG that decodes."""
    pixels = np.full((side, side), number % 200, dtype=np.uint8)
    pixels[1, 2] = 255
    done, data = cv2.imencode(".png", pixels)
    assert done
    return data.tobytes()


def evidence(number: int) -> bytes:
    """An evidence map of one class."""
    buffer = io.BytesIO()
    np.save(buffer, np.full((1, 2, 2), number / 8, dtype=np.float16), allow_pickle=False)
    return buffer.getvalue()


@dataclass(slots=True)
class Builder:
    """Adds to a store; every image and evidence map is really there, unless it was erased."""

    store: SqlRecordStore
    images: FileImageStore
    number: int = 0

    def draft(self, serial: str | None, **fields: Any) -> InspectionDraft:
        self.number += 1
        made = make_draft(
            serial=serial,
            image_sha256=self.images.put(picture(self.number)),
            received_at=now(),
            **fields,
        )
        assert made.evidence is not None
        map_sha256 = self.images.put(evidence(self.number))
        found = replace(made.evidence, sha256=map_sha256, region_px=(0, 0, 8, 8))
        return replace(made, evidence=found, image_media_type="image/png", image_size_px=(8, 8))

    def add(self, statement: Any, key: str | None = None) -> Any:
        sent = None if key is None else Submission(principal="mes", key=key, request_sha256="ab")
        return self.store.add(statement, sent)

    def said(self, **fields: Any) -> dict[str, Any]:
        return {"id": new_inspection_id(), "by": "mes", "recorded_at": now(), **fields}


def fill(url: str, images: FileImageStore) -> None:
    """Entries of every kind."""
    with closing(open_records(url)) as store:
        make = Builder(store, images)
        first = store.append(make.draft("S1", lot="L1", machine="M1", mould="F1"))
        store.append_review(make_review(first.id, reviewed_at=now()))
        make.add(
            PartEvent(**make.said(product=PRODUCT, part="S1", event="cast", at=AT)), key="cast-1"
        )
        unread = store.append(make.draft(None, disposition="review"))
        make.add(
            Naming(
                **make.said(
                    product=PRODUCT, part=unread.part, serial="S1", why="bound", reason="read"
                )
            )
        )
        make.add(
            Naming(
                **make.said(product=PRODUCT, part="S1", serial="S9", why="re-marked", reason="worn")
            )
        )
        make.add(
            Assembly(
                **make.said(
                    product=PRODUCT,
                    part="S9",
                    component_product="bush",
                    component_part="B1",
                    action="fitted",
                    at=AT,
                )
            )
        )
        hold = make.add(
            Hold(**make.said(product=PRODUCT, scope="part", value="S1", reason="see", legal=True))
        )
        make.add(Release(**make.said(hold_id=hold.id, reason="seen")))
        make.add(Hold(**make.said(product=PRODUCT, scope="lot", value="L1", reason="porosity")))
        opened = store.open_views(
            ViewSetDraft(
                id=new_inspection_id(),
                station="xray-1",
                product=PRODUCT,
                serial="S2",
                views=("top", "side"),
                by="line-1",
                recorded_at=now(),
            )
        )
        for view in ("top", "side"):
            store.append(make.draft("S2", disposition="pass", view_set=opened.id, view=view))
        store.close_views(opened.id, by="line-1", received_at=now())
        of_part = {"product": PRODUCT, "part": "S1"}
        values = (
            ProcessValue(name="melt", value=690.5, unit="degC", at=AT, **of_part),
            ProcessValue(name="pressure", value=80.0, unit="MPa", at=AT, machine="M1", until=now()),
        )
        make.add(ProcessValues(**make.said(values=values)), key="values-1")
        gone = store.append(make.draft("S1", reason="recheck"))
        make.add(Erasure(**make.said(files=(gone.image_sha256,), rule="keep passes for a day")))
        images.path(gone.image_sha256).unlink()


def build(folder: Path) -> Path:
    """The data folder of such a store, on SQLite."""
    fill(records_url(folder), FileImageStore(images_dir(folder)))
    return folder
