"""The JSON of requests and responses: schemas that check requests and document the API at /docs."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from distill.config import ServeSettings
from distill.serve.limits import RefusedError

Schema = TypeVar("Schema", bound=BaseModel)
EXAMPLE_TEXT = "国足今晚迎战对手"
NAME = re.compile(r"[A-Za-z0-9_]{1,40}")  # fields that an error message names; a strange one could be a text
SMALL_BODY = 4096  # bytes: parsing them takes less than 2 ms, whatever they are
MAX_STRUCTURE = 64  # keys, lists and objects of a body; valid ones have 6
# What is neither of them; a string may lack its end, or the search would take quadratic time.
UNSTRUCTURED = re.compile(rb'(?:[^":\[{]++|"(?:[^"\\]++|\\.)*+"?)*+', re.DOTALL)


TOP_K_MEANING = "list this many of the most probable labels with their probabilities"
REJECT_BELOW_MEANING = "texts whose probability is below this get an empty label, or that of --reject_label"


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
    # FailFast: listing the errors of half a million items would block all other requests for seconds, and only the
    # first error is reported anyway.
    texts: Annotated[list[str], FailFast()] = Field(default_factory=list, description="several texts, instead of one")
    probabilities: bool = Field(False, description="whether to return the probability of every label")
    top_k: int | None = Field(None, ge=1, description=f"{TOP_K_MEANING}; null: as the service was started (--top_k)")
    reject_below: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description=f"{REJECT_BELOW_MEANING}; null: as the service was started (--reject_below)",
    )

    @property
    def is_single(self) -> bool:
        """Whether the request has ``text``, not ``texts``."""
        return "text" in self.model_fields_set

    def checked_texts(self, limits: ServeSettings) -> list[str]:
        """The texts.

        Raises:
            RefusedError: 422, neither or both of ``text`` and ``texts`` are there, or the texts exceed the limits.
        """
        if self.is_single == ("texts" in self.model_fields_set):
            raise RefusedError(422, "either text or texts is needed", 'send {"text": "…"} or {"texts": ["…", "…"]}')
        if len(self.texts) > limits.most_texts:
            what = f"{len(self.texts):,} texts, {limits.most_texts:,} are allowed"
            raise RefusedError(422, what, "send several requests, or start the service with a larger --most_texts")
        return check_texts([self.text] if self.is_single else self.texts, limits)


class ExplainRequest(_RequestBody):
    """The text whose prediction is explained."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": EXAMPLE_TEXT}]})
    text: str


class LabelProbability(BaseModel):
    """A label and its probability."""

    label: str
    probability: float


class Prediction(BaseModel):
    """The label of a text."""

    label: str = Field(description="empty, or the label of --reject_label, if the text is rejected (reject_below)")
    probability: float = Field(description="of the most probable label, calibrated")
    probabilities: dict[str, float] = Field({}, description="of every label, if the request asks for them")
    top_k: list[LabelProbability] = Field([], description="the most probable labels, the first one first, with top_k")
    answered_by: str = Field("", description="student or teacher, if the service was started with --cascade")


class MultiLabelPrediction(BaseModel):
    """The labels of a text, if the model gives a text any number of them."""

    labels: list[str] = Field(
        description="in the order of /ready; none if no probability exceeds its threshold; none, or the label of "
        "--reject_label, if the text is rejected (reject_below)"
    )
    probability: float = Field(
        description="of the least certain decision: the smallest probability of a label that is given, or of the "
        "absence of one that is not"
    )
    set_probability: float | None = Field(
        None, description="that all labels are right, which reject_below and --cascade compare; with one of them"
    )
    probabilities: dict[str, float] = Field({}, description="of every label, if the request asks for them")
    top_k: list[LabelProbability] = Field([], description="the most probable labels, the first one first, with top_k")
    answered_by: str = Field("", description="student or teacher, if the service was started with --cascade")


class TasksPrediction(BaseModel):
    """The answers to a text's tasks, if the model has several."""

    tasks: dict[str, Prediction | MultiLabelPrediction] = Field(description="by the task's name, as /ready lists them")


