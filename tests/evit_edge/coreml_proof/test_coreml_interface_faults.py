"""What a package says of itself, and honest packages that say it right."""

from __future__ import annotations

import json
import re

import pytest

from evit_edge.errors import ArtefactError


def test_an_honest_package_passes_far_from_every_limit(tiny_package, proved, failed):
    report = proved(tiny_package("fp16"))
    assert report.passed, failed(report)
    assert [gate.name for gate in report.gates] == [
        "colour order",
        "input size",
        "scale",
        "bias",
        "labels",
        "labels of the metadata",
        "specification",
        "output kind",
        "stored weights",
        "converted form",
        "graph",
        "rounding",
        "activations",
    ]
    figures = report.figures
    assert figures["graph_error"] < 1e-6 * figures["torch_float32_error"]
    assert figures["rounding_error"] < 2 * figures["torch_declared_error"]
    assert report.remarks == ("evaluated by the reference evaluator, not on Apple hardware",)


def bgr(package) -> None:
    image = package.spec.description.input[0].type.imageType
    image.colorSpace = image.BGR


def swapped_bias(package) -> None:
    values = package.making("image__biased___y_0").attributes["val"].immediateValue.tensor.floats.values
    values[0], values[2] = values[2], values[0]


def wrong_image_bias(package) -> None:
    package.making("image__biased___y_0").attributes["val"].immediateValue.tensor.floats.values[1] += 0.01


def wrong_scale(package) -> None:
    package.making("image__scaled___y_0").attributes["val"].immediateValue.tensor.floats.values[0] = 1 / 255


def shuffled_labels(package) -> None:
    entries = package.of_type("classify")[0].inputs["classes"].arguments[0].value.immediateValue.list.values
    for entry, label in zip(entries, ("cat", "cup", "rocket", "astronaut", "camera"), strict=True):
        entry.immediateValue.tensor.strings.values[0] = label


def shuffled_metadata(package) -> None:
    package.spec.description.metadata.userDefined["labels"] = json.dumps(
        ("camera", "astronaut", "rocket", "cat", "cup")
    )


def fewer_labels_in_the_metadata(package) -> None:
    package.spec.description.metadata.userDefined["labels"] = json.dumps(("cup", "cat"))


def raised_specification(package) -> None:
    package.spec.specificationVersion = 9


def other_size(package) -> None:
    package.spec.description.input[0].type.imageType.width = 127


def removed_softmax(package) -> None:
    softmax = package.of_type("softmax")[-1]
    softmax.type = "identity"
    del softmax.inputs["axis"]


@pytest.mark.parametrize(
    ("fault", "gate", "culprit"),
    [
        pytest.param(bgr, "colour order", "BGR", id="red and blue swapped"),
        pytest.param(swapped_bias, "bias", "R and B are swapped", id="bias of red and blue swapped"),
        pytest.param(wrong_image_bias, "bias", "-2.007699", id="bias of green off"),
        pytest.param(wrong_scale, "scale", "0.003921569", id="scale of an unnormalised image"),
        pytest.param(shuffled_labels, "labels", "another order; the first at class 0: 'cat' instead", id="labels"),
        pytest.param(shuffled_metadata, "labels of the metadata", "the first at class 0: 'camera'", id="metadata"),
        pytest.param(fewer_labels_in_the_metadata, "labels of the metadata", "^2$", id="fewer in the metadata"),
        pytest.param(other_size, "input size", "127x128", id="size"),
        pytest.param(raised_specification, "specification", "9 with operations of iOS17", id="specification"),
        pytest.param(removed_softmax, "output kind", "logits .* the softmax is missing", id="softmax removed"),
    ],
)
def test_a_fault_of_the_interface_fails_its_gate(tiny_package, proved, failed, edited, fault, gate, culprit):
    package = edited(tiny_package("fp16"))
    fault(package)
    found = failed(proved(package.save()))
    assert gate in found
    assert re.search(culprit, found[gate])


def test_a_classifier_needs_no_labels_in_its_metadata(tiny_package, proved, failed, edited):
    package = edited(tiny_package("fp16"))
    del package.spec.description.metadata.userDefined["labels"]
    report = proved(package.save())
    assert report.passed, failed(report)
    assert "labels of the metadata" not in {gate.name for gate in report.gates}


def grey(package) -> None:
    image = package.spec.description.input[0].type.imageType
    image.colorSpace = image.GRAYSCALE


def two_scores(package) -> None:
    function = package.spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    block.operations.remove(package.of_type("classify")[0])
    del block.outputs[:]
    block.outputs.extend(operation.outputs[0].name for operation in package.of_type("relu")[:2])
    description = package.spec.description
    del description.output[1:]
    description.output[0].name = block.outputs[0]
    description.output[0].type.multiArrayType.shape.append(1)
    description.ClearField("predictedFeatureName")
    description.ClearField("predictedProbabilitiesName")


@pytest.mark.parametrize(
    ("fault", "message"),
    [(grey, "takes no colour image"), (two_scores, "has outputs .*; one with scores is accepted")],
)
def test_what_is_no_classifier_of_photos_is_refused(tiny_package, proved, edited, fault, message):
    package = edited(tiny_package("fp16"))
    fault(package)
    with pytest.raises(ArtefactError, match=message):
        proved(package.save())


def test_only_public_names_are_found():
    from evit_edge.verification import coreml

    with pytest.raises(AttributeError, match=r"'evit_edge.verification.coreml' has no attribute 'nothing'"):
        coreml.nothing  # noqa: B018
