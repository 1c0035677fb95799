"""Model files from anywhere, checked before an engine sees them.

Engines trust their files: an offset that points outside, a shape that is larger than its data, or a number of a
tensor that does not exist makes native code read or write foreign memory. What is refused here is refused by name
and reason. What passes may still crash an engine, which is why :mod:`evit_edge.runtime.isolated` runs it apart.

Everything here is Python that reads numbers out of bytes; nothing is executed, allocated by declared size, or
followed outside the file.
"""

from evit_edge.runtime.checks.door import check_model
from evit_edge.runtime.checks.limits import Limits

__all__ = ["Limits", "check_model"]
