"""Which model judges which product."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request

from inspection.errors import InspectionError, RegistryError
from inspection.pipeline import Line
from serving.auth import Reader
from serving.model_schemas import (
    Certificate,
    LoadedModel,
    ModelList,
    OperatingPoint,
    Promotion,
    SerialFormat,
    ServedProduct,
)
from serving.problems import without_places
from serving.routes.documenting import problems, sample
from serving.state import Server, server_of

if TYPE_CHECKING:
    from inspection import registry

router = APIRouter(prefix="/v1", tags=["Models"])


@router.get(
    "/models",
    response_model=ModelList,
    summary="List products and the models that judge them",
    responses=problems(),
    openapi_extra=sample('curl "$SERVER/v1/models"'),
)
def list_models(request: Request, reader: Reader) -> ModelList:
    """Every listed product: the package in use, its digests, its limits and what they certify.

    A package that is promoted while the server runs judges as soon as it is warm. Until then, or
    when it cannot be put to work, it is shown as `promotion` with `pending` and the reason in
    `detail`; what judges is always `model`.
    """
    server = server_of(request)
    promoted = promotions_of(server)
    return ModelList(
        items=[
            served_product(server, product, line, promoted.get(product))
            for product, line in sorted(server.lines.items())
        ]
    )


def promotions_of(server: Server) -> dict[str, registry.Promotion]:
    """What is promoted now; nothing where the log cannot be read any more."""
    try:
        return server.registry.current()
    except RegistryError:
        return {}


def newer_promotion(line: Line, promotion: registry.Promotion | None) -> bool:
    """Whether another package is promoted than the one that judges."""
    return promotion is not None and promotion.digest != line.package.digest


def not_at_work(server: Server, promotion: registry.Promotion) -> str:
    """Why the promoted package does not judge although the server runs, in words."""
    refused = server.lines.refused(promotion.product, promotion)
    if refused is None:
        return "is promoted and will judge as soon as it is warm"
    return f"is promoted and cannot be put to work: {without_places(str(refused), server.settings)}"


def served_product(
    server: Server,
    product: str,
    line: Line | InspectionError,
    promotion: registry.Promotion | None,
) -> ServedProduct:
    """What judges a product, and what is promoted for it."""
    shown = None
    if promotion is not None:
        fields = asdict(promotion)
        shown = Promotion(**{name: fields[name] for name in Promotion.model_fields})
    if not isinstance(line, Line):
        return ServedProduct(
            product=product,
            state="refused",
            detail=without_places(str(line), server.settings),
            serial_format=None,
            model=None,
            promotion=shown,
            pending=promotion is not None,
        )
    waits = newer_promotion(line, promotion)
    recipe = line.package.recipe
    marks = recipe.serial
    return ServedProduct(
        product=product,
        state="serving",
        detail=f"{promotion.reference} {not_at_work(server, promotion)}"
        if waits and promotion is not None
        else None,
        serial_format=SerialFormat(length=marks.length, alphabet=marks.alphabet, check=marks.check)
        if marks is not None
        else None,
        model=_loaded(line),
        promotion=shown,
        pending=waits,
    )


def _loaded(line: Line) -> LoadedModel:
    package, document, recipe = line.package, line.package.document, line.package.recipe
    point = document.operating_point
    return LoadedModel(
        name=document.model,
        version=document.version,
        digest=package.digest,
        files=dict(package.files),
        data_digest=document.data_digest,
        precision=document.precision,
        engine=line.engine.description,
        recipe_revision=recipe.revision,
        recipe_digest=recipe.digest,
        classes=list(recipe.classes),
        operating_point=OperatingPoint(
            pass_below=dict(zip(recipe.classes, point.pass_below, strict=True)),
            fail_from=dict(zip(recipe.classes, point.fail_from, strict=True)),
            novelty_limit=point.novelty_limit,
            split_digest=point.split_digest,
            certificate=Certificate(**asdict(point.certificate)),
        ),
    )
