"""What Python sees of a run's checkpoints: torch.load with weights_only=True, and safetensors."""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import torch

programs = pathlib.Path(sys.argv[1])

CONFIG = """
model: {dims: [4, 8], depths: [1, 1], hidden_size: 8}
data: {root: cases, patch_size: [16, 16, 16]}
training: {iterations: 3, ema_decay: 0.9, threads: 1, workers: 0}
validation: {every: 2, hd95: false}
"""


def run(folder, *words):
    subprocess.run([programs / words[0], *words[1:]], cwd=folder, check=True)


def read_safetensors(path):
    """The format in ten lines, so that no package is needed."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    tensors = {}
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32", entry
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            values = torch.frombuffer(bytearray(content[begin:end]), dtype=torch.float32)
            tensors[name] = values.reshape(entry["shape"])
    return tensors


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    (folder / "tiny.yaml").write_text(CONFIG)
    run(folder, "segmamba-data", "phantom", "--output", "cases", "--cases", "4", "--size", "32")
    run(folder, "segmamba-train", "--config", "tiny.yaml", "--output", "run", "--device", "cpu")

    for file in ("last.pt", "best.pt"):
        checkpoint = torch.load(folder / "run/checkpoints" / file, weights_only=True)
        assert list(checkpoint) == [
            "model", "average", "config", "optimizer", "iteration", "validated_iteration",
            "patch_validated_iteration", "best", "skipped", "scaler", "rng", "version", "hash",
        ], list(checkpoint)
        assert "dims: [4, 8]" in checkpoint["config"]
        assert checkpoint["average"]["updates"] == checkpoint["iteration"]
        assert set(checkpoint["average"]["weights"]) == set(checkpoint["model"])
        assert checkpoint["best"]["metric"] == "dice_mean"
    assert torch.load(folder / "run/checkpoints/last.pt", weights_only=True)["iteration"] == 3

    best = torch.load(folder / "run/checkpoints/best.pt", weights_only=True)
    weights = read_safetensors(folder / "run/checkpoints/best.safetensors")
    assert set(weights) == set(best["model"])
    for key, tensor in weights.items():
        assert torch.equal(tensor, best["average"]["weights"][key]), key
    assert not torch.equal(weights["out.conv.conv.weight"], best["model"]["out.conv.conv.weight"])
