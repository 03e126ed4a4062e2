"""How work on a claimed product ended: done, failed, put off, or held against it."""

from __future__ import annotations

from typing import Any

from visualsearch.conf import get_settings
from visualsearch.upkeep.claiming import Claim, Ending, Outcome
from visualsearch.upkeep.embedding import Fault, Report


def of(report: Report, product_id: Any, version: int) -> Outcome:
    """What `report` says of one product."""
    fault: Fault | None = report.faults.get(product_id)
    if fault is None:
        return Outcome(product_id=product_id, version=version)
    passing = Ending.CHARGED if fault.is_suspect else Ending.DEFERRED
    return Outcome(
        product_id=product_id,
        version=version,
        ending=Ending.FAILED if fault.is_permanent else passing,
        code=fault.code,
        message=fault.message,
    )


def deferred(claim: Claim, code: str, error: Exception) -> Outcome:
    """A passing fault that is not held against the product."""
    return _ended(claim, Ending.DEFERRED, code, str(error).strip())


def charged(claim: Claim, code: str, error: object) -> Outcome:
    """A fault that the product may have been the cause of."""
    return _ended(claim, Ending.CHARGED, code, str(error))


def given_up(claim: Claim) -> Outcome:
    """Set aside: it was tried alone as often as MAX_ATTEMPTS and MOST_SILENT_ATTEMPTS allow."""
    if claim.crashes >= get_settings().MAX_ATTEMPTS:
        return _ended(claim, Ending.FAILED, claim.code, claim.error)
    message = (
        f"Workers ended without a word {claim.attempts - 1} times while they indexed this "
        "product alone: look into their logs, replace its photos, and save it."
    )
    return _ended(claim, Ending.FAILED, "crashed", message)


def _ended(claim: Claim, ending: Ending, code: str, message: str) -> Outcome:
    return Outcome(
        product_id=claim.product_id,
        version=claim.version,
        ending=ending,
        code=code,
        message=message,
    )
