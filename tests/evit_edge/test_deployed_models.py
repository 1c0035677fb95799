"""Every variant in every mode is one partition, with no transpose but the window partition's."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from evit_converters import tflite
from evit_converters.tflite import Quantization
from evit_converters.tflite.graph import Graph
from evit_edge.models.config import variant
from evit_edge.models.deploy import deploy
from evit_edge.models.efficientvit import EfficientViT
from evit_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD

LEAST_SQNR_DB = MappingProxyType({Quantization.NONE: 90.0, Quantization.FP16: 50.0, Quantization.INT8: 20.0})


def answer(content: bytes, image: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"m{i}" for i in range(6)])
def test_one_partition_in_every_mode(name: str, photos: dict[str, np.ndarray]) -> None:
    torch.manual_seed(0)
    model = EfficientViT(variant(name)).eval()
    for parameter in model.parameters():  # branches start at zero; here all have to count
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.1, 0.6)
    module = deploy(model, mean=IMAGENET_MEAN, std=IMAGENET_STD, tokenwise=True)
    image = np.asarray(Image.fromarray(photos["coffee"]).resize((224, 224)))[None]
    content = tflite.export(module, torch.from_numpy(image.copy()))
    found = tflite.activation_runner(content)(image)
    ranges = {key: (float(values.min()), float(values.max())) for key, values in found.items()}
    expected = module(torch.from_numpy(image.copy())).numpy()
    for mode, least_db in LEAST_SQNR_DB.items():
        converted = tflite.quantize(content, mode, ranges)
        report, graph = tflite.partitions(converted), Graph(converted)
        native = () if mode is Quantization.INT8 else ("CAST",)
        assert (report.partitions, report.native_ops) == (1, native), mode
        assert sum(graph.kind(operator) == "TRANSPOSE" for operator in graph.operators) == 2
        noise = np.linalg.norm(answer(converted, image) - expected) / np.linalg.norm(expected)
        assert -20 * np.log10(noise) > least_db, mode
