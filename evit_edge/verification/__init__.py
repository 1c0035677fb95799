"""Proving that an artefact is what its manifest says and answers like the model it was made from."""

from evit_edge.verification.gates import Gate, GateStatus, Thresholds, VerificationReport
from evit_edge.verification.verify import VerifyRequest, verify

__all__ = ["Gate", "GateStatus", "Thresholds", "VerificationReport", "VerifyRequest", "verify"]
