"""torchvision's feature extractors on our ResNets."""

import pytest
import torch
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from recon.layers import MaxNorm, circular_shift
from recon.networks import ResNet, cifar_resnet20, resnet18, resnet50

NETWORKS = {
    "aps": lambda: resnet18(sampling="aps"),
    "aps3 on the input": lambda: resnet18(sampling="aps", blur=3, score_on="input"),
    "aps3 of bottlenecks": lambda: resnet50(sampling="aps", blur=3),
    "lpf": lambda: resnet18(sampling="lpf"),
    "stride": lambda: resnet18(sampling="stride", padding="zeros"),
    "cifar": lambda: cifar_resnet20(sampling="aps"),
}


def features_of(network: ResNet, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """By hooks, what the extractor must give."""
    found = {}
    for name in ("layer1", "layer3"):
        hook = lambda module, args, y, name=name: found.update({name: y})  # noqa: E731
        network.get_submodule(name).register_forward_hook(hook)
    network(x)
    return found


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_an_extractor_gives_what_the_network_computes(name):
    network = NETWORKS[name]().eval()
    x = torch.randn(2, 3, 64, 96)
    extract = create_feature_extractor(network, ["layer1", "layer3"])
    features, wanted = extract(x), features_of(network, x)
    assert features.keys() == wanted.keys()
    assert all(torch.equal(features[key], wanted[key]) for key in wanted)
    assert "layer2.0.bn1" in get_graph_node_names(network)[1]


@torch.no_grad()
def test_features_of_a_shifted_image_are_shifted():
    """Up to the grid that was chosen: so their mean over the image stays."""
    network = resnet18(sampling="aps").double().eval()
    extract = create_feature_extractor(network, {"layer4": "features"})
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    before = extract(x)["features"].mean((2, 3))
    after = extract(circular_shift(x, torch.tensor([[5, 11]])))["features"].mean((2, 3))
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-12)
    plain = create_feature_extractor(resnet18(sampling="stride").double().eval(), {"layer4": "features"})
    moved = plain(circular_shift(x, torch.tensor([[5, 11]])))["features"].mean((2, 3))
    assert (moved - plain(x)["features"].mean((2, 3))).norm() > 1e-3 * moved.norm()


class Middle(MaxNorm):
    """A selector of somebody else's: the scores of half of the channels."""

    def score(self, x, stride):
        return super().score(x[:, : (x.shape[1] + 1) // 2], stride)


@torch.no_grad()
def test_a_selector_of_ones_own_is_used_everywhere_and_is_as_exact():
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    shifted = circular_shift(x, torch.tensor([[5, 11]]))
    torch.manual_seed(0)
    own = ResNet("resnet18", selector=Middle()).double().eval()
    torch.manual_seed(0)
    papers = ResNet("resnet18").double().eval()
    assert sum(isinstance(m, Middle) for m in own.modules()) == sum(isinstance(m, MaxNorm) for m in papers.modules())
    torch.testing.assert_close(own(shifted), own(x), rtol=1e-10, atol=1e-12)
    assert not torch.allclose(own(x), papers(x))
    create_feature_extractor(own, ["layer2"])
