"""Reads by TensorBoard the run that write_tensorboard (argv[1]) made up."""
import io
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import api_pb2, metadata


def expect(got, wanted, what):
    assert got == wanted, f"{what}: {got}, not {wanted}"


with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.argv[1], folder], check=True)
    run = event_accumulator.EventAccumulator(folder, size_guidance={"images": 0, "scalars": 0})
    run.Reload()

# Steps that were done again stand once, and step 6 of the resumed run was skipped.
steps = list(range(1, 11))
f = lambda value: float(np.float32(value))
scalars = {
    "train/loss": [(i, f(1 / i)) for i in steps if i != 6],
    "train/learning_rate": [(i, 0.25) for i in steps],
    "train/gradient_norm": [(i, 2) for i in steps if i != 6],
    "train/iterations_per_second": [(i, 2) for i in steps],
    "train/device_gib": [(i, 1.5) for i in steps],
    "patch_dice/wt": [(8, 0.5)],
    "patch_dice/et": [(8, 0.25)],
    "patch_dice/mean": [(8, 0.375)],
    "dice/wt": [(4, 0.75), (8, 1), (10, 0.5)],
    "dice/et": [(4, 0.25), (8, 0.25), (10, 0.25)],
    "dice/mean": [(4, 0.5), (8, 0.625), (10, 0.375)],
    "hd95/wt": [(4, 6), (8, 6), (10, 6)],  # that of ET is not defined
    "hd95/mean": [(4, 6), (8, 6), (10, 6)],
    "best/dice_mean": [(4, 0.5), (8, 0.625)],
}
expect(sorted(run.Tags()["scalars"]), sorted(scalars), "tags")
for tag, values in scalars.items():
    expect([(event.step, event.value) for event in run.Scalars(tag)], values, tag)

expect(sorted(run.Tags()["images"]), ["validation/best", "validation/worst"], "images")
for tag in run.Tags()["images"]:
    expect([event.step for event in run.Images(tag)], [4, 8, 10], tag)
    for event in run.Images(tag):
        expect((event.width, event.height), (12, 7), tag)
        pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))
        assert pixels.shape == (7, 12, 3) and (pixels == [200, 100, 50]).all(), tag

config = run.Tensors("config")[0].tensor_proto.string_val[0].decode()
assert config.splitlines()[1] == "    optimizer.learning_rate: 0.01", config
expect(run.SummaryMetadata("config").plugin_data.plugin_name, "text", "plugin")


def content(tag):
    return run.SummaryMetadata(tag).plugin_data.content


experiment = metadata.parse_experiment_plugin_data(content(metadata.EXPERIMENT_TAG))
expect([(info.name, info.type) for info in experiment.hparam_infos],
       [("optimizer.name", api_pb2.DATA_TYPE_STRING),
        ("optimizer.learning_rate", api_pb2.DATA_TYPE_FLOAT64),
        ("optimizer.nesterov", api_pb2.DATA_TYPE_BOOL),
        ("validation.every", api_pb2.DATA_TYPE_FLOAT64),
        ("validation.patches_every", api_pb2.DATA_TYPE_FLOAT64)], "hyper-parameters")
expect([info.name.tag for info in experiment.metric_infos], ["best/dice_mean"], "metric")
start = metadata.parse_session_start_info_plugin_data(content(metadata.SESSION_START_INFO_TAG))
values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
expect(values, {"optimizer.name": "sgd", "optimizer.learning_rate": 0.01,
                "optimizer.nesterov": True, "validation.every": 4,
                "validation.patches_every": 2}, "values")
end = metadata.parse_session_end_info_plugin_data(content(metadata.SESSION_END_INFO_TAG))
expect(end.status, api_pb2.STATUS_SUCCESS, "status")
assert 0 <= end.end_time_secs - start.start_time_secs < 60, (start, end)
print(len(scalars), "curves,", len(run.Tags()["images"]), "series of images and the",
      "hyper-parameters as written")
