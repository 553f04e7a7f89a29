"""Exits with 0 where torch.load finds in the file what archive_test.cpp's example() holds."""

import sys

import torch

loaded = torch.load(sys.argv[1], weights_only=True)
base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
inner = {"rate": 0.1, "steps": 70_000_000_000, "negative": -3, "on": True, "off": False,
         "nothing": None, "empty": {}}
expected = {
    "float32": base,
    "transposed": base.t(),
    "part": base[:, 2:5],
    "float64": torch.tensor([1e300, -0.5], dtype=torch.float64),
    "float16": torch.tensor([1.5, -2.25], dtype=torch.float16),
    "bfloat16": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "int64": torch.tensor([1 << 40, -1]),
    "uint8": torch.tensor([0, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(3.0, dtype=torch.float64),
    "no elements": torch.empty(0, 3),
    "config": "model:\n  name: segmamba\n",
    "list": [1, 2.5, "three", [], inner],
    "state": inner,
}
assert type(loaded) is dict, type(loaded)
assert list(loaded) == list(expected), list(loaded)
for key, value in expected.items():
    if isinstance(value, torch.Tensor):
        assert loaded[key].dtype == value.dtype and torch.equal(loaded[key], value), key
    else:
        assert loaded[key] == value and type(loaded[key]) is type(value), key
for key, value in inner.items():
    assert type(loaded["state"][key]) is type(value), key
