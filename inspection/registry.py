"""Which package serves which product, and who said so.

    candidate --promote, roll back to it--> promoted --another is, or roll back--> candidate
        |                                      |
        +--------------- retire ---------------+--> retired: for good, but for an accepted risk

Promoting asks for a certificate that holds and engines that agree, or for a risk accepted in words.
Every state is a view over the log (`promotions.py`): rolling back and retiring are further lines.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from inspection.errors import (
    ChangedMeanwhile,
    NoPromotedModel,
    NotFound,
    PackageDamaged,
    QualityGateError,
    RegistryError,
    RequestError,
)
from inspection.package import ModelPackage, check_model_name, is_model_name, load_package
from inspection.promotions import (
    FIRST_LINK,
    LOG_NAME,
    Action,
    Evidence,
    Promotion,
    append_line,
    before_in,
    in_force,
    read_log,
    retired_in,
    retirement,
    whoever,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["LOG_NAME", "Promotion", "Registry", "State", "objections_to"]

State = Literal["candidate", "promoted", "retired"]


def objections_to(package: ModelPackage) -> tuple[str, ...]:
    """What stands against putting a package in force, each to follow its name; none if nothing."""
    found = []
    document = package.document
    certificate = document.operating_point.certificate
    if not certificate.certified:
        found.append(f"is not certified: {certificate.in_words()}")
    if document.agreement is None:
        found.append("has not been compared between engines")
    elif document.agreement.bad_to_pass:
        found.append(f"does not say the same under every engine: {document.agreement.in_words()}")
    return tuple(found)


class Registry:
    """The weights folder: packages, and the log of decisions on them."""

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
            PackageDamaged: it does not hold, lies where another one belongs, or is not the one
                that was promoted.
        """
        model, _, version = reference.partition("@")
        check_model_name(model)
        packages = self.packages()
        if version == "promoted":
            lines = [line for line in self.current().values() if line.model == model]
            if lines:
                return self._verified(lines[-1])
        if (model, version) in {(name, str(number)) for name, number in packages}:
            package = load_package(self.root / model / version)
            if package.reference != reference:  # else what is decided on it would name the other
                raise PackageDamaged(
                    f"{package.folder} holds {package.reference}, not {reference}",
                    remedy=f"Move it to {self.root / package.document.model}, as version "
                    f"{package.document.version}; remove it where that is there already.",
                )
            return package
        raise _not_found(reference, packages)

    def history(self) -> list[Promotion]:
        """Every line of the log, oldest first.

        Raises:
            RegistryError: the log was altered or is damaged; names the line.
        """
        return read_log(self._log)

    def current(self) -> dict[str, Promotion]:
        """The line in force for each product; none for one whose model was retired."""
        return in_force(self.history())

    def state(self, package: ModelPackage, history: Sequence[Promotion] | None = None) -> State:
        """Where a package stands by the log."""
        lines = self.history() if history is None else history
        if package.digest in retired_in(lines):
            return "retired"
        in_use = {line.digest for line in in_force(lines).values()}
        return "promoted" if package.digest in in_use else "candidate"

    def promoted(self, product: str) -> ModelPackage:
        """The package that serves `product`, verified against the log.

        Raises:
            NoPromotedModel: none is promoted, or the one that was has been retired.
            PackageDamaged: the package on disk is not the one that was promoted.
        """
        lines = self.history()
        line = in_force(lines).get(product)
        if line is not None:
            return self._verified(line)
        last = next((one for one in reversed(lines) if one.product == product), None)
        if last is None:
            raise NoPromotedModel(f"no model is promoted for product {product}")
        raise NoPromotedModel(
            f"no model is promoted for product {product}: {retirement(last)}",
            remedy=f"Run `inspection models rollback {product}`, or promote another version.",
        )

    def promote(
        self,
        reference: str,
        *,
        accept_risk: str | None = None,
        by: str | None = None,
        reason: str | None = None,
        product: str | None = None,
        seen: int | None = None,
    ) -> Promotion:
        """Put a package in force for its product: a newer one, or an older one again.

        Args:
            reference: `name@version`.
            accept_risk: why, although its certificate does not hold, its engines do not agree, or
                it was retired.
            by: who decides it; the account's name when absent.
            reason: why, in words.
            product: which one it is to judge; whichever it is made for when absent.
            seen: how many lines on its product whoever decides it has seen; unchecked when None.

        Raises:
            QualityGateError: something stands against it, and no risk was accepted in words.
            RequestError: it judges another product. ChangedMeanwhile: there are other lines by now.
        """
        package = self.load(reference)
        judged = package.recipe.product
        if product is not None and product != judged:
            raise RequestError(
                f"{package.reference} judges {judged}, not {product}",
                remedy=f"Name a model of {product}, or promote it for {judged}.",
            )
        risk = words(accept_risk, "the reason for accepting the risk")
        why = words(reason, "the reason")
        against = objections_to(package)

        def line(history: list[Promotion]) -> Promotion:
            if seen is not None and seen != sum(one.product == judged for one in history):
                raise ChangedMeanwhile(f"somebody decided on the models of {judged} meanwhile")
            retired = retired_in(history).get(package.digest)
            objections = (
                against if retired is None else (*against, f"is out: {retirement(retired)}")
            )
            if objections and risk is None:
                raise QualityGateError(
                    f"{package.reference} {'; and it '.join(objections)}",
                    remedy=_what_would_help(package, retired=retired is not None),
                )
            return _line(
                *("promote", package), by=by, accepted_risk=risk, reason=why, objections=objections
            )

        return append_line(self._log, line)

    def rollback(self, product: str, *, by: str | None = None) -> Promotion:
        """Put the package in force that served `product` before the present one.

        What was retired is passed over. Its accepted risk, if any, is carried on.

        Raises:
            NoPromotedModel: none was ever promoted.
            RegistryError: there is none before it.
        """

        def line(history: list[Promotion]) -> Promotion:
            before = before_in(product, history)
            package = self._verified(before)
            risk = before.accepted_risk
            return _line("rollback", package, by=by, accepted_risk=risk)

        return append_line(self._log, line)

    def retire(self, reference: str, *, reason: str, by: str | None = None) -> Promotion:
        """Take a package out for good: it serves no more, and is promoted only as a risk.

        Args:
            reference: `name@version`.
            reason: why, in words.
            by: who decides it; the account's name when absent.

        Raises:
            RegistryError: it is retired already, or no reason is given.
        """
        package = self.load(reference)
        why = words(reason, "the reason")
        if why is None:
            raise RegistryError(
                f"{reference} cannot be retired without a reason", remedy='Add --reason "WHY".'
            )

        def line(history: list[Promotion]) -> Promotion:
            retired = retired_in(history).get(package.digest)
            if retired is not None:
                raise RegistryError(
                    f"nothing was changed: {retirement(retired)}",
                    remedy="`inspection models history` shows who decided it.",
                )
            return _line("retire", package, by=by, reason=why)

        return append_line(self._log, line)

    def _verified(self, line: Promotion) -> ModelPackage:
        package = load_package(self.root / line.model / str(line.version))
        if package.digest != line.digest:
            raise PackageDamaged(
                f"{package.folder / 'package.toml'} is not the package that was promoted"
            )
        return package


