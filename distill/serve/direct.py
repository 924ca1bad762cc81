"""POST /predict without ASGI: a small request that has arrived as a whole is answered by callbacks, without a task.

uvicorn's and Starlette's share of a request took longer than the student. All checks, answers and counts are those of
the endpoint; only the way there differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from distill.serve.endpoints import Endpoints
from distill.serve.limits import UNCOUNTED_BYTES, RefusedError, refusal_of
from distill.serve.security import AccessRules

METHOD, PREDICT_PATH = "POST", "/predict"
Headers = Iterable[tuple[bytes, bytes]]
Respond = Callable[[int, list[tuple[bytes, bytes]], bytes], None]  # status, headers and body of the response
JSON_TYPE = (b"content-type", b"application/json")


class DirectPredict:
    """Answers the requests to one endpoint.

    Args:
        endpoints: of the service.
        rules: which requests are refused.

    Attributes:
        max_bytes: size of the largest body that may be answered so.
    """

    def __init__(self, endpoints: Endpoints, rules: AccessRules) -> None:
        self._endpoints, self._rules = endpoints, rules
        self.max_bytes = min(UNCOUNTED_BYTES, endpoints.limits.most_bytes)
        self.is_possible = not endpoints.unsure.cascade  # the teacher of a cascade is waited for in a task

    def answer(self, headers: Headers, body: bytes, respond: Respond) -> None:
        """Call ``respond`` now or later, exactly once."""
        started = time.perf_counter()

        def finish(outcome: bytes | BaseException, texts: int = 0) -> None:
            if isinstance(outcome, BaseException):
                refused = outcome if isinstance(outcome, RefusedError) else refusal_of(outcome)
                response = refused.response()
                status, response_headers, content = refused.status, response.raw_headers, bytes(response.body)
            else:
                status, content = 200, outcome
                response_headers = [(b"content-length", b"%d" % len(outcome)), JSON_TYPE]
            respond(status, response_headers, content)
            self._endpoints.metrics.count_request(METHOD, PREDICT_PATH, status, texts, time.perf_counter() - started)

        try:
            self._rules.check(METHOD, PREDICT_PATH, headers)
            self._endpoints.predict_soon(body, finish)
        except Exception as error:
            finish(error)
