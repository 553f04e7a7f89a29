"""The operators from Python: load_library_test.py LIBSEGMAMBA_OPS.SO."""

import pathlib
import re
import sys
import unittest

import torch
import torch.nn.functional as F

LIBRARY = sys.argv.pop()
torch.ops.load_library(LIBRARY)


def sequential_scan(x, delta, A, B, C, D, z, delta_bias):
    delta = F.softplus(delta + delta_bias)
    h = torch.zeros(x.shape[0], x.shape[2], A.shape[1], dtype=x.dtype)
    ys = []
    for t in range(x.shape[1]):
        d = delta[:, t].unsqueeze(-1)
        h = torch.exp(d * A) * h + d * x[:, t].unsqueeze(-1) * B[:, t].unsqueeze(1)
        ys.append((h * C[:, t].unsqueeze(1)).sum(-1) + D * x[:, t])
    return torch.stack(ys, 1) * F.silu(z)


def arguments(dtype, length=75, channels=6, states=16):
    torch.manual_seed(0)
    rows, n = (2, length, channels), (2, length, states)
    tensors = [
        torch.randn(rows), torch.randn(rows), -torch.rand(channels, states) * 4,
        torch.randn(n), torch.randn(n), torch.randn(channels), torch.randn(rows),
        torch.randn(channels),
    ]
    return [t.to(dtype).requires_grad_(True) for t in tensors]


def inner_arguments(dtype, length, inner, states=3, rank=2):
    """xz and the parameters of segmamba::mamba_inner in two directions."""
    torch.manual_seed(3)
    state = torch.float64 if dtype == torch.float64 else torch.float32
    sizes = [((2, length, 2 * inner), dtype), ((2, inner, 4), state), ((2, inner), state),
             ((2, rank + 2 * states, inner), dtype), ((2, inner, rank), dtype),
             ((2, inner, states), state), ((2, inner), state), ((2, inner), state)]
    tensors = [torch.randn(size, dtype=torch.float64) * 0.3 for size, _ in sizes]
    tensors[0] = tensors[0][:1]
    tensors[5] = -tensors[5].abs()
    return [t.to(dtype).requires_grad_(True) for t, (_, dtype) in zip(tensors, sizes)]


