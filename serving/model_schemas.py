"""What the calls below `/v1/models` take and answer, and `GET /readyz`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from inspection.package import is_model_name
from inspection.promotions import LONGEST
from inspection.serials import Check as SerialCheck
from serving import examples
from serving.wire import Name, Words

MOST_DECISIONS: Final = 100
"""Of one answer."""


def _model_name(name: str) -> str:
    if not is_model_name(name):
        raise ValueError("it is no model's name: letters, digits, '-', '_' and '.'")
    return name


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
    escapes: int = Field(0, description="bad parts that passed")
    good_parts: int = 0
    overkills: int = Field(0, description="good parts that failed")
    overkill_bound: float = Field(1.0, description="upper bound of that rate; 1 is no bound")
    naive_overkill_bound: float = 1.0
    measured_on: Literal["calibration", "test"] = Field(
        "calibration",
        description="the parts that the limits were chosen on, or test parts, read once after that",
    )
    scant_classes: list[str] = Field(
        default_factory=list, description="classes with too few bad parts to be certified"
    )


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
    check: SerialCheck


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


class Decision(Promotion):
    """A line of the log on one product: what was done, and why where somebody said so."""

    action: Literal["promote", "rollback", "retire"]
    reason: str | None


class DecisionList(_Wire):
    """The newest decisions on the models of a product, the last one first."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.DECISIONS]})

    items: list[Decision] = Field(max_length=MOST_DECISIONS)


class PromotionFields(_Wire):
    """A package to put in force, and why."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PROMOTION_REQUEST]})

    model: Annotated[Name, AfterValidator(_model_name)]
    version: int = Field(ge=1, lt=2**53)
    reason: Annotated[Words, Field(max_length=LONGEST, description="why, in the person's words")]


class ServedProduct(_Wire):
    """One listed product."""

    model_config = ConfigDict(json_schema_extra={"examples": examples.MODELS["items"]})

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
