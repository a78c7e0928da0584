"""Judging one part: bytes in, verdict with evidence and a durable record out."""

import os
import sys

# OpenVINO and ONNX Runtime report their use to their makers over the network, and leave an identity
# in the home folder, as soon as they are imported. A station calls nobody: without this module the
# one does neither, with this variable the other. Both must be said before the first import.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
