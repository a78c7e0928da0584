"""Which package serves which product, and who said so.

`weights/promotions.jsonl` is an append-only log, a JSON object a line; each line carries the
SHA-256 of the line before it, so an edit in the middle shows. What is promoted is a view over it:
the last line for a product. Nothing is ever removed: rolling back is another line.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from inspection.errors import (
    NoPromotedModel,
    NotFound,
    PackageDamaged,
    QualityGateError,
    RegistryError,
)
from inspection.package import ModelPackage, check_model_name, is_model_name, load_package

if TYPE_CHECKING:
    from pathlib import Path

LOG_NAME = "promotions.jsonl"
FIRST_LINK = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One line of the log."""

    at: str
    action: Literal["promote", "rollback"]
    product: str
    model: str
    version: int
    digest: str
    by: str
    certified: bool
    accepted_risk: str | None
    previous: str

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.model}@{self.version}"


def _whoever() -> str:
    """The user's name; in a container whose user has none, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid:{os.getuid()}"


class Registry:
    """The weights folder: packages, and the log of promotions."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._log = root / LOG_NAME

    def packages(self) -> list[tuple[str, int]]:
        """(model, version) of every package on disk, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(
            (model.name, int(version.name))
            for model in self.root.iterdir()
            if model.is_dir() and is_model_name(model.name)
            for version in model.iterdir()
            if version.name.isdigit()
        )

    def load(self, reference: str) -> ModelPackage:
        """The package called `name@version`, or `name@promoted`, with its digests verified.

        Raises:
            NotFound: there is no such package.
            PackageDamaged: it does not hold, or is not the one that was promoted.
        """
        model, _, version = reference.partition("@")
        check_model_name(model)
        if version == "promoted":
            lines = [line for line in self.current().values() if line.model == model]
            if not lines:
                raise NotFound(f"no version of {model} is promoted")
            return self._verified(lines[-1])
        known = [str(number) for name, number in self.packages() if name == model]
        if version not in known:
            raise NotFound(
                f"there is no model {reference}",
                remedy=f"Versions of {model}: {', '.join(known) or 'none'}. "
                "Write it as NAME@VERSION.",
            )
        return load_package(self.root / model / version)

    def history(self) -> list[Promotion]:
        """Every line of the log, oldest first.

        Raises:
            RegistryError: the log was altered or is damaged; names the line.
        """
        try:
            data = self._log.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegistryError(f"{self._log} cannot be read: {error.strerror}") from error
        promotions, link = [], FIRST_LINK
        lines = data[: data.rfind(b"\n") + 1].splitlines()  # an unfinished append never happened
        for number, line in enumerate(lines, start=1):
            try:
                promotion = Promotion(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise RegistryError(f"{self._log}, line {number}: not a promotion") from error
            if promotion.previous != link:
                raise RegistryError(
                    f"{self._log}, line {number}: the log was altered before this line",
                    remedy="Restore the log from a backup; do not edit it.",
                )
            link = hashlib.sha256(line).hexdigest()
            promotions.append(promotion)
        return promotions

    def current(self) -> dict[str, Promotion]:
        """The line in force for each product."""
        return {line.product: line for line in self.history()}

    def promoted(self, product: str) -> ModelPackage:
        """The package that serves `product`, verified against the log.

        Raises:
            NoPromotedModel: none is promoted.
            PackageDamaged: the package on disk is not the one that was promoted.
        """
        line = self.current().get(product)
        if line is None:
            raise NoPromotedModel(f"no model is promoted for product {product}")
        return self._verified(line)

    def promote(self, reference: str, *, accept_risk: str | None = None) -> Promotion:
        """Put a package in force for its product.

        Raises:
            QualityGateError: its certificate does not hold and no risk was accepted in words.
        """
        package = self.load(reference)
        certificate = package.document.operating_point.certificate
        if not certificate.certified and not (accept_risk and accept_risk.strip()):
            raise QualityGateError(
                f"{reference} is not certified: {certificate.in_words()}",
                remedy=f"Add about {certificate.more_bad_parts_needed} bad parts to the data and "
                'train again, or promote it with --accept-risk "REASON".',
            )
        return self._append("promote", package, accept_risk)

    def rollback(self, product: str) -> Promotion:
        """Put the package in force that served `product` before the present one.

        Raises:
            RegistryError: there is none.
        """
        lines = [line for line in self.history() if line.product == product]
        if not lines:
            raise NoPromotedModel(f"no model is promoted for product {product}")
        served: list[Promotion] = []
        for line in lines:  # a rollback goes one step back along the packages that served
            if line.action == "rollback" and len(served) > 1:
                served.pop()
            elif not served or served[-1].digest != line.digest:
                served.append(line)
        if len(served) < 2:
            raise RegistryError(
                f"{product}: nothing was promoted before {lines[-1].reference}",
                remedy="Promote the version you want by name.",
            )
        before = served[-2]
        return self._append("rollback", self._verified(before), before.accepted_risk)

    def _verified(self, line: Promotion) -> ModelPackage:
        package = load_package(self.root / line.model / str(line.version))
        if package.digest != line.digest:
            raise PackageDamaged(
                f"{package.folder / 'package.toml'} is not the package that was promoted"
            )
        return package

    def _append(
        self,
        action: Literal["promote", "rollback"],
        package: ModelPackage,
        accept_risk: str | None,
    ) -> Promotion:
        try:
            with self._log.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self.history()  # refuse to add to a log that does not hold
                file.seek(0)
                data = file.read()
                whole = data.rfind(b"\n") + 1
                file.truncate(whole)
                lines = data[:whole].splitlines()
                promotion = Promotion(
                    at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                    action=action,
                    product=package.recipe.product,
                    model=package.document.model,
                    version=package.document.version,
                    digest=package.digest,
                    by=_whoever(),
                    certified=package.document.operating_point.certificate.certified,
                    accepted_risk=accept_risk,
                    previous=hashlib.sha256(lines[-1]).hexdigest() if lines else FIRST_LINK,
                )
                file.write(json.dumps(asdict(promotion), sort_keys=True).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RegistryError(f"{self._log} cannot be written: {error.strerror}") from error
        return promotion
