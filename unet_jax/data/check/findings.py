"""Findings of a check: those about several slices together, and the report of all."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from unet_jax.config import TUMORS
from unet_jax.data.check.rules import Rule

PUBLISHED = {"slices": 3064, "patients": 233, "meningioma": 708, "glioma": 1426, "pituitary": 930}
"""Jun Cheng, brain tumor dataset, figshare, version 5, 2017, doi:10.6084/m9.figshare.1512427.v5."""

EXAMPLES = 3
"""Findings of a rule that are shown; the JSON has all."""


@dataclass(frozen=True)
class Finding:
    """A rule broken once."""

    rule: Rule
    source: str
    """The file, or the patient."""
    detail: str
    slices: tuple[int, ...]
    """Numbers of the slices that the finding is about."""


@dataclass(frozen=True)
class SliceFacts:
    """Facts about one slice, kept to compare slices with each other."""

    slice: int
    source: str
    label: int
    pid: str
    fold: int
    """1 to 5, or 0 for none."""
    content: bytes
    """A digest of the image: equal for equal images."""


@dataclass(frozen=True)
class Report:
    """All findings of a check of one dataset."""

    data: str
    """The folder, as it was given."""
    kind: str
    """raw folder, or converted dataset."""
    counts: dict[str, int]
    """Numbers of `slices`, `patients` and each tumour type, without slices that could not be read."""
    findings: list[Finding]

    @property
    def errors(self) -> int:
        """Number of errors."""
        return sum(f.rule.severity == "error" for f in self.findings)

    @property
    def warnings(self) -> int:
        """Number of warnings."""
        return len(self.findings) - self.errors

    def by_rule(self) -> dict[Rule, list[Finding]]:
        """Group the findings by rule: errors first, else in the order of the rules."""
        ordered = sorted(Rule, key=lambda rule: rule.severity)
        grouped = {rule: [f for f in self.findings if f.rule is rule] for rule in ordered}
        return {rule: found for rule, found in grouped.items() if found}

    def verdict(self) -> str:
        """Say in one line how many errors and warnings there are, by rule."""
        if not self.findings:
            return "Check: no errors, no warnings."
        parts = []
        for severity, count in (("error", self.errors), ("warning", self.warnings)):
            named = [f"{rule.code} {len(found)}" for rule, found in self.by_rule().items() if rule.severity == severity]
            listed = f" ({', '.join(named)})" if named else ""
            parts.append(f"{count or 'no'} {severity}{'' if count == 1 else 's'}{listed}")
        return f"Check: {', '.join(parts)}."

    def lines(self) -> list[str]:
        """Give the report as lines of text."""
        lines = [f"{self.data}: {self.kind}, {_counted(self.counts)}", self._note()]
        for rule, found in self.by_rule().items():
            lines += ["", f"{rule.severity:<8} {len(found):>5}  {rule.code}: {rule.meaning}"]
            lines += [f"{'':16}{finding.source}: {finding.detail}" for finding in found[:EXAMPLES]]
            if len(found) > EXAMPLES:
                lines.append(f"{'':16}and {len(found) - EXAMPLES:,} more (--json FILE has all)")
            lines.append(f"{'':16}convert: {rule.convert}")
        return [*lines, "", self.verdict()] if self.findings else [*lines, self.verdict()]

    def _note(self) -> str:
        differ = ", ".join(f"{name} {by:+,}" for name, by in self.difference().items() if by)
        source = "the published dataset, doi:10.6084/m9.figshare.1512427.v5"
        if not differ:
            return f"NOTE: the counts are those of {source}."
        return f"NOTE: {source}, has {_counted(PUBLISHED)}. Here: {differ}."

    def difference(self) -> dict[str, int]:
        """Compute how many more there are than in the published dataset."""
        return {name: self.counts[name] - count for name, count in PUBLISHED.items()}

    def content(self) -> dict[str, Any]:
        """Give the whole report for JSON, every finding with all its slices."""
        return {
            "data": self.data,
            "kind": self.kind,
            "counts": self.counts,
            "published": PUBLISHED,
            "difference": self.difference(),
            "errors": self.errors,
            "warnings": self.warnings,
            "rules": [
                {
                    "rule": rule.code,
                    "severity": rule.severity,
                    "meaning": rule.meaning,
                    "convert": rule.convert,
                    "count": sum(f.rule is rule for f in self.findings),
                }
                for rule in Rule
            ],
            "findings": [
                {
                    "rule": rule.code,
                    "severity": rule.severity,
                    "source": f.source,
                    "slices": f.slices,
                    "detail": f.detail,
                }
                for rule, found in self.by_rule().items()
                for f in found
            ],
        }


def _counted(counts: dict[str, int]) -> str:
    tumors = ", ".join(f"{counts[name]:,} {name}" for name in TUMORS)
    return f"{counts['slices']:,} slices of {counts['patients']:,} patients ({tumors})"


def count_slices(facts: Sequence[SliceFacts]) -> dict[str, int]:
    """Count slices, patients and the slices of each tumour type, as a report has it."""
    tumors = {name: sum(f.label == label for f in facts) for label, name in enumerate(TUMORS, 1)}
    return {"slices": len(facts), "patients": len({f.pid for f in facts}), **tumors}


def findings_across(facts: Sequence[SliceFacts], *, folds: bool = True) -> Iterator[Finding]:
    """Find what shows on several slices together only: in images, types and folds.

    Args:
        facts: those of all slices, by rising number.
        folds: whether the folds could be read at all.
    """
    first: dict[bytes, SliceFacts] = {}
    patients: dict[str, list[SliceFacts]] = defaultdict(list)
    for f in facts:
        patients[f.pid].append(f)
        other = first.setdefault(f.content, f)
        if other is not f:
            whose = "of the same patient" if other.pid == f.pid else f"of another patient, {other.pid}; here {f.pid}"
            detail = f"the same image as {other.source}, {whose}"
            yield Finding(Rule.DUPLICATE_IMAGE, f.source, detail, (other.slice, f.slice))
    for own in patients.values():
        yield from _several(Rule.PATIENT_TYPES, own, {f.slice: TUMORS[f.label - 1] for f in own})
    if not folds:
        return
    missing = [f for f in facts if not 1 <= f.fold <= 5]
    if missing and len(missing) == len(facts):
        numbers = tuple(f.slice for f in facts)
        yield Finding(Rule.FOLD_MISSING, "cvind.mat", "names a fold for none of the slices, or is missing", numbers)
    else:
        for f in missing:
            yield Finding(Rule.FOLD_MISSING, f.source, "has no fold", (f.slice,))
    for own in patients.values():
        yield from _several(Rule.PATIENT_FOLDS, own, {f.slice: f"fold {f.fold}" for f in own if 1 <= f.fold <= 5})


def _several(rule: Rule, own: Sequence[SliceFacts], value: dict[int, str]) -> Iterator[Finding]:
    """Find a patient whose slices have more than one value."""
    if len(set(value.values())) > 1:
        groups: dict[str, list[str]] = defaultdict(list)
        for number, name in value.items():
            groups[name].append(str(number))
        detail = "; ".join(f"{name}: {', '.join(numbers)}" for name, numbers in sorted(groups.items()))
        yield Finding(rule, f"patient {own[0].pid}", detail, tuple(f.slice for f in own))
