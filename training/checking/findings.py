"""What a check says: findings, each with the images that it concerns, worst first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from inspection.errors import DataError

if TYPE_CHECKING:
    from training.manifest import Manifest

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One place where it happened.

    Attributes:
        rows: row numbers of the images, the suspected one first.
        said: what is the matter with just these.
        suggested: the label that the first image may have instead.
    """

    rows: tuple[int, ...]
    said: str
    suggested: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or worth a look.

    Attributes:
        severity: "error" spoils figures or training; "warning" wants a decision; "note" a look.
        code: stable, lower-case, hyphenated.
        text: what was found, in a sentence.
        remedy: what to do.
        cases: worst first; none when it concerns no image in particular.
    """

    severity: Severity
    code: str
    text: str
    remedy: str
    cases: tuple[Case, ...] = ()

    def __post_init__(self) -> None:
        if not self.text or not self.remedy:
            raise DataError(f"the finding {self.code!r} says too little")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """All that was found in one set.

    Attributes:
        facts: (heading, text) lines on what was looked at.
        findings: worst first.
    """

    manifest: Manifest
    facts: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether no error stands."""
        return all(finding.severity != "error" for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """The same for JSON."""
        rows = self.manifest.rows
        return {
            "dataset": self.manifest.reference,
            "digest": self.manifest.digest,
            "sound": self.sound,
            "facts": dict(self.facts),
            "findings": [
                {
                    "severity": finding.severity,
                    "code": finding.code,
                    "text": finding.text,
                    "remedy": finding.remedy,
                    "cases": [
                        {
                            "images": [rows[row].path for row in case.rows],
                            "text": case.said,
                            "suggested": case.suggested,
                        }
                        for case in finding.cases
                    ],
                }
                for finding in self.findings
            ],
        }


def worst_first(findings: list[Finding]) -> tuple[Finding, ...]:
    """Errors, then warnings, then notes; within these as they came."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
