"""What `GET /v1/models` and `GET /readyz` answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from serving import examples


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Certificate(_Wire):
    """What the limits were shown to hold, and on how much."""

    wanted_escape_rate: float
    escape_bound: float = Field(description="upper bound, resampled by group, at `confidence`")
    naive_escape_bound: float = Field(description="the same as if every part were independent")
    confidence: float
    bad_parts: int
    groups: int
    certified: bool
    more_bad_parts_needed: int


class OperatingPoint(_Wire):
    """Limits on probabilities for each defect class, and on novelty."""

    pass_below: dict[str, float]
    fail_from: dict[str, float]
    novelty_limit: float
    split_digest: str
    certificate: Certificate


class SerialFormat(_Wire):
    """The marks that the product carries."""

    length: int
    alphabet: str
    check: Literal["iso7064", "none"]


class LoadedModel(_Wire):
    """The package that judges a product."""

    name: str
    version: int
    digest: str
    files: dict[str, str] = Field(description="SHA-256 of every file of the package")
    data_digest: str
    precision: str
    engine: str
    recipe_revision: int
    recipe_digest: str
    classes: list[str]
    operating_point: OperatingPoint


class Promotion(_Wire):
    """A line of the log of promotions."""

    model: str
    version: int
    digest: str
    at: str
    by: str
    certified: bool
    accepted_risk: str | None


class ServedProduct(_Wire):
    """One listed product."""

    product: str
    state: Literal["serving", "refused"]
    detail: str | None = Field(description="why it is refused, or what else there is to know")
    serial_format: SerialFormat | None
    model: LoadedModel | None
    promotion: Promotion | None = Field(description="what is promoted now, by the log")
    pending: bool = Field(description="another package is promoted and does not judge yet")


class ModelList(_Wire):
    """Every product that this server lists."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.MODELS]})

    items: list[ServedProduct]


class Check(_Wire):
    """One thing that must be so before parts can be judged."""

    name: str
    ok: bool
    detail: str


class Readiness(_Wire):
    """Whether parts can be judged and recorded."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.READINESS]})

    status: Literal["ready", "not ready"]
    checks: list[Check]


class Life(_Wire):
    """The process answers; nothing else is said."""

    status: Literal["alive"] = "alive"