class SelectiveScan(unittest.TestCase):
    def test_schema(self):
        self.assertEqual(
            str(torch.ops.segmamba.selective_scan.default._schema),
            "segmamba::selective_scan(Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, "
            "Tensor? D=None, Tensor? z=None, Tensor? delta_bias=None, "
            "bool delta_softplus=False) -> Tensor")

    def test_forward_and_gradients(self):
        for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 2e-5)):
            inputs = arguments(dtype)
            reference = [t.detach().double().requires_grad_(True) for t in inputs]
            out = torch.ops.segmamba.selective_scan(*inputs, delta_softplus=True)
            expected = sequential_scan(*reference)
            grad = torch.cos(torch.arange(out.numel(), dtype=torch.float64)).view_as(out)
            got = [out, *torch.autograd.grad(out, inputs, grad.to(dtype))]
            want = [expected, *torch.autograd.grad(expected, reference, grad)]
            for a, b in zip(got, want):
                self.assertLess(((a.double() - b).abs().max() / b.abs().max()).item(), tolerance)

    def test_gradcheck(self):
        inputs = arguments(torch.float64, length=9, channels=2, states=3)
        self.assertTrue(torch.autograd.gradcheck(
            lambda *a: torch.ops.segmamba.selective_scan(*a, delta_softplus=True), inputs))

    def test_optional_arguments_default_to_none(self):
        x, delta, A, B, C, _, _, _ = (t.detach() for t in arguments(torch.float64))
        zero = torch.zeros(x.shape[2], dtype=x.dtype)
        out = torch.ops.segmamba.selective_scan(x, F.softplus(delta), A, B, C)
        gate = torch.full_like(x, 1e3)  # silu(1e3) is 1e3
        expected = sequential_scan(x, delta, A, B, C, zero, gate, zero) / 1e3
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-11)

    def test_directions_equal_flipped_scans(self):
        x, delta, A, B, C, D, z, bias = (t.detach() for t in arguments(torch.float64))
        length = x.shape[1]
        orders = [1, 1, length, 0, 0, 1, 0, 1, 1, length, 0, 0, 1, 1]
        both = [torch.stack((t, t)) for t in (x, delta, A, B, C, D, bias)]
        out = torch.ops.segmamba.selective_scan_directions(
            *both[:6], z, both[6], True, orders)
        scan = torch.ops.segmamba.selective_scan
        flipped = scan(*(t.flip(1) for t in (x, delta)), A, *(t.flip(1) for t in (B, C)), D, None,
                       bias, True).flip(1)
        expected = (scan(x, delta, A, B, C, D, None, bias, True) + flipped) * F.silu(z)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)

    def test_registration(self):
        torch.library.opcheck(
            torch.ops.segmamba.selective_scan_directions,
            (*(t.detach().unsqueeze(0).requires_grad_(True) for t in arguments(torch.float64)[:5]),
             None, None, None, True, [1, 1, 75, 0, 0, 1, 0]),
            test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))

    def test_compiles_as_one_graph(self):
        inputs = arguments(torch.float32)

        def twice(*tensors):
            return 2 * torch.ops.segmamba.selective_scan(*tensors, delta_softplus=True)

        out = torch.compile(twice, backend="aot_eager", fullgraph=True)(*inputs)
        expected = twice(*inputs)
        self.assertTrue(torch.equal(out, expected))
        for a, b in zip(torch.autograd.grad(out.sum(), inputs),
                        torch.autograd.grad(expected.sum(), inputs)):
            self.assertTrue(torch.equal(a, b))

    def test_mamba_inner(self):
        inputs = inner_arguments(torch.float64, 12, 4)
        torch.library.opcheck(torch.ops.segmamba.mamba_inner,
                              (inputs[0], inputs[1:], [1, 1, 12, 0, 0, 1, 0] * 2),
                              test_utils=("test_schema", "test_autograd_registration",
                                          "test_faketensor"))

        def twice(*tensors):
            return 2 * torch.ops.segmamba.mamba_inner(tensors[0], tensors[1:],
                                                      [1, 1, 12, 0, 0, 1, 0] * 2)

        compiled = torch.compile(twice, backend="aot_eager", fullgraph=True)(*inputs)
        self.assertTrue(torch.equal(compiled, twice(*inputs)))

    def test_mamba_inner_keeps_no_activations_of_directions(self):
        length, inner, states = 640, 96, 16
        for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
            inputs = inner_arguments(dtype, length, inner, states)
            kept = {}

            def pack(tensor):
                storage = tensor.untyped_storage()
                kept[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                out = torch.ops.segmamba.mamba_inner(inputs[0], inputs[1:],
                                                     [1, 1, length, 0, 0, 1, 0] * 2)
            self.assertTrue(out.requires_grad)
            given = {t.untyped_storage().data_ptr() for t in inputs}
            # What the header states: the sum over directions, and the state every 64 steps.
            stated = length * inner * size + 2 * (length // 64) * states * inner * 4
            self.assertEqual(sum(n for at, n in kept.items() if at not in given), stated)

    def test_a_second_derivative_is_an_error(self):
        inputs = arguments(torch.float64, length=9, channels=2, states=3)
        out = torch.ops.segmamba.selective_scan(*inputs, delta_softplus=True)
        grad = torch.autograd.grad(out.square().sum(), inputs, create_graph=True)
        with self.assertRaisesRegex(RuntimeError, "_selective_scan_backward is not implemented"):
            torch.autograd.grad(sum(g.square().sum() for g in grad), inputs)

    def test_sixteen_bits(self):
        for dtype, tolerance in ((torch.bfloat16, 1e-2), (torch.float16, 2e-3)):
            x, delta, A, B, C, D, z, bias = (t.detach() for t in arguments(torch.float32))
            data = [t.to(dtype) for t in (x, delta, B, C, z)]
            out = torch.ops.segmamba.selective_scan(data[0], data[1], A, data[2], data[3], D,
                                                    data[4], bias, True)
            self.assertEqual(out.dtype, dtype)
            x, delta, B, C, z = (t.double() for t in data)
            expected = sequential_scan(x, delta, A.double(), B, C, D.double(), z, bias.double())
            error = (out.double() - expected).abs().max() / expected.abs().max()
            self.assertLess(error.item(), tolerance)

    def test_autocast_takes_data_in_its_type_and_parameters_in_float32(self):
        x, delta, A, B, C, D, z, bias = (t.detach() for t in arguments(torch.float32))
        narrow = [t.to(torch.bfloat16) for t in (x, delta, B, C, z)]
        expected = torch.ops.segmamba.selective_scan(
            narrow[0], narrow[1], A, narrow[2], narrow[3], D, narrow[4], bias, True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = torch.ops.segmamba.selective_scan(x, delta, A, B, C, D, z, bias, True)
        self.assertEqual(out.dtype, torch.bfloat16)
        self.assertTrue(torch.equal(out, expected))

    def test_error_names_the_argument(self):
        inputs = [t.detach() for t in arguments(torch.float32)]
        inputs[2] = inputs[2][:, 0]
        with self.assertRaisesRegex(
                RuntimeError, r"selective_scan: A must have shape \[D, N\] = \[6, N\], got \[6\]"):
            torch.ops.segmamba.selective_scan(*inputs)


def documented_drop_in():
    """selective_scan_fn as docs/operators.md prints it."""
    text = (pathlib.Path(__file__).parents[2] / "docs/operators.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.S)
               if "def selective_scan_fn" in block]
    namespace = {}
    exec(code, namespace)
    return namespace["selective_scan_fn"]


class DropIn(unittest.TestCase):
    def test_one_group(self):
        fn = documented_drop_in()
        inputs = arguments(torch.float64)
        x, delta, A, B, C, D, z, bias = inputs
        out = fn(*(t.transpose(1, 2) for t in (x, delta)), A, *(t.transpose(1, 2) for t in (B, C)),
                 D, z.transpose(1, 2), bias, True)
        expected = sequential_scan(*inputs).transpose(1, 2)
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
        grad = torch.cos(torch.arange(out.numel(), dtype=torch.float64)).view_as(out)
        for a, b in zip(torch.autograd.grad(out, inputs, grad),
                        torch.autograd.grad(expected, inputs, grad)):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)

    def test_groups(self):
        fn = documented_drop_in()
        x, delta, A, B, C, D, z, bias = (t.detach() for t in arguments(torch.float64))
        B2, C2 = (torch.stack((t, t.flip(1)), 1).transpose(2, 3) for t in (B, C))
        out = fn(*(t.transpose(1, 2) for t in (x, delta)), A, B2, C2, D, z.transpose(1, 2), bias,
                 True)
        halves = []
        for part, (b, c) in ((slice(0, 3), (B, C)), (slice(3, 6), (B.flip(1), C.flip(1)))):
            halves.append(sequential_scan(x[..., part], delta[..., part], A[part], b, c, D[part],
                                          z[..., part], bias[part]))
        torch.testing.assert_close(out, torch.cat(halves, -1).transpose(1, 2), rtol=1e-10,
                                   atol=1e-10)

    def test_optional_arguments(self):
        fn = documented_drop_in()
        x, delta, A, B, C, _, _, _ = (t.detach().transpose(1, 2) if t.dim() == 3 else t.detach()
                                      for t in arguments(torch.float64))
        self.assertEqual(fn(x, F.softplus(delta), A, B, C).shape, x.shape)
        with self.assertRaises(NotImplementedError):
            fn(x, delta, A, B, C, return_last_state=True)


class CausalConv1d(unittest.TestCase):
    def test_equals_conv1d(self):
        torch.manual_seed(0)
        x = torch.randn(2, 30, 5, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(1, 5, 4, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
        out = torch.ops.segmamba.causal_conv1d_silu(x, weight, bias, [1, 1, 30, 0, 0, 1, 0])
        padded = F.pad(x.transpose(1, 2), (3, 0))
        expected = F.silu(F.conv1d(padded, weight.transpose(0, 1), bias[0], groups=5))
        torch.testing.assert_close(out[0], expected.transpose(1, 2), rtol=1e-12, atol=1e-12)


if __name__ == "__main__":
    unittest.main()