class PredictionList(BaseModel):
    """The labels of several texts, in order."""

    predictions: list[Prediction] | list[MultiLabelPrediction] | list[TasksPrediction]


class ModelPrediction(BaseModel):
    """The prediction of one model."""

    probabilities: dict[str, float]
    ms: float = Field(description="milliseconds that it took")
    labels: list[str] = Field(
        [], description="those that it gives the text, if the model gives a text any number of labels"
    )


class WordWeight(BaseModel):
    """A word's influence on the student's prediction."""

    word: str
    weight: float = Field(description="by how much the label's probability falls when this word is left out")


class Explanation(BaseModel):
    """The predictions of student and teacher, and the influence of each word on the student's."""

    label: str = Field(description="the most probable one, whose probability the words influence")
    labels: list[str] = Field(description="all labels of the model")
    student: ModelPrediction
    teacher: ModelPrediction | None = Field(description="null if there is no teacher, or it did not respond in time")
    words: list[WordWeight]


class TasksExplanation(BaseModel):
    """The explanations of the answers to a text's tasks, if the model has several."""

    tasks: dict[str, Explanation] = Field(description="by the task's name")


class TaskDescription(BaseModel):
    """A task of a model of several."""

    name: str
    labels: list[str]
    thresholds: list[float] = Field(
        [], description="the probability above which a text gets each label, if it may have any number of labels"
    )


class Readiness(BaseModel):
    """Whether the service answers requests, and with which model."""

    status: str = Field(description="ready, or (503) starting or stopping")
    model: str
    labels: list[str]
    teacher: bool
    version: str
    thresholds: list[float] = Field(
        [], description="the probability above which a text gets each label, if it may have any number of labels"
    )
    tasks: list[TaskDescription] = Field(
        [], description="of a model of several tasks, whose labels above are those of each task after its name"
    )


class Examples(BaseModel):
    """Texts to try the model with, which --mode export --examples stored in the bundle."""

    examples: list[str]


class Health(BaseModel):
    """The process is alive."""

    status: str = "alive"


class Fault(BaseModel):
    """Why a request was refused, and what to do about it."""

    error: str
    hint: str


def parse_body(schema: type[Schema], body: bytes) -> Schema:
    """Parse a request's body.

    Raises:
        RefusedError: 422, it is not JSON or does not match the schema. The message does not repeat the user's texts.
    """
    if len(body) > SMALL_BODY and _is_too_structured(body):
        what = f"more than {MAX_STRUCTURE} keys, lists and objects"  # parsing them would block all other requests
        raise RefusedError(422, what, f"send JSON such as {_example(schema)}; see /docs")
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise RefusedError(422, describe_error(first), f"send JSON such as {_example(schema)}; see /docs") from None


def _is_too_structured(body: bytes) -> bool:
    """Whether a body has more than ``MAX_STRUCTURE`` keys, lists and objects."""
    position = 0
    for _ in range(MAX_STRUCTURE + 1):
        position = UNSTRUCTURED.match(body, position).end() + 1  # type: ignore[union-attr]  # it matches nothing as well
        if position > len(body):
            return False
    return True


def describe_error(error: Any) -> str:
    """One of pydantic's errors as "field: message"."""
    field = ".".join(str(part) if NAME.fullmatch(str(part)) else "…" for part in error["loc"])
    return f"{field}: {error['msg']}" if field else str(error["msg"])


def check_texts(texts: list[str], limits: ServeSettings) -> list[str]:
    """Return ``texts``, checked; messages count them from 0.

    Raises:
        RefusedError: 422, there are none, or one is empty or too long.
    """
    if not texts:
        raise RefusedError(422, "there are no texts", "send at least one")
    for index, text in enumerate(texts):
        if len(text) > limits.most_characters:
            what = f"text {index} has {len(text):,} characters, {limits.most_characters:,} are allowed"
            raise RefusedError(422, what, "shorten it, or start the service with a larger --most_characters")
        if not text or text.isspace():
            raise RefusedError(422, f"text {index} is empty", "leave it out")
    return texts


def _example(schema: type[BaseModel]) -> str:
    return '{"text": "…"}' if schema is ExplainRequest else '{"text": "…"} or {"texts": ["…", "…"]}'
