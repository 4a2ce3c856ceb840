"""The U-Nets: exact equivariance with a control that fails, MONAI's own network, one state dict."""

from itertools import pairwise

import pytest
import torch
from monai.networks.blocks import UpSample
from monai.networks.layers.factories import Conv, Pool
from monai.networks.nets.basic_unet import TwoConv
from torch import Tensor, nn

from recon.errors import InputError
from recon.layers import MaxNorm, circular_shift, use_kernels
from recon.networks import UNet, record_margins
from tests.properties import shift_error

SMALL = {"widths": (4, 6, 8), "norm": "instance", "activation": "leakyrelu"}


def images(size, dtype=torch.float64, batch=2):
    return torch.randn(batch, 1, *size, dtype=dtype, generator=torch.Generator().manual_seed(0))


def network(dtype=torch.float64, **settings) -> UNet:
    torch.manual_seed(0)
    return UNet(**(SMALL | settings)).to(dtype).eval()


CASES = {
    "2-D": ({}, (16, 16)),
    "height != width": ({}, (16, 40)),
    "1-D": ({"spatial_dims": 1}, (48,)),
    "3-D": ({"spatial_dims": 3}, (8, 16, 12)),
    "stride 3": ({"stride": 3}, (18, 27)),
    "stride 4": ({"stride": 4}, (32, 48)),
    "stride 3 in 3-D": ({"spatial_dims": 3, "stride": 3, "widths": (4, 6)}, (6, 12, 9)),
    "batch norm": ({"norm": "batch", "activation": "relu"}, (16, 24)),
    "residual": ({"residual": True}, (16, 24)),
    "four levels": ({"widths": (4, 4, 6, 6, 8)}, (32, 48)),
    "one pixel left": ({"widths": (4, 4, 6, 6, 8), "blur": 7, "score_on": "input"}, (16, 32)),
    "blur 2": ({"blur": 2}, (16, 24)),
    "blur 5": ({"blur": 5}, (16, 24)),
    "l1": ({"criterion": "l1"}, (16, 24)),
    "l2_min": ({"criterion": "l2_min"}, (16, 24)),
    "linf of the input": ({"criterion": "linf", "score_on": "input"}, (16, 24)),
    "scored on the input": ({"score_on": "input", "blur": 3}, (16, 24)),
    "learned": ({"sampling": "lps", "norm": "batch"}, (16, 24)),
    "learned, blurred": ({"sampling": "lps", "blur": 3}, (16, 24)),
    "learned, of the input": ({"sampling": "lps", "score_on": "input", "temperature": 0.5}, (16, 24)),
    "learned, 3-D": ({"sampling": "lps", "spatial_dims": 3}, (8, 16, 12)),
    "learned, stride 3": ({"sampling": "lps", "stride": 3}, (18, 27)),
}


@pytest.mark.parametrize(("settings", "size"), CASES.values(), ids=CASES)
def test_aps_commutes_with_every_shift_and_stride_does_not(settings, size):
    x = images(size)
    assert shift_error(network(**settings), x, n=12) < 1e-10
    of_aps = ("sampling", "blur", "criterion", "score_on", "temperature")
    control = {k: v for k, v in settings.items() if k not in of_aps}
    assert shift_error(network(sampling="stride", **control), x, n=12) > 1e-3
    assert shift_error(network(torch.float32, **settings), x.float(), n=12) < 1e-5


def test_lpf_is_better_than_stride_but_not_exact_and_zeros_are_not_exact():
    x = images((32, 32))
    plain, blurred = (shift_error(network(sampling=s, widths=(4, 6, 8, 8)), x, n=12) for s in ("stride", "lpf"))
    assert 1e-3 < blurred < plain
    assert shift_error(network(sampling="aps", padding="zeros"), x) > 1e-3


def test_all_phase_combinations_of_a_two_level_network():
    x = images((8, 8), batch=1)
    f = network(sampling="aps")
    y = f(x)
    for row in range(8):
        for column in range(8):
            shift = torch.tensor([[row, column]])
            torch.testing.assert_close(f(circular_shift(x, shift)), circular_shift(y, shift), rtol=1e-10, atol=1e-10)


def test_paper_network_has_the_papers_size_and_one_state_dict():
    reference = None
    for sampling, blur in [("stride", None), ("lpf", 3), ("lpf", 6), ("aps", 1), ("aps", 3), ("aps", 7)]:
        with torch.device("meta"):
            net = UNet(sampling=sampling, blur=blur)
        shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
        assert sum(p.numel() for p in net.parameters()) == 31_042_369
        assert reference in (None, shapes)
        reference = shapes


