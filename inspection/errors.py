"""The error tree. One class for each thing that somebody can act on.

InspectionError
├── InputError                 whoever sent it: the station, the person at the command line
│   ├── ImageError
│   │   ├── UnreadableImage    not an image, truncated, damaged
│   │   ├── UnsupportedImage   a format or kind of pixel that is not accepted
│   │   └── ImageTooLarge      past the byte, pixel or page limit
│   ├── SerialError
│   │   ├── SerialFormatError  length or alphabet; names the position
│   │   └── SerialCheckError   the check character does not hold
│   ├── RequestError           a field that is missing or has no meaning
│   │   ├── KeyMissing         a POST without Idempotency-Key
│   │   ├── KeyReused          the same Idempotency-Key for another request
│   │   ├── InFlight           the first request under this key is still running
│   │   ├── CaptureConflict    (station, capture_id) already stands for another image
│   │   ├── StateConflict      what is on record does not allow it: closed, released, taken
│   │   └── ChangedMeanwhile   it is no longer what the caller has seen
│   ├── UnknownProduct         not among the products that this server lists
│   ├── NotFound               no such inspection, part, trace ID, image
│   ├── NotAllowed             no key, a wrong key, or a key without the scope
│   └── DataError              a labelled set that cannot be used as it is
├── Unjudgeable                decoded, but the recipe cannot judge it: becomes a review
├── ConfigurationError         whoever runs the box
│   ├── MissingExtra           a verb whose packages are not installed
│   ├── RecipeError            a recipe file that does not hold
│   ├── PackageDamaged         a model package whose digests do not hold
│   ├── NoPromotedModel        the product is listed, but no model is promoted for it
│   └── RegistryError          the log of promotions does not hold, or forbids the act
├── QualityGateError           a figure missed its limit; nothing is broken
│   └── DataLeak               the same part, group or image on two sides of a split: no figure
├── EngineError                the network did not answer, or answered nonsense
│   └── EngineAway             it runs elsewhere, and is not there, or not the one that was asked
└── RecordError                the record could not be made durable, so there is no verdict
    └── RecordsDamaged         the record store does not agree with itself

Nothing here knows of HTTP or exit statuses: `serving/problems.py` and `inspection/cli.py` hold
those two tables.
"""

from __future__ import annotations

from typing import ClassVar


class InspectionError(Exception):
    """Base of every error this product raises on purpose.

    Attributes:
        code: stable, lower-case, hyphenated; part of the interface.
        remedy: one sentence that says what to do.
    """

    code: ClassVar[str] = "inspection-error"
    default_remedy: ClassVar[str] = "Report this with the trace ID or the command that you ran."

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy if remedy is not None else self.default_remedy


class InputError(InspectionError):
    """Something that the caller sent cannot be used."""

    code = "invalid-input"
    default_remedy = "Correct the input and send it again."


class ImageError(InputError):
    """The image cannot be accepted."""

    code = "image-refused"


class UnreadableImage(ImageError):
    """Not an image, or truncated, or damaged."""

    code = "image-unreadable"
    default_remedy = "Send the complete file as the camera or detector wrote it."


class UnsupportedImage(ImageError):
    """A format, compression or kind of pixel outside the accepted ones."""

    code = "image-unsupported"
    default_remedy = (
        "Send 8- or 16-bit grey or RGB as PNG, TIFF (raw, LZW, Deflate), JPEG or grey DICOM."
    )


class ImageTooLarge(ImageError):
    """Past the byte, pixel or page limit; known from the header, before decoding."""

    code = "image-too-large"
    default_remedy = "Send a smaller image, or raise the limit in the server's settings."


class SerialError(InputError):
    """The serial does not fit the product's format."""

    code = "serial-refused"


class SerialFormatError(SerialError):
    """Wrong length, or a character outside the alphabet."""

    code = "serial-format"
    default_remedy = "Read the mark again; leave `serial` out when it cannot be read."


class SerialCheckError(SerialError):
    """The check character does not hold: at least one character was misread."""

    code = "serial-check"
    default_remedy = "Read the mark again; leave `serial` out when it cannot be read."


class RequestError(InputError):
    """A field is missing, unknown or has no meaning."""

    code = "invalid-request"


class KeyMissing(RequestError):
    """A POST came without an Idempotency-Key."""

    code = "idempotency-key-missing"
    default_remedy = "Send an Idempotency-Key header: one fresh value a capture, kept for retries."


