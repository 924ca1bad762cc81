"""What is asked and answered, as JSON: shapes that are checked, and that /docs shows."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from distill.config import ServeSettings
from distill.serve.limits import RefusedError

Shape = TypeVar("Shape", bound=BaseModel)
EXAMPLE_TEXT = "国足今晚迎战对手"
MAX_NAME_LENGTH = 40  # characters of a field's name that a message repeats


class _RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PredictRequest(_RequestBody):
    """One text, or several."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["text"]}, {"required": ["texts"]}],
            "examples": [{"text": EXAMPLE_TEXT}, {"texts": [EXAMPLE_TEXT, "新款手机发布"], "probabilities": True}],
        }
    )
    text: str = Field("", description="one text")
    # All faults of half a million items would take seconds to list, while nobody else is answered; one is said anyway.
    texts: Annotated[list[str], FailFast()] = Field(default_factory=list, description="several texts, instead of one")
    probabilities: bool = Field(False, description="whether to answer the probability of every label")

    @property
    def one(self) -> bool:
        """Whether one text is asked about, not a list."""
        return "text" in self.model_fields_set

    def checked(self, limits: ServeSettings) -> list[str]:
        """The texts.

        Raises:
            RefusedError: there are none, or both kinds, or more or longer ones than allowed.
        """
        if self.one == ("texts" in self.model_fields_set):
            raise RefusedError(422, "either text or texts is needed", 'send {"text": "…"} or {"texts": ["…", "…"]}')
        if len(self.texts) > limits.most_texts:
            what = f"{len(self.texts):,} texts, {limits.most_texts:,} are allowed"
            raise RefusedError(422, what, "send them in several requests, or serve with --most_texts")
        return check_texts([self.text] if self.one else self.texts, limits)


class ExplainRequest(_RequestBody):
    """The text that is explained."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": EXAMPLE_TEXT}]})
    text: str


class Prediction(BaseModel):
    """The label of a text."""

    label: str
    probability: float = Field(description="of this label, calibrated")
    probabilities: dict[str, float] = Field({}, description="of every label, where asked for")


class Predictions(BaseModel):
    """The labels of several texts, in their order."""

    predictions: list[Prediction]


class ModelPrediction(BaseModel):
    """What a model says."""

    probabilities: dict[str, float]
    ms: float = Field(description="milliseconds that it took")


class WordWeight(BaseModel):
    """A word's part in the student's decision."""

    word: str
    weight: float = Field(description="fall of the label's probability when this word is left out")


class Explanation(BaseModel):
    """Student and teacher side by side, and the words that drove the student."""

    label: str
    labels: list[str]
    student: ModelPrediction
    teacher: ModelPrediction | None = Field(description="null where there is none, or none that answers in time")
    words: list[WordWeight]


class Readiness(BaseModel):
    """Whether requests are answered, and by what."""

    status: str = Field(description="ready, or (503) starting or stopping")
    model: str
    labels: list[str]
    teacher: bool
    version: str


class Health(BaseModel):
    """That the process lives."""

    status: str = "alive"


class Fault(BaseModel):
    """Why there is no answer, and what to do about it."""

    error: str
    hint: str


def parse_body(shape: type[Shape], body: bytes) -> Shape:
    """A body in its shape.

    Raises:
        RefusedError: it is no JSON, or of another shape. The message does not repeat what was sent.
    """
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise RefusedError(422, first_fault(first), f"send JSON such as {_example(shape)}; /docs has more") from None


def first_fault(error: Any) -> str:
    """The first line of one of pydantic's errors, with the place it was found in."""
    where = ".".join(str(part)[:MAX_NAME_LENGTH] for part in error["loc"])
    return f"{where}: {error['msg']}" if where else str(error["msg"])


def check_texts(texts: list[str], limits: ServeSettings) -> list[str]:
    """The same texts.

    Raises:
        RefusedError: there is none, or one is empty or too long.
    """
    if not texts:
        raise RefusedError(422, "there are no texts", "send at least one")
    for place, text in enumerate(texts):
        if len(text) > limits.most_characters:
            what = f"text {place} has {len(text):,} characters, {limits.most_characters:,} are allowed"
            raise RefusedError(422, what, "shorten it, or serve with --most_characters")
        if not text or text.isspace():
            raise RefusedError(422, f"text {place} is empty", "leave it out")
    return texts


def _example(shape: type[BaseModel]) -> str:
    return '{"text": "…"}' if shape is ExplainRequest else '{"text": "…"} or {"texts": ["…", "…"]}'
