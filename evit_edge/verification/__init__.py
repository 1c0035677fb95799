"""Proving that an artefact is what its manifest says and answers like the model it was made from."""

from evit_edge.verification.gates import Gate, GateStatus, Thresholds, VerificationReport
from evit_edge.verification.replaying import check_replay, write_replay
from evit_edge.verification.request import Architecture, VerifyRequest
from evit_edge.verification.verify import verify

__all__ = [
    "Architecture",
    "Gate",
    "GateStatus",
    "Thresholds",
    "VerificationReport",
    "VerifyRequest",
    "check_replay",
    "verify",
    "write_replay",
]
