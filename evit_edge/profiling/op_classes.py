"""Classes of operators, and what bounds each: arithmetic or memory.

Three vocabularies are read: TFLite's (``CONV_2D``), XNNPACK's as op profiles print it
(``Delegate/Convolution (NHWC, F32) IGEMM``), and PyTorch's (``aten::addmm``). The classes are those of figure 2 of
the EfficientViT paper (arXiv:2305.07027), with depthwise convolution, conversion and reduction kept apart.
"""

from __future__ import annotations

from enum import StrEnum

from evit_edge.benchmark.figures import Bound


class OpClass(StrEnum):
    """Kind of work, those bound by arithmetic first."""

    CONVOLUTION = "convolution"
    DEPTHWISE = "depthwise convolution"
    MATMUL = "matmul"
    NORMALIZATION = "normalization"
    ELEMENTWISE = "elementwise"
    RESHAPE = "reshape"
    COPY = "copy"
    CONVERSION = "conversion"
    REDUCTION = "reduction"
    DELEGATE = "inside a delegate"
    OTHER = "other"

    @property
    def bound(self) -> Bound | None:
        """Compute or memory; None for what cannot be looked into.

        Depthwise convolution counts as compute, as any convolution does in the paper, though with few
        operations a byte it often waits for memory.
        """
        if self in (OpClass.CONVOLUTION, OpClass.DEPTHWISE, OpClass.MATMUL):
            return Bound.COMPUTE
        return None if self in (OpClass.DELEGATE, OpClass.OTHER) else Bound.MEMORY


_C, _D, _M, _N = OpClass.CONVOLUTION, OpClass.DEPTHWISE, OpClass.MATMUL, OpClass.NORMALIZATION
_E, _R, _Y, _Q, _P = OpClass.ELEMENTWISE, OpClass.RESHAPE, OpClass.COPY, OpClass.CONVERSION, OpClass.REDUCTION

_TFLITE: dict[OpClass, str] = {
    _C: "CONV_2D TRANSPOSE_CONV CONV_3D CONV_3D_TRANSPOSE",
    _D: "DEPTHWISE_CONV_2D",
    _M: "FULLY_CONNECTED BATCH_MATMUL",
    _N: "SOFTMAX LOG_SOFTMAX L2_NORMALIZATION LOCAL_RESPONSE_NORMALIZATION RSQRT SQUARED_DIFFERENCE",
    _E: "ADD SUB MUL DIV MAXIMUM MINIMUM ABS NEG EXP LOG POW SQRT SQUARE SIGN FLOOR CEIL ROUND SIN COS TANH "
    "LOGISTIC RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 LEAKY_RELU PRELU ELU GELU HARD_SWISH ADD_N FLOOR_DIV FLOOR_MOD "
    "EQUAL NOT_EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_OR LOGICAL_NOT SELECT SELECT_V2 "
    "WHERE",
    _R: "RESHAPE SQUEEZE EXPAND_DIMS TRANSPOSE",
    _Y: "CONCATENATION SLICE STRIDED_SLICE SPLIT SPLIT_V PAD PADV2 MIRROR_PAD GATHER GATHER_ND PACK UNPACK TILE "
    "BROADCAST_TO FILL SPACE_TO_DEPTH DEPTH_TO_SPACE SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND REVERSE_V2 "
    "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR DYNAMIC_UPDATE_SLICE SHAPE EMBEDDING_LOOKUP",
    _Q: "CAST QUANTIZE DEQUANTIZE FAKE_QUANT",
    _P: "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_ANY REDUCE_ALL AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D "
    "ARG_MAX ARG_MIN TOPK_V2 CUMSUM",
}
_BY_TFLITE = {name: op_class for op_class, names in _TFLITE.items() for name in names.split()}

