"""What every rival runs: the same network in the same OpenVINO, the same decoder and geometry.

    PNG -> imagecodecs -> INTER_AREA to the input size -> float32 -> OpenVINO f32 -> score, novelty

Written out here, because a rival's environment has nothing of ours in it: the bare calls, without
the checks of the header, the digest of the bytes and the limits that the product adds to them. A
test holds it to what the product computes. RIVAL is a JSON object in the environment: `model`,
`size_px`, `port`, and the rival's own settings.
"""

import json
import os

import cv2
import imagecodecs
import numpy as np
import openvino as ov

OUTPUTS = ("score", "evidence", "novelty")


def settings():
    """What the benchmark says to this server."""
    return json.loads(os.environ["RIVAL"])


def prepared(data, size_px):
    """(1, size, size) float32 in the image's own grey levels."""
    pixels = np.asarray(imagecodecs.png_decode(data)).astype(np.float32)
    resized = cv2.resize(pixels, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(resized[np.newaxis], dtype=np.float32)


class Judge:
    """The network, for one thread at a time."""

    def __init__(self, model, threads=None):
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        core = ov.Core()
        self.request = core.compile_model(core.read_model(model), "CPU", options)
        self.request = self.request.create_infer_request()

    def warm(self, size_px, batches):
        """Each batch size once, so that no caller pays for it."""
        for size in range(1, batches + 1):
            self.answers([np.zeros((1, size_px, size_px), dtype=np.float32)] * size)

    def answers(self, images):
        """One answer for each prepared image."""
        results = self.request.infer([np.stack(images)])
        scores, _, novelties = (results[name] for name in OUTPUTS)
        return [
            {"score": [float(each) for each in score], "novelty": float(novelty)}
            for score, novelty in zip(scores, novelties, strict=True)
        ]
