"""Constants that the C kernels and Python share; the integers are read from ``kernels/constants.h``."""

from __future__ import annotations

import re

from distill.runtime.variants import KERNELS

MASKED = "[UNK]"  # a word that no model may see (Tang et al. 2019); its capitals are the only ones (kernels/common.h)


def read_constants(header: str) -> dict[str, int]:
    """All ``#define NAME integer`` of a C header."""
    return {name: int(value, 0) for name, value in re.findall(r"^#define (\w+) (\w+)", header, re.MULTILINE)}


_DEFINED = read_constants((KERNELS / "constants.h").read_text(encoding="utf-8"))
STATE_ONE = _DEFINED["STATE_ONE"]
STATE_GROUP = _DEFINED["STATE_GROUP"]
ELEMENTWISE_CELLS = {name: _DEFINED[name.upper()] for name in ("mingru", "sru", "qrnn")}
HAN = range(_DEFINED["HAN_FIRST"], _DEFINED["HAN_LAST"] + 1)  # code points
SCORE_MASK = _DEFINED["SCORE_MASK"]
FORCE_SPLIT = _DEFINED["FORCE_SPLIT"]
UNKNOWN_ID = _DEFINED["UNKNOWN_ID"]
DELTA_BITS = _DEFINED["DELTA_BITS"]
CASED = _DEFINED["CASED"]
CASE_IGNORABLE = _DEFINED["CASE_IGNORABLE"]
ZERO_WIDTH = _DEFINED["ZERO_WIDTH"]
NGRAM_BITS = _DEFINED["NGRAM_BITS"]
NGRAM_BOUNDARY = _DEFINED["NGRAM_BOUNDARY"]
TABLE_ROWS = _DEFINED["TABLE_ROWS"]
JSON_ROWS = _DEFINED["JSON_ROWS"]
TEXT_ROWS = _DEFINED["TEXT_ROWS"]
TEXT_FIRST_ROWS = _DEFINED["TEXT_FIRST_ROWS"]
LABEL_FIRST_ROWS = _DEFINED["LABEL_FIRST_ROWS"]
ROWS_END = _DEFINED["ROWS_END"]
ROWS_DECLINED = _DEFINED["ROWS_DECLINED"]
