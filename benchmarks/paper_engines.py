"""The engines of the comparison: each makes a function that runs a network once on a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from int8_speed import pictures
from int8_vs_stock import min_max_ranges, quantized
from paper_nets import Entry, Form, formed, opened
from torch import Tensor, nn

from evit_converters import onnx, tflite
from evit_edge.analysis.clock import Processor, forward, wait
from evit_edge.analysis.networks import Network
from evit_edge.files import replacing
from evit_edge.models.deploy import deploy
from evit_edge.models.efficientvit import EfficientViT

EAGER, CHANNELS_LAST, COMPILED = "eager", "channels_last", "compiled"
COMPARED_AS_MADE = ("efficientvit_m2", "efficientvit_m5", "mobilenetv3_large_100", "mobilevit_xxs")

Pass = Callable[[], Any]


@dataclass(frozen=True)
class Job:
    """One cell to be measured.

    Attributes:
        net: Name in timm.
        form: What was done to it.
        mode: Of the engine.
        image_size: Side of the input in pixels.
        make: Makes the function that runs it once.
    """

    net: str
    form: Form
    mode: str
    image_size: int
    make: Callable[[], Pass] = field(compare=False)

    @property
    def label(self) -> str:
        """Names it among others."""
        return f"{self.net}, {self.form}, {self.mode}"


def torch_jobs(chosen: Entry, batch: int) -> Iterator[Job]:
    """Eager and channels_last; EfficientViT's inference form, whose planes are NHWC anyway; four nets as made."""
    network = opened(chosen)
    forms = [(Form.FOLDED, EAGER), (Form.FOLDED, CHANNELS_LAST)]
    forms += [(Form.INFERENCE, EAGER)] if chosen.ours else []
    forms += [(Form.PLAIN, EAGER)] if chosen.key in COMPARED_AS_MADE else []
    for form, mode in forms:
        yield _job(chosen, network, form, mode, lambda f=form, m=mode: _eager(network, f, m, batch))


def compiled_jobs(chosen: Entry, batch: int) -> Iterator[Job]:
    """torch.compile of the folded network in channels_last; needs a C++ compiler."""
    network = opened(chosen)

    def make() -> Pass:
        module, inputs = _laid(network, Form.FOLDED, CHANNELS_LAST, batch)
        torch._dynamo.config.recompile_limit = 64  # variants share the code of their classes
        run = forward(torch.compile(module, dynamic=False), inputs)  # type: ignore[arg-type]
        run()
        return run

    yield _job(chosen, network, Form.FOLDED, COMPILED, make)


def cuda_jobs(chosen: Entry, batch: int) -> Iterator[Job]:
    """Half and full precision on CUDA, channels_last."""
    network = opened(chosen)
    for dtype, mode in ((torch.float16, "float16"), (torch.float32, "float32")):
        yield _job(chosen, network, Form.FOLDED, mode, lambda d=dtype: _cuda(network, d, batch))


def onnx_jobs(chosen: Entry, batch: int, cache: Path, threads: int) -> Iterator[Job]:
    """ONNX Runtime: EfficientViT's inference form as ``evit-edge convert`` writes it, the others folded."""
    network = opened(chosen)
    form = Form.INFERENCE if chosen.ours else Form.FOLDED

    def make() -> Pass:
        module = formed(network, form)
        path = cache / f"{chosen.key}.onnx"
        _cached(path, lambda: onnx.export(module, _inputs(network, form, 1)))
        return _onnx_pass(path, _inputs(network, form, batch), threads)

    yield _job(chosen, network, form, "float", make)


def tflite_jobs(chosen: Entry, cache: Path, threads: int) -> Iterator[Job]:
    """TFLite on XNNPACK, our float and our int8; a file has one batch size, 1."""
    network = opened(chosen)
    form = Form.INFERENCE if chosen.ours else Form.FOLDED
    for mode in ("float", "int8"):
        yield _job(chosen, network, form, mode, lambda m=mode: _tflite_pass(chosen, network, cache, m, threads))


def _job(chosen: Entry, network: Network, form: Form, mode: str, make: Callable[[], Pass]) -> Job:
    return Job(chosen.key, form, mode, network.image_size, make)


def _inputs(network: Network, form: Form, batch: int) -> Tensor:
    if form is not Form.INFERENCE:
        return network.noise(batch)
    side = network.image_size
    return torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8)


def _laid(network: Network, form: Form, mode: str, batch: int) -> tuple[nn.Module, Tensor]:
    module, inputs = formed(network, form), _inputs(network, form, batch)
    if mode == CHANNELS_LAST:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return module, inputs


def _eager(network: Network, form: Form, mode: str, batch: int) -> Pass:
    return forward(*_laid(network, form, mode, batch))


def _cuda(network: Network, dtype: torch.dtype, batch: int) -> Pass:
    module, inputs = _laid(network, Form.FOLDED, CHANNELS_LAST, 1)
    side = network.image_size
    many = torch.randn(batch, *inputs.shape[1:], device="cuda", dtype=dtype).reshape(batch, 3, side, side)
    run = forward(module.to("cuda", dtype), many.contiguous(memory_format=torch.channels_last))

    def synchronised() -> None:
        run()
        wait(Processor.CUDA)

    return synchronised


def _cached(path: Path, make: Callable[[], bytes]) -> bytes:
    if not path.exists():
        content = make()
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    return path.read_bytes()


def _onnx_pass(path: Path, inputs: Tensor, threads: int) -> Pass:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name, values = session.get_inputs()[0].name, inputs.numpy()
    return lambda: session.run(None, {name: values})


def _tflite_pass(chosen: Entry, network: Network, cache: Path, mode: str, threads: int) -> Pass:
    content = _cached(cache / f"{chosen.key}-float.tflite", lambda: _tflite_float(network))
    if mode == "int8":
        photos = pictures(content)
        content = _cached(
            cache / f"{chosen.key}-int8.tflite",
            lambda: quantized(content, min_max_ranges(content, [photo[0] for photo in photos])),
        )
    interpreter = import_module("ai_edge_litert.interpreter").Interpreter(
        model_content=content, num_threads=threads
    )
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    values = np.random.default_rng(0).integers(0, 256, detail["shape"]).astype(detail["dtype"])
    interpreter.set_tensor(detail["index"], values)
    run: Pass = interpreter.invoke
    return run


def _tflite_float(network: Network) -> bytes:
    """uint8 photos in, probabilities out."""
    rule, side = network.preprocessing, network.image_size
    if isinstance(network.module, EfficientViT):
        module: nn.Module = deploy(network.module, mean=rule.mean, std=rule.std, tokenwise=True)
    else:
        merged = formed(network, Form.FOLDED)
        module = tflite.ImageClassifier(merged, image_size=(side, side), mean=rule.mean, std=rule.std)
    return tflite.export(module, torch.zeros(1, side, side, 3, dtype=torch.uint8))