class KeyReused(RequestError):
    """The same Idempotency-Key came with another request."""

    code = "idempotency-key-reused"
    default_remedy = "Use a fresh Idempotency-Key for each capture."


class InFlight(RequestError):
    """The first request under this key, or this capture, is still running."""

    code = "request-in-flight"
    default_remedy = "Wait a moment and send the same request again: it will get the stored answer."


class CaptureConflict(RequestError):
    """The station has already used this capture_id for something else."""

    code = "capture-conflict"
    default_remedy = "Give every capture of a station a capture_id of its own."


class StateConflict(RequestError):
    """What is on record does not allow it: the set is closed, the hold released, the name taken."""

    code = "state-conflict"
    default_remedy = "Read what is on record now, and decide again."


class ChangedMeanwhile(RequestError):
    """It is no longer what the caller has seen."""

    code = "changed-meanwhile"
    default_remedy = "Read it again, and send the ETag that came with it as If-Match."


class UnknownProduct(InputError):
    """The product is not among those that this server lists."""

    code = "product-unknown"
    default_remedy = "Send one of the products in GET /v1/models, or add it to the settings."


class NotFound(InputError):
    """No such thing in the records."""

    code = "not-found"
    default_remedy = "Check the identifier."


class NotAllowed(InputError):
    """No access key, one that is not valid, or one without the scope."""

    code = "not-allowed"
    default_remedy = "Send `Authorization: Bearer KEY` with a key that has the scope."


class DataError(InputError):
    """A labelled set that cannot be used as it is."""

    code = "data-refused"


class Unjudgeable(InspectionError):
    """The image was decoded, but this recipe cannot judge it: it is recorded, as a review.

    Attributes:
        reason: the code of the reason in the record.
    """

    code = "unjudgeable"
    default_remedy = "A person looks at the part; check the station's camera and product setting."

    def __init__(
        self, message: str, *, remedy: str | None = None, reason: str = "unjudgeable"
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class ConfigurationError(InspectionError):
    """The box or its files are not set up rightly."""

    code = "configuration"
    default_remedy = "Run `inspection doctor` and follow what it says."


class MissingExtra(ConfigurationError):
    """A verb whose packages are not installed."""

    code = "missing-extra"


class RecipeError(ConfigurationError):
    """A recipe that does not hold."""

    code = "recipe-invalid"
    default_remedy = "Correct the recipe file."


class PackageDamaged(ConfigurationError):
    """A model package whose files do not agree with its digests."""

    code = "package-damaged"
    default_remedy = "Do not use this package: copy it again from where it was made, or roll back."


class NoPromotedModel(ConfigurationError):
    """The product is listed, but no model is promoted for it."""

    code = "no-promoted-model"
    default_remedy = "Run `inspection models promote MODEL@VERSION`."


class RegistryError(ConfigurationError):
    """The log of promotions does not hold, or forbids the act."""

    code = "registry"


class QualityGateError(InspectionError):
    """A figure missed its limit. Nothing is broken; nothing was changed."""

    code = "quality-gate"
    default_remedy = "Read the figures above; add data, or accept the risk in words."


class DataLeak(QualityGateError):
    """The same part, group or image stands on two sides of a split: every figure would flatter.

    Attributes:
        lines: a line for every pair that crosses, for people; the message names only the first.
    """

    code = "data-leak"
    default_remedy = "Put each pair on one side, or let `inspection data split` divide the set."

    def __init__(
        self, message: str, *, remedy: str | None = None, lines: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.lines = lines


class EngineError(InspectionError):
    """The network did not answer, or its answer makes no sense."""

    code = "engine-failed"
    default_remedy = "Send the part again; if it goes on, restart the server and see its log."


class EngineAway(EngineError):
    """The network runs on another server, which is not there, or does not have this model now."""

    code = "engine-away"
    default_remedy = "Keep the image and send it again; see whether Triton runs and has the model."


class RecordError(InspectionError):
    """The record could not be made durable, so no verdict is given."""

    code = "record-failed"
    default_remedy = "Check the disk and the database; the station keeps the image and retries."


class RecordsDamaged(RecordError):
    """The record store does not agree with its own hash tree."""

    code = "records-damaged"
    default_remedy = "Keep a copy of the store as it is, then restore the last good backup."
