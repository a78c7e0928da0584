"""BentoML: adaptive batching of a form's files, or each request by itself on worker threads."""

from pathlib import Path
from typing import Annotated

import bentoml
from _judge import Judge, prepared, settings
from bentoml.validators import ContentType

SETTINGS = settings()
Png = Annotated[Path, ContentType("image/png")]


@bentoml.service(
    workers=SETTINGS["workers"],
    threads=SETTINGS["worker_threads"],
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Judged:
    """Two ways in; the benchmark asks the one that its settings name."""

    def __init__(self):
        threads = SETTINGS.get("threads")
        self.judges = [Judge(SETTINGS["model"], threads) for _ in range(SETTINGS["worker_threads"])]
        for each in self.judges:
            each.warm(SETTINGS["size_px"], SETTINGS["batch"])

    def _answers(self, images):
        ready = [prepared(one.read_bytes(), SETTINGS["size_px"]) for one in images]
        judge = self.judges.pop()  # as many as there are threads, so there is always one
        try:
            return judge.answers(ready)
        finally:
            self.judges.append(judge)

    @bentoml.api(
        batchable=True,
        max_batch_size=SETTINGS["batch"],
        max_latency_ms=SETTINGS["latency_ms"],
    )
    def batched(self, images: list[Png]) -> list[dict]:
        return self._answers(images)

    @bentoml.api
    def single(self, image: Png, /) -> dict:
        return self._answers([image])[0]
