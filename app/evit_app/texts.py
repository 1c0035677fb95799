"""Every sentence that the app shows, in one place, so that it can be translated."""

from __future__ import annotations

from dataclasses import dataclass

from evit_app.session import ReplayStatus


@dataclass(frozen=True)
class Texts:
    """One language. Fields with braces are filled by the method of the like name."""

    title: str
    choose: str
    loading: str
    classifying: str
    nothing_chosen: str
    picture_of: str
    model_line: str
    times_line: str
    score: str
    same: str
    different: str
    unchecked: str

    def picture(self, name: str) -> str:
        """What a screen reader says of the picture."""
        return self.picture_of.format(name=name)

    def model(self, name: str, runtime: str, threads: int, side: int) -> str:
        """The model and what runs it."""
        return self.model_line.format(name=name, runtime=runtime, threads=threads, side=side)

    def times(self, decode_s: float, preprocess_s: float, inference_s: float) -> str:
        """The three stages; seconds in, milliseconds out."""
        return self.times_line.format(
            decode=1000 * decode_s, preprocess=1000 * preprocess_s, inference=1000 * inference_s
        )

    def percent(self, probability: float) -> str:
        """A probability as a score."""
        return self.score.format(percent=100 * probability)

    def replay(self, status: ReplayStatus, detail: str) -> str:
        """What came of the golden vectors."""
        return str(getattr(self, status.value)).format(detail=detail)


ENGLISH = Texts(
    title="evit-edge",
    choose="Choose a picture",
    loading="Loading the model...",
    classifying="Looking at the picture...",
    nothing_chosen="Choose a picture to see what the model makes of it.",
    picture_of="Picture: {name}",
    model_line="{name}, {side} px · {runtime}, {threads} thread(s)",
    times_line="decode {decode:.2f} ms · preprocess {preprocess:.2f} ms · inference {inference:.2f} ms",
    score="{percent:.1f} %",
    same="This device gives the reference's answer: {detail}",
    different="This device does NOT give the reference's answer, do not trust the labels: {detail}",
    unchecked="Not compared with the reference: {detail}",
)
