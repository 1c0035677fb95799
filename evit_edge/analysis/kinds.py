"""The kinds of work of figure 2 of the EfficientViT paper, and which of them it counts as memory-bound."""

from __future__ import annotations

from enum import StrEnum

from evit_edge.profiling.op_classes import OpClass, classify


class Kind(StrEnum):
    """What an operator of PyTorch does, in the paper's words."""

    MULTIPLICATION = "tensor multiplication"
    RESHAPE = "reshape"
    NORMALIZATION = "normalization"
    COPY = "copy"
    ADDITION = "addition"
    OTHER = "other"

    @property
    def memory_bound_in_paper(self) -> bool:
        """Whether section 2.1 of the paper counts it so: reshaping, addition, copying and normalization."""
        return self not in (Kind.MULTIPLICATION, Kind.OTHER)


_OF_CLASS = {
    OpClass.CONVOLUTION: Kind.MULTIPLICATION,
    OpClass.DEPTHWISE: Kind.MULTIPLICATION,
    OpClass.MATMUL: Kind.MULTIPLICATION,
    OpClass.NORMALIZATION: Kind.NORMALIZATION,
    OpClass.RESHAPE: Kind.RESHAPE,
    OpClass.COPY: Kind.COPY,
    OpClass.CONVERSION: Kind.COPY,
}
_MULTIPLICATIONS = (
    "scaled_dot_product_attention _scaled_dot_product_attention_math _native_multi_head_attention "
    "_transformer_encoder_layer_fwd"
)
_OF_NAME: dict[Kind, str] = {
    Kind.MULTIPLICATION: f"{_MULTIPLICATIONS} _addmm_activation conv_transpose2d einsum tensordot",
    Kind.NORMALIZATION: "group_norm instance_norm rms_norm _fused_rms_norm linalg_vector_norm",
    Kind.ADDITION: "add add_ sub sub_ rsub",
    Kind.OTHER: "softmax _softmax _safe_softmax log_softmax _log_softmax",
    # In PyTorch these only look at the same memory in another way.
    Kind.RESHAPE: "slice select split split_with_sizes chunk narrow unbind movedim swapaxes view_as reshape_as "
    "unflatten expand_as _transform_bias_rescale_qkv squeeze_ unsqueeze_ transpose_ numpy_T matrix_H mT",
    Kind.COPY: "unsafe_split zeros_like ones_like full_like new_zeros new_empty broadcast_to lift_fresh hstack "
    "vstack concat concatenate",
}
_BY_NAME = {f"aten::{name}": kind for kind, names in _OF_NAME.items() for name in names.split()}

COMPOSED = frozenset(
    f"aten::{name}" for name in f"linear matmul einsum tensordot multi_head_attention {_MULTIPLICATIONS}".split()
)
"""Operators that only put others together, some of them of another kind: those are counted one by one."""


def kind_of(name: str) -> Kind:
    """The kind of an operator of PyTorch, such as ``aten::addmm``; OTHER for one that is not known."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    return _OF_CLASS.get(classify(name), Kind.OTHER)
