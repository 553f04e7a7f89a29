"""Writes python.pt, python_code.pt and python_object.pt of tests/data/nn, for archive_test.cpp."""

import collections
import fractions
import os
import pathlib
import sys

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
torch.save({"model": model, "config": "model:\n  name: segmamba\n", "epoch": 12, "large": -(1 << 40),
            "loss": 0.25, "best": True, "nothing": None, "betas": (0.9, 0.999),
            "nested": {0: {"step": 3}}}, folder / "python.pt")


class Code:
    def __reduce__(self):
        return os.system, ("exit 1",)


torch.save({"model": Code()}, folder / "python_code.pt")
torch.save({"model": fractions.Fraction(1, 2)}, folder / "python_object.pt")