def _line(
    action: Action,
    package: ModelPackage,
    *,
    by: str | None,
    accepted_risk: str | None = None,
    reason: str | None = None,
    objections: tuple[str, ...] = (),
) -> Promotion:
    """A line that does not know yet what it follows."""
    document = package.document
    certificate, agreement = document.operating_point.certificate, document.agreement
    account = whoever()
    return Promotion(
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        action=action,
        product=package.recipe.product,
        model=document.model,
        version=document.version,
        digest=package.digest,
        by=words(by, "the name of who decides") or account,
        account=account,
        certified=certificate.certified,
        accepted_risk=accepted_risk,
        reason=reason,
        evidence=Evidence(
            certificate=certificate.in_words(),
            agreement=agreement.in_words() if agreement else "engines were not compared",
            report_sha256=package.files["report.json"],
            objections=objections,
        ),
        previous=FIRST_LINK,
    )


def _what_would_help(package: ModelPackage, *, retired: bool) -> str:
    """What to do instead of promoting it; and how to do it all the same."""
    certificate = package.document.operating_point.certificate
    if retired:
        say = "Promote another version"
    elif not certificate.certified:
        more = certificate.more_bad_parts_needed
        say = f"Add {f'about {more}' if more else 'more'} bad parts to the data and train again"
    elif package.document.agreement is None:
        say = "Train it again with this release, which compares them"
    else:
        say = "Train it again, and see its report for the flips of each two engines"
    return f'{say}, or promote it with --accept-risk "REASON", which goes into the log.'


def _not_found(reference: str, packages: Sequence[tuple[str, int]]) -> NotFound:
    """An error that says what there is instead."""
    model, _, version = reference.partition("@")
    known = [str(number) for name, number in packages if name == model]
    if known and version == "promoted":
        return NotFound(f"no version of {model} is promoted", remedy=f"There are: {_list(known)}.")
    if known:
        return NotFound(
            f"there is no model {reference}",
            remedy=f"Versions of {model}: {_list(known)}. Write it as NAME@VERSION.",
        )
    names = sorted({name for name, _ in packages})
    near = difflib.get_close_matches(model, names, n=2)
    if near:
        meant = f"Did you mean {' or '.join(f'{name}@{version or 1}' for name in near)}?"
    else:
        meant = f"There are: {_list(names)}." if names else "Make one with `inspection train`."
    return NotFound(f"there is no model {reference}", remedy=meant)


def _list(names: Sequence[str]) -> str:
    """All of a few, or the last ones of many."""
    return ", ".join(names) if len(names) <= 8 else f"... {', '.join(names[-8:])}"
