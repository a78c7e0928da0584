"""MLServer: the inference protocol with base64 and adaptive batching, or a handler of one's own."""

import json

from _judge import Judge, prepared, settings
from mlserver import MLModel
from mlserver.codecs import Base64Codec, StringCodec
from mlserver.handlers import custom_handler
from mlserver.types import InferenceResponse
from starlette.requests import Request
from starlette.responses import Response

SETTINGS = settings()


class Judged(MLModel):
    """Loaded in every worker process, or in the server's own when there are none."""

    async def load(self):
        self.judge = Judge(SETTINGS["model"], SETTINGS.get("threads"))
        self.judge.warm(SETTINGS["size_px"], SETTINGS["batch"])
        return True

    async def predict(self, payload):
        images = Base64Codec.decode_input(payload.inputs[0])
        ready = [prepared(one, SETTINGS["size_px"]) for one in images]
        answers = [json.dumps(each) for each in self.judge.answers(ready)]
        return InferenceResponse(
            model_name=self.name, outputs=[StringCodec.encode_output("answer", answers)]
        )

    @custom_handler(rest_path="/judge")
    async def single(self, request: Request) -> Response:
        ready = prepared(await request.body(), SETTINGS["size_px"])
        (answer,) = self.judge.answers([ready])
        return Response(json.dumps(answer), media_type="application/json")
