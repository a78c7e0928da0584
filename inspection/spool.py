"""The files of one inspection on their way to the disk, while the network runs.

image     small: laid; its bytes are carried by the record
          large: a thread makes it durable meanwhile
evidence  laid and carried, or made durable where the records carry nothing
refused after all -> the image goes again, unless it was there before or came again
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from inspection.errors import InspectionError, RecordError
from inspection.record import Carried

if TYPE_CHECKING:
    from types import TracebackType

    from inspection.image_store import ImageStore, Laid
    from inspection.store import RecordStore


class Spool:
    """Use it as a context around all that may still refuse the image.

    Args:
        images: where the files go.
        records: what may carry them.
        image: the file as it was sent.
        sha256: of the image.

    Raises:
        RecordError: the disk refused.
    """

    def __init__(self, images: ImageStore, records: RecordStore, image: bytes, sha256: str) -> None:
        self._images = images
        self._most = records.carries_bytes
        self._image = image
        self._sha256 = sha256
        self._laid: Laid | None = None
        self._evidence: bytes | None = None
        self._error: Exception | None = None
        self._writing: threading.Thread | None = None
        if len(image) <= self._most:
            self._laid = images.lay(image, sha256)
        else:
            self._writing = threading.Thread(target=self._write, name="spool", daemon=True)
            self._writing.start()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error of the records it is not known whether there is a record after all.
        if isinstance(error, InspectionError) and not isinstance(error, RecordError):
            self._wait()
            if self._laid is not None:
                self._images.take_back(self._laid)

    def add_evidence(self, data: bytes) -> str:
        """Keep the evidence map too; its SHA-256 in hex.

        Raises:
            RecordError: the disk refused.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        carried = len(data) <= self._most
        self._images.lay(data, sha256, durable=not carried)
        self._evidence = data if carried else None
        return sha256

    def carried(self) -> Carried | None:
        """What the record has to carry, when everything else is durable.

        Raises:
            RecordError: the disk refused.
        """
        self._wait()
        if self._error is not None:
            raise self._error
        image = self._image if self._writing is None else None
        if image is None and self._evidence is None:
            return None
        return Carried(image=image, evidence=self._evidence)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.join()

    def _write(self) -> None:
        try:
            self._laid = self._images.lay(self._image, self._sha256, durable=True)
        except RecordError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001  it is raised where the record would be made
            self._error = RecordError(f"the image could not be kept: {error}")
