"""The description inside a package."""

from __future__ import annotations

import json
from typing import Any

from evit_converters.coreml.interface import INPUT_NAME, LABEL_NAME, LABELS_KEY, PREVIEW_KEY, Interface, OutputKind

CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"


def describe(model: Any, interface: Interface) -> None:
    """Write an interface's words into a model, in place of what coremltools wrote.

    The labels are there in any case, as JSON: an array of logits has no other place for them. The date of the
    conversion is removed, so that equal models are equal files.
    """
    model.author, model.license, model.version = interface.author, interface.license, interface.version
    model.short_description = ": ".join(part for part in (interface.name, interface.description) if part)
    side = interface.image_size
    model.input_description[INPUT_NAME] = f"One RGB image of {side} by {side} pixels."
    if interface.score_name == "classLabel_probs":
        model.output_description[LABEL_NAME] = "Name of the most probable class."
        model.output_description[interface.score_name] = "Probability of each class by its name."
    else:
        what = "Logit" if interface.output_kind is OutputKind.LOGITS else "Probability"
        model.output_description[interface.score_name] = f"{what} of each class, in the order of the labels."
    model.user_defined_metadata.pop(CONVERSION_DATE, None)
    model.user_defined_metadata[PREVIEW_KEY] = "imageClassifier"
    if interface.labels:
        model.user_defined_metadata[LABELS_KEY] = json.dumps(list(interface.labels), ensure_ascii=False)
    for key, value in sorted(interface.user_defined.items()):
        model.user_defined_metadata[key] = value
