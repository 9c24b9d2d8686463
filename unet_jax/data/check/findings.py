"""What a check of a dataset found: findings by rule, rules about several slices together, and the report of them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from unet_jax.config import TUMORS
from unet_jax.data.check import rules
from unet_jax.data.check.rules import RULES, Rule

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
    """Numbers of the slices that it is about."""

    def __str__(self) -> str:
        return f"{self.source}: {self.detail}"


@dataclass(frozen=True)
class SliceFacts:
    """What is kept of a slice that was looked at."""

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
    """All that a check of one dataset found."""

    data: str
    """The folder, as it was given."""
    kind: str
    """raw folder, or converted dataset."""
    counts: dict[str, int]
    """Of `slices`, `patients` and each tumour type; without slices that could not be read."""
    findings: list[Finding]

    @property
    def errors(self) -> int:
        return sum(f.rule.severity == "error" for f in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors

    def by_rule(self) -> list[tuple[Rule, list[Finding]]]:
        """The rules that were broken, errors first, else in the order of RULES."""
        grouped = defaultdict(list)
        for finding in self.findings:
            grouped[finding.rule.name].append(finding)
        broken = sorted((rule for rule in RULES if rule.name in grouped), key=lambda rule: rule.severity != "error")
        return [(rule, grouped[rule.name]) for rule in broken]

    def verdict(self) -> str:
        """One line: how many errors and warnings, by rule."""
        if not self.findings:
            return "Check: no errors, no warnings."
        parts = []
        for severity, count in (("error", self.errors), ("warning", self.warnings)):
            named = ", ".join(f"{r.name} {len(found)}" for r, found in self.by_rule() if r.severity == severity)
            parts.append(f"{count or 'no'} {severity}{'' if count == 1 else 's'}" + (f" ({named})" if named else ""))
        return f"Check: {', '.join(parts)}."

    def lines(self) -> list[str]:
        """The report as text."""
        tumors = ", ".join(f"{self.counts[name]:,} {name}" for name in TUMORS)
        lines = [
            f"{self.data}: {self.kind}, {self.counts['slices']:,} slices of {self.counts['patients']:,} patients "
            f"({tumors})",
            self._note(),
        ]
        for rule, found in self.by_rule():
            lines += ["", f"{rule.severity:<8} {len(found):>5}  {rule.name}: {rule.meaning}"]
            lines += [f"{'':16}{finding}" for finding in found[:EXAMPLES]]
            if len(found) > EXAMPLES:
                lines.append(f"{'':16}and {len(found) - EXAMPLES:,} more (--json FILE has all)")
            lines.append(f"{'':16}convert: {rule.convert}")
        return [*lines, "", self.verdict()] if self.findings else [*lines, self.verdict()]

    def _note(self) -> str:
        tumors = ", ".join(f"{PUBLISHED[name]:,} {name}" for name in TUMORS)
        published = f"{PUBLISHED['slices']:,} slices of {PUBLISHED['patients']} patients ({tumors})"
        differ = ", ".join(f"{name} {by:+,}" for name, by in self.difference().items() if by)
        source = "the published dataset, doi:10.6084/m9.figshare.1512427.v5"
        if not differ:
            return f"NOTE: the counts are those of {source}."
        return f"NOTE: {source}, has {published}. Here: {differ}."

    def difference(self) -> dict[str, int]:
        """How many more there are than in the published dataset."""
        return {name: self.counts[name] - count for name, count in PUBLISHED.items()}

    def to_json(self) -> str:
        """Everything, every finding with all its slices."""
        content: dict[str, Any] = {
            "data": self.data,
            "kind": self.kind,
            "counts": self.counts,
            "published": PUBLISHED,
            "difference": self.difference(),
            "errors": self.errors,
            "warnings": self.warnings,
            "rules": [
                {
                    "rule": rule.name,
                    "severity": rule.severity,
                    "meaning": rule.meaning,
                    "convert": rule.convert,
                    "count": sum(f.rule == rule for f in self.findings),
                }
                for rule in RULES
            ],
            "findings": [
                {
                    "rule": f.rule.name,
                    "severity": f.rule.severity,
                    "source": f.source,
                    "slices": list(f.slices),
                    "detail": f.detail,
                }
                for _, found in self.by_rule()
                for f in found
            ],
        }
        return json.dumps(content, indent=2) + "\n"


def count_slices(facts: Iterable[SliceFacts]) -> dict[str, int]:
    """The counts of a report."""
    facts = list(facts)
    tumors = {name: sum(f.label == label for f in facts) for label, name in enumerate(TUMORS, 1)}
    return {"slices": len(facts), "patients": len({f.pid for f in facts}), **tumors}


def findings_across(facts: Sequence[SliceFacts], *, folds: bool = True) -> Iterator[Finding]:
    """What can only be seen on several slices together: images, types and folds.

    Args:
        facts: of all slices, by rising number.
        folds: whether the folds could be read at all.
    """
    first: dict[bytes, SliceFacts] = {}
    for f in facts:
        other = first.setdefault(f.content, f)
        if other is not f:
            whose = "of the same patient" if other.pid == f.pid else f"of another patient, {other.pid}; here {f.pid}"
            detail = f"the same image as {other.source}, {whose}"
            yield Finding(rules.DUPLICATE_IMAGE, f.source, detail, (other.slice, f.slice))
    patients: dict[str, list[SliceFacts]] = defaultdict(list)
    for f in facts:
        patients[f.pid].append(f)
    for pid, own in patients.items():
        yield from _several(rules.PATIENT_TYPES, pid, own, {f.slice: TUMORS[f.label - 1] for f in own})
    if folds:
        missing = [f for f in facts if not 1 <= f.fold <= 5]
        if missing and len(missing) == len(facts):
            numbers = tuple(f.slice for f in facts)
            yield Finding(
                rules.FOLD_MISSING, "cvind.mat", "names a fold for none of the slices, or is missing", numbers
            )
        else:
            for f in missing:
                yield Finding(rules.FOLD_MISSING, f.source, "has no fold", (f.slice,))
        for pid, own in patients.items():
            have = {f.slice: f"fold {f.fold}" for f in own if 1 <= f.fold <= 5}
            yield from _several(rules.PATIENT_FOLDS, pid, own, have)


def _several(rule: Rule, pid: str, own: Sequence[SliceFacts], value: dict[int, str]) -> Iterator[Finding]:
    """A finding if the patient's slices have more than one value."""
    if len(set(value.values())) > 1:
        groups: dict[str, list[int]] = defaultdict(list)
        for number, name in value.items():
            groups[name].append(number)
        parts = "; ".join(f"{name}: {', '.join(map(str, numbers))}" for name, numbers in sorted(groups.items()))
        yield Finding(rule, f"patient {pid}", parts, tuple(f.slice for f in own))