# Beginnings of names, lower case, the first that fits counts. XNNPACK names the type of numbers in brackets.
_XNNPACK: tuple[tuple[str, OpClass], ...] = (
    ("convolution", _C),
    ("deconvolution", _C),
    ("fully connected", _M),
    ("dynamic fully connected", _M),
    ("batch matrix multiply", _M),
    ("softmax", _N),
    ("rope", _N),
    ("static reshape", _R),
    ("reshape", _R),
    ("transpose", _R),
    ("copy", _Y),
    ("concatenate", _Y),
    ("slice", _Y),
    ("static slice", _Y),
    ("even split", _Y),
    ("constant pad", _Y),
    ("static constant pad", _Y),
    ("depth to space", _Y),
    ("space to depth", _Y),
    ("resize bilinear", _Y),
    ("static resize", _Y),
    ("convert", _Q),
    ("mean", _P),
    ("sum", _P),
    ("static mean", _P),
    ("static sum", _P),
    ("static reduce", _P),
    ("global average", _P),
    ("global sum", _P),
    ("average pooling", _P),
    ("max pooling", _P),
    ("argmax", _P),
    *((name, _E) for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "clamp", "sigmoid")),
    *(
        (name, _E)
        for name in ("hardswish", "tanh", "elu", "gelu", "leaky", "prelu", "abs", "neg", "square", "bankers")
    ),
    *(
        (name, _E)
        for name in ("unary elementwise", "binary elementwise", "ceiling", "floor", "exp", "log", "power")
    ),
)

_ATEN: dict[OpClass, str] = {
    _C: "convolution _convolution conv1d conv2d conv3d mkldnn_convolution cudnn_convolution miopen_convolution "
    "slow_conv2d_forward _slow_conv2d_forward thnn_conv2d convolution_overrideable cudnn_convolution_relu",
    _D: "_conv_depthwise2d miopen_depthwise_convolution",
    _M: "addmm mm bmm baddbmm matmul linear addbmm addmv mv dot _scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention _scaled_mm mkldnn_linear",
    _N: "softmax _softmax _log_softmax native_layer_norm layer_norm native_batch_norm batch_norm cudnn_batch_norm "
    "_native_batch_norm_legit _native_batch_norm_legit_no_training native_group_norm _batch_norm_impl_index "
    "rsqrt",
    _R: "view reshape _reshape_alias permute transpose t squeeze unsqueeze flatten unflatten expand as_strided "
    "_unsafe_view alias detach",
    _Y: "copy_ clone contiguous cat narrow slice select split split_with_sizes chunk pad constant_pad_nd index "
    "roll stack repeat gather index_select im2col col2im unfold upsample_bilinear2d upsample_bicubic2d fill_ "
    "zero_ empty empty_like zeros resize_",
    _Q: "to _to_copy quantize_per_tensor dequantize type_as",
    _P: "mean sum amax amin max min argmax adaptive_avg_pool2d _adaptive_avg_pool2d avg_pool2d max_pool2d "
    "max_pool2d_with_indices topk var_mean",
    _E: "add add_ sub sub_ rsub mul mul_ div div_ relu relu_ clamp clamp_ clamp_min clamp_min_ hardswish "
    "hardswish_ hardtanh hardtanh_ hardsigmoid hardsigmoid_ gelu silu silu_ sigmoid sigmoid_ tanh exp pow sqrt "
    "abs neg where leaky_relu threshold",
}
_BY_ATEN = {name: op_class for op_class, names in _ATEN.items() for name in names.split()}


def classify(name: str) -> OpClass:
    """The class of an operator.

    Args:
        name: As TFLite, XNNPACK or PyTorch spell it.

    Returns:
        Its class; :attr:`OpClass.OTHER` for a name that is not known.
    """
    bare = name.strip().removeprefix("Delegate/").strip()
    if bare in _BY_TFLITE:
        return _BY_TFLITE[bare]
    if bare.startswith("aten::"):
        return _BY_ATEN.get(bare.removeprefix("aten::"), OpClass.OTHER)
    lower = bare.lower()
    if "dwconv" in lower or lower.startswith("depthwise"):
        return OpClass.DEPTHWISE
    if "delegate" in lower:
        return OpClass.DELEGATE
    return next((op_class for start, op_class in _XNNPACK if lower.startswith(start)), OpClass.OTHER)
