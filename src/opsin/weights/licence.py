"""Licences as a gate: which weights may be used for what."""

from collections.abc import Mapping

from .errors import WeightsError

# SPDX identifiers that allow any use, sale included, for no more than naming the authors.
PERMISSIVE = frozenset(
    ("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0", "CDLA-Permissive-2.0", "ISC")
    + ("MIT", "MIT-0", "Unlicense", "Zlib")
)
OTHERS = frozenset(
    ("AGPL-3.0-only", "AGPL-3.0-or-later", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-4.0", "CC-BY-SA-4.0")
    + ("GPL-2.0-only", "GPL-3.0-only", "GPL-3.0-or-later", "LGPL-3.0-only", "MPL-2.0")
)
KNOWN = {name.lower(): name for name in sorted(PERMISSIVE | OTHERS)}
GATED = ("code", "weights")  # the licence of the training data is told, not gated: hardly any weight would be left


def allowed(licence: Mapping[str, str | None], gate: str | None) -> bool:
    """Whether code and weights keep a gate: "permissive", SPDX identifiers parted by commas, or None for any.

    What has no known licence keeps no gate.

    Raises:
        WeightsError: a gate that is neither.
    """
    if gate is None:
        return True
    accepted = set(_accepted(gate))
    return all(licence.get(part) in accepted for part in GATED)


def check(name: str, licence: Mapping[str, str | None], gate: str | None) -> None:
    """Raise `WeightsError` when a weight does not keep the gate."""
    if not allowed(licence, gate):
        told = ", ".join(f"{part}: {licence.get(part) or 'not known'}" for part in GATED)
        raise WeightsError(f"{name} does not keep licence={gate!r} ({told}); choose another weight or widen the gate")


def spdx(text: str | None) -> str | None:
    """A licence as a model card writes it (`apache-2.0`) in SPDX's spelling (`Apache-2.0`); others stay as they are."""
    return KNOWN.get(text.lower(), text) if text else None


def _accepted(gate: str) -> frozenset[str]:
    if gate == "permissive":
        return PERMISSIVE
    names = [name.strip() for name in gate.split(",")]
    if strange := [name for name in names if name.lower() not in KNOWN and not name.startswith("LicenseRef-")]:
        choices = ", ".join(KNOWN.values())
        raise WeightsError(f"licence={gate!r}: {strange[0]!r} is no SPDX name known here; say permissive, or {choices}")
    return frozenset(KNOWN.get(name.lower(), name) for name in names)
