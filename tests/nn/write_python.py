"""Writes python*.pt of tests/data/nn, for archive_test.cpp."""

import argparse
import collections
import fractions
import os
import pathlib
import sys

import numpy
import torch

folder = pathlib.Path(sys.argv[1])
base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
model = collections.OrderedDict()
model["layer.weight"] = base
model["layer.transposed"] = base.t()
model["layer.part"] = base[:, 2:5]
model["parameter"] = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
model["half"] = torch.tensor([0.5, -2.0], dtype=torch.float16)
model["bfloat16"] = torch.tensor([1.5, -3.0], dtype=torch.bfloat16)
model["count"] = torch.tensor(1 << 40)
model["bool"] = torch.tensor([True, False])
model["expanded"] = torch.tensor([7.0]).expand(3, 4)
model._metadata = collections.OrderedDict({"": {"version": 1}})
content = {"model": model, "config": "model:\n  name: segmamba\n", "epoch": 12, "large": -(1 << 40),
            "loss": 0.25, "best": True, "nothing": None, "betas": (0.9, 0.999),
            "nested": {0: {"step": 3}}}
torch.save(content, folder / "python.pt")
# As before PyTorch 1.6.
torch.save(content, folder / "python_legacy.pt", _use_new_zipfile_serialization=False)

# What training programs keep beside the weights.
counts = collections.defaultdict(list)
counts["epochs"].append(3)
torch.save({"state_dict": {"weight": torch.tensor([1.0, 2.0]), "wide": torch.tensor([1, 65535],
                                                                    dtype=torch.uint16)},
            "best_acc": numpy.float64(0.75), "epoch": numpy.int64(7), "flag": numpy.bool_(True),
            "half": numpy.float32(0.5), "curve": numpy.arange(6, dtype=numpy.float32).reshape(2, 3),
            "columns": numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
            "args": argparse.Namespace(lr=1e-4, names=["a", "b"]), "counts": counts,
            "set": {4}, "size": torch.Size([2, 3]), "device": torch.device("cuda", 1),
            "type": torch.float16, "big": 1 << 70,
            "counter": collections.Counter("aab"), "bytes": b"\xff\x00a",
            "path": pathlib.PosixPath("/a/b")}, folder / "python_training.pt")


class Code:
    def __reduce__(self):
        return os.system, ("exit 1",)


torch.save({"model": Code()}, folder / "python_code.pt")
torch.save({"model": fractions.Fraction(1, 2)}, folder / "python_object.pt")
