"""Python -> segmamba-model import -> export -> Python gives equal bits, for every form of file."""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import torch

programs, data = map(pathlib.Path, sys.argv[1:3])


def run(*words, exit_code=0):
    result = subprocess.run([programs / "segmamba-model", *words], capture_output=True, text=True)
    assert result.returncode == exit_code, (words, result.returncode, result.stdout, result.stderr)
    return result


def metadata(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])["__metadata__"]


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def expect_same(actual, expected, where):
    assert set(actual) == set(expected), (where, set(actual) ^ set(expected))
    for name, tensor in expected.items():
        other = actual[name]
        assert other.dtype == tensor.dtype and other.shape == tensor.shape, (where, name)
        assert torch.equal(bits(other), bits(tensor)), (where, name)


def load(path, place=""):
    content = torch.load(path, weights_only=True)
    return content[place] if place else content


NESTED = {"nnunet": "network_weights", "umamba": "network_weights"}


def place_of(name):
    return next((place for start, place in NESTED.items() if name.startswith(start)), "")


def read_golden(path):
    """Tensors, all of them float32, and metadata of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    told = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        values = torch.frombuffer(bytearray(content[first:last]), dtype=torch.float32)
        tensors[name] = values.reshape(entry["shape"])
    return tensors, told


def of_zoo(golden):
    """All names that the original has for its weights, and the section `model` of a config."""
    imported, exported = folder / "imported.safetensors", folder / "original.pt"
    run("import", "--from", golden, "--output", imported, "--strict")
    run("export", "--from", imported, "--output", exported)
    state = load(exported, place_of(golden.stem))
    weights = {name: tensor for name, tensor in read_golden(golden)[0].items()
               if not name.startswith("golden/")}
    expect_same({name: state[name] for name in weights}, weights, golden.stem)
    return state, metadata(imported)["model"]


def of_segmamba(golden):
    """The same of a file that has the original's weights as param.NAME."""
    tensors, told = read_golden(golden)
    info = json.loads(told["info"])
    state = {name.removeprefix("param."): tensor for name, tensor in tensors.items()
             if name.startswith("param.")}
    keys = ("encoder", "in_channels", "out_channels", "dims", "depths", "hidden_size")
    return state, "name: segmamba\n" + "".join(f"{key}: {info[key]}\n" for key in keys)


def write_config(model):
    (folder / "config.yaml").write_text(
        "model:\n" + "".join(f"  {line}\n" for line in model.splitlines()))


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    config = folder / "config.yaml"
    zoo = sorted((data / "zoo").glob("*.safetensors"))
    networks = {golden.stem: of_zoo(golden) for golden in zoo if "block" not in golden.stem}
    networks["segmamba_tom"] = of_segmamba(data / "model_tom.safetensors")
    networks["segmamba_bidirectional"] = of_segmamba(data / "model_bidirectional.safetensors")
    assert len(networks) == 17, sorted(networks)
    for network, (original, model) in networks.items():
        place = place_of(network)
        write_config(model)

        # Other precisions and forms of the same weights, as training programs keep them.
        def cast(state, dtype):
            return {key: value.to(dtype) if value.is_floating_point() else value
                    for key, value in state.items()}

        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            state = cast(original, dtype)
            # Not contiguous, and all in one storage.
            flat = torch.cat([value.reshape(-1) for value in state.values()
                              if value.is_floating_point()])
            at = 0
            views = {}
            for key, value in state.items():
                if not value.is_floating_point():
                    views[key] = value
                    continue
                views[key] = flat[at : at + value.numel()].reshape(value.shape)
                at += value.numel()
            turned = {key: value.transpose(0, -1).contiguous().transpose(0, -1)
                      if value.dim() > 1 else value for key, value in state.items()}
            forms = {
                "plain": state,
                "views": views,
                "turned": turned,
                "nested": {"epoch": 3, "state_dict": {"module." + k: v for k, v in state.items()},
                           "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
                "compiled": {"network_weights": {"_orig_mod." + k: v for k, v in state.items()}},
            }
            for form, content in forms.items():
                for new in (True, False):
                    # Of one network every form is enough, and of one form every precision.
                    if network != "segresnet":
                        wanted = dtype == torch.float32 and (form, new) == ("nested", False)
                    else:
                        wanted = dtype == torch.float32 or (form, new) == ("plain", True)
                    if not wanted:
                        continue
                    where = (network, dtype, form, new)
                    upstream = folder / "upstream.pth"
                    torch.save(content, upstream, _use_new_zipfile_serialization=new)
                    ours = folder / ("ours.pt" if form == "nested" else "ours.safetensors")
                    run("import", "--from", upstream, "--config", config, "--output", ours,
                        "--strict")
                    run("export", "--from", ours, "--output", folder / "back.pt")
                    expect_same(load(folder / "back.pt", place), state, where)

    # What does not fit keeps its initial values, the same ones for the same seed, or is an error.
    golden = data / "zoo/segresnet.safetensors"
    state, model = networks["segresnet"]
    write_config(model)
    first = next(key for key, value in state.items() if value.is_floating_point())
    less = {key: value for key, value in state.items() if key != first}
    torch.save(less, folder / "less.pt")
    words = ("import", "--from", folder / "less.pt", "--config", config, "--output")
    strict = run(*words, folder / "strict.pt", "--strict", exit_code=1)
    assert strict.stderr.count("\n") == 1 and "--strict" in strict.stderr, strict.stderr
    assert not (folder / "strict.pt").exists()
    values = []
    for seed in ("1", "1", "2"):
        told = run(*words, folder / "ours.pt", "--seed", seed)
        assert "1 missing" in told.stdout, told.stdout
        values.append(load(folder / "ours.pt", "model"))
    expect_same(values[0], values[1], "seed")
    nothing = {"another.weight": torch.ones(2)}
    torch.save(nothing, folder / "nothing.pt")
    told = run("import", "--from", folder / "nothing.pt", "--config", config, "--output",
               folder / "ours2.pt", exit_code=1)
    assert "nothing fits" in told.stderr and not (folder / "ours2.pt").exists()

    # What names the place in a .pt file says nothing of a file without places.
    for layout in ("nnunet", "checkpoint"):
        told = run("export", "--from", golden, "--layout", layout, "--output",
                   folder / "never.safetensors", exit_code=2)
        assert "--layout" in told.stderr, told.stderr
        assert not (folder / "never.safetensors").exists()

    # Code in a file does not run.
    mark = folder / "mark"

    class Code:
        def __reduce__(self):
            import os
            return os.system, (f"touch '{mark}'",)

    torch.save({"state_dict": state, "args": Code()}, folder / "code.pt")
    for words in (("import", "--from", folder / "code.pt", "--config", config),
                  ("export", "--from", folder / "code.pt", "--config", config)):
        told = run(*words, "--output", folder / "never.pt", exit_code=1)
        assert told.stderr.count("\n") == 1 and "system" in told.stderr, told.stderr
    assert not mark.exists() and not (folder / "never.pt").exists()
