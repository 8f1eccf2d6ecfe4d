"""Mapping between the parameter names of the published weights and those of this package."""

from collections.abc import Mapping

from torch import Tensor

_PREFIX = "module."
"""Prefix that data-parallel training adds to every name."""
_CAB = {
    "conv1": "body.0",
    "activation": "body.1",
    "conv2": "body.2",
    "attention.reduce": "CA.conv_du.0",
    "attention.expand": "CA.conv_du.2",
}


def name_map(cabs_per_orb: int) -> dict[str, str]:
    """Return the published name of every parameter by its name in this package.

    Args:
        cabs_per_orb: number of channel attention blocks per original-resolution block.
    """
    cabs = {}
    convs = {"merge1": "concat12", "merge2": "concat23", "tail": "tail"}
    for stage in (1, 2, 3):
        convs[f"shallow{stage}.0"] = f"shallow_feat{stage}.0"
        cabs[f"shallow{stage}.1"] = f"shallow_feat{stage}.1"
    for stage, sam in ((1, "sam12"), (2, "sam23")):
        convs[f"sam{stage}.to_features"] = f"{sam}.conv1"
        convs[f"sam{stage}.to_image"] = f"{sam}.conv2"
        convs[f"sam{stage}.to_mask"] = f"{sam}.conv3"
        encoder, decoder = f"stage{stage}_encoder", f"stage{stage}_decoder"
        for level in (1, 2, 3):
            for block in (0, 1):
                place = f"level{level}.{block}"
                cabs[f"encoder{stage}.{place}"] = f"{encoder}.encoder_{place}"
                cabs[f"decoder{stage}.{place}"] = f"{decoder}.decoder_{place}"
        for level, below in ((1, 2), (2, 3)):
            convs[f"encoder{stage}.down{level}.conv"] = f"{encoder}.down{level}{below}.down.1"
            convs[f"decoder{stage}.up{level}.conv"] = f"{decoder}.up{below}{level}.up.1"
            cabs[f"decoder{stage}.skip{level}"] = f"{decoder}.skip_attn{level}"
    for side, short in (("encoder", "enc"), ("decoder", "dec")):
        for level in (1, 2, 3):
            convs[f"encoder2.fuse_{side}.{level - 1}"] = f"stage2_encoder.csff_{short}{level}"
            convs[f"orsnet.fuse_{side}.{level - 1}"] = f"stage3_orsnet.conv_{short}{level}"
        convs[f"orsnet.up_{side}2.conv"] = f"stage3_orsnet.up_{short}1.up.1"
        for step in (0, 1):
            convs[f"orsnet.up_{side}3.{step}.conv"] = f"stage3_orsnet.up_{short}2.{step}.up.1"
    for orb in (1, 2, 3):
        ours, official = f"orsnet.orbs.{orb - 1}", f"stage3_orsnet.orb{orb}.body"
        convs[f"{ours}.conv"] = f"{official}.{cabs_per_orb}"
        for block in range(cabs_per_orb):
            cabs[f"{ours}.blocks.{block}"] = f"{official}.{block}"
    for ours, official in cabs.items():
        convs |= {f"{ours}.{a}": f"{official}.{b}" for a, b in _CAB.items()}
    return {f"{ours}.weight": f"{official}.weight" for ours, official in convs.items()}


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict has the published parameter names."""
    return any(name.removeprefix(_PREFIX).startswith("shallow_feat1.") for name in state)


def from_official(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename published parameters to the names of this package; unknown names are kept.

    Every alias of the shared PReLU gets its own name, as in ``MPRNet.state_dict``.
    """
    state = {name.removeprefix(_PREFIX): tensor for name, tensor in official.items()}
    block = "stage3_orsnet.orb1.body."
    children = {name.removeprefix(block).split(".")[0] for name in state if name.startswith(block)}
    ours = {theirs: name for name, theirs in name_map(len(children) - 1).items()}
    return {ours.get(name, name): tensor for name, tensor in state.items()}


def to_official(state: Mapping[str, Tensor], cabs_per_orb: int) -> dict[str, Tensor]:
    """Rename the parameters of this package to the published names.

    Args:
        state: state dict of an MPRNet.
        cabs_per_orb: number of channel attention blocks per original-resolution block.

    Raises:
        KeyError: a parameter is missing in ``state``.
    """
    return {theirs: state[ours] for ours, theirs in name_map(cabs_per_orb).items()}