class MonaiUNet(nn.Module):
    """The same architecture from MONAI's own modules alone."""

    def __init__(self, widths, norm, act):
        super().__init__()
        pairs = list(pairwise(widths))
        conv = lambda a, b: TwoConv(2, a, b, act, norm, True)  # noqa: E731
        self.encoders = nn.ModuleList([conv(1, widths[0]), *(conv(a, b) for a, b in pairs)])
        self.pool = Pool[Pool.MAX, 2](kernel_size=2)
        self.ups = nn.ModuleList(UpSample(2, b, a, 2) for a, b in pairs)
        self.decoders = nn.ModuleList(conv(2 * a, a) for a, _ in pairs)
        self.head = Conv[Conv.CONV, 2](widths[0], 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for encoder in self.encoders[:-1]:
            skips.append(encoder(x))
            x = self.pool(skips[-1])
        x = self.encoders[-1](x)
        for level in reversed(range(len(skips))):
            x = self.decoders[level](torch.cat([skips[level], self.ups[level](x)], 1))
        return self.head(x)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_stride_with_zeros_is_monais_network_output_for_output(norm):
    ours = UNet(widths=(4, 8, 16), norm=norm, sampling="stride", padding="zeros")
    monai = MonaiUNet((4, 8, 16), "batch" if norm == "batch" else ("instance", {"affine": True}), ("relu", {}))
    monai.load_state_dict(ours.state_dict())
    x = images((16, 24), torch.float32)
    ours(x), monai(x)  # one step of the running statistics
    for mode in (True, False):
        torch.testing.assert_close(ours.train(mode)(x), monai.train(mode)(x), rtol=1e-5, atol=1e-5)
    with use_kernels(False):  # MONAI's modules themselves
        monai.load_state_dict(ours.state_dict())
        for mode in (True, False):
            assert torch.equal(ours.train(mode)(x), monai.train(mode)(x))
    assert not torch.equal(ours(x), network(torch.float32, norm=norm, sampling="aps")(x))


def test_gradients_flow_and_training_steps_agree_across_phases():
    """A shifted batch gives the same loss and the same gradients: the training itself is equivariant."""
    net = network(sampling="aps", blur=3).train()
    x, target = images((16, 16)), images((16, 16)).flip(2)
    grads = []
    for shift in ([0, 0], [3, 5]):
        shifts = torch.tensor([shift, shift])
        net.zero_grad()
        loss = (net(circular_shift(x, shifts)) - circular_shift(target, shifts)).square().mean()
        loss.backward()
        grads.append([loss.detach()] + [p.grad.clone() for p in net.parameters()])
    for first, second in zip(*grads, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-12)


def test_margins_are_recorded_per_level_and_sample_and_hooks_are_removed():
    net = network(sampling="aps")
    x = torch.cat([images((16, 16), batch=1), torch.zeros(1, 1, 16, 16, dtype=torch.float64)])
    with record_margins(net) as margins:
        net(x)
    assert [len(m) for m in margins] == [2, 2]
    assert all(m[0] > 0 for m in margins)
    assert margins[0][1] == 0  # the blank image is a tie
    net(x)
    assert len(margins) == 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sampling": "apss"}, "did you mean 'aps'"),
        ({"sampling": "alias_free"}, "AliasFreeUNet"),
        ({"sampling": "stride", "blur": 3}, "write sampling lpf or aps"),
        ({"sampling": "lpf", "blur": 1}, "write sampling stride"),
        ({"sampling": "aps", "blur": 9}, "choose 1 to 7"),
        ({"sampling": "aps", "criterion": "linf"}, "linf cannot"),
        ({"sampling": "stride", "criterion": "l1"}, "criterion l1 has no effect with sampling stride"),
        ({"sampling": "lpf", "score_on": "input"}, "score_on input has no effect with sampling lpf"),
        ({"selector": MaxNorm(), "criterion": "l1"}, "criterion l1 has no effect beside a selector"),
        ({"selector": MaxNorm(), "score_on": "input"}, "score_on input has no effect beside a selector"),
        ({"sampling": "lps", "criterion": "l1"}, "sampling lps, whose score is learned: leave it out, or write .* aps"),
        ({"sampling": "lps", "selector": MaxNorm()}, "sampling lps takes no selector of your own"),
        ({"sampling": "lps", "temperature": 0}, "temperature 0 has no softmax"),
        ({"temperature": 2}, "temperature 2 has no effect with sampling aps.* write sampling lps"),
        ({"sampling": "stride", "temperature": 2}, "whose phase is fixed: leave it out, or write sampling lps"),
        ({"sampling": "stride", "criterion": "l22"}, "did you mean 'l2'"),
        ({"sampling": "lpf", "score_on": "inputs"}, "did you mean 'input'"),
        ({"selector": MaxNorm(), "score_on": "middle"}, "output, input"),
        ({"widths": (8,)}, "at least two"),
        ({"residual": True, "out_channels": 2}, "residual"),
        ({"norm": "layer"}, "batch, instance"),
        ({"activation": "gelu"}, "relu"),
        ({"padding": "same"}, "circular, zeros"),
    ],
)
def test_settings_that_cannot_work(settings, says):
    with pytest.raises(InputError, match=says):
        UNet(**({"widths": (4, 8)} | settings))


@pytest.mark.parametrize(
    "settings", [{"sampling": "stride"}, {"sampling": "lpf"}, {"sampling": "lps"}, {"selector": MaxNorm("l1")}]
)
def test_the_defaults_of_old_configurations_are_no_error_where_they_have_no_effect(settings):
    UNet(widths=(4, 8), criterion="l2", score_on="output", **settings)


def test_sizes_that_cannot_work():
    with pytest.raises(InputError, match="pools to one"):
        network(sampling="aps")(torch.zeros(1, 1, 4, 8, dtype=torch.float64))
    with pytest.raises(
        InputError, match=r"width 362 is not a multiple of the total stride 4: crop it to 360 or pad it to 364"
    ):
        network(sampling="aps")(torch.zeros(1, 1, 360, 362, dtype=torch.float64))
