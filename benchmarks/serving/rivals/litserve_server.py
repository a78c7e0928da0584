"""LitServe: its own batching, several workers, the queue that its documentation calls fast."""

import os
from typing import Annotated

import litserve
from _judge import Judge, prepared, settings
from fastapi import Body

SETTINGS = settings()


class Judged(litserve.LitAPI):
    """Decoded one by one, inferred in batches: decode_request -> batch -> predict -> unbatch."""

    def setup(self, device):
        self.judge = Judge(SETTINGS["model"], SETTINGS.get("threads"))
        self.judge.warm(SETTINGS["size_px"], SETTINGS["batch"])

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/png")]):
        return prepared(request, SETTINGS["size_px"])

    def batch(self, inputs):
        return inputs

    def predict(self, inputs):
        if SETTINGS["batch"] == 1:
            return self.judge.answers([inputs])[0]
        return self.judge.answers(inputs)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    os.environ["LITSERVE_TELEMETRY"] = "0"
    api = Judged(max_batch_size=SETTINGS["batch"], batch_timeout=SETTINGS["wait_s"])
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=SETTINGS["workers"],
        fast_queue=SETTINGS["fast_queue"],
    )
    server.run(
        host="127.0.0.1",
        port=SETTINGS["port"],
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
