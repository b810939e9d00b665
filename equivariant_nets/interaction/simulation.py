"""Clicks of a simulated user, who corrects a segmentation towards the true one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from scipy import ndimage
from torch import Tensor

from equivariant_nets.interaction.guidance import add_click, check_label_names, check_sigma, content_of_image

__all__ = ["AddSimulatedClicksd", "click_in", "next_click"]

Voxel = tuple[int, int, int]


def next_click(
    pred: Any, label: Any, label_names: Mapping[str, int], within: Tensor | None = None
) -> tuple[str, Voxel] | None:
    """Where a user would click next: in the middle of the largest wrong component.

    A component belongs to one true label and is connected through the faces of its voxels. Its middle is the voxel
    that is farthest from its border.

    Args:
        pred: the segmentation, a label map ``(D, H, W)``; array or tensor.
        label: the true label map ``(D, H, W)``.
        label_names: the value in both maps of each name, with the background.
        within: booleans ``(D, H, W)``, where the user clicks; everywhere if None.

    Returns:
        the name of the true label and the voxel index; None where all voxels are right.

    Raises:
        ValueError: the maps differ in shape, are not three-dimensional, or hold values without a name.

    Example:
        >>> import numpy as np
        >>> from equivariant_nets.interaction import next_click
        >>> label = np.zeros((9, 9, 9))
        >>> label[2:7, 3:6, 3:6] = 1
        >>> next_click(np.zeros((9, 9, 9)), label, {"spleen": 1, "background": 0})
        ('spleen', (4, 4, 4))
    """
    predicted, true = _checked_maps(pred, label, label_names)
    is_wrong = predicted != true
    if within is not None:
        is_wrong &= np.asarray(within.cpu())
    wrong = {name: _largest_component((true == value) & is_wrong) for name, value in label_names.items()}
    name = max(wrong, key=lambda key: wrong[key].sum())
    return (name, click_in(wrong[name])) if wrong[name].any() else None


def click_in(region: np.ndarray, at_random: bool = False) -> Voxel:
    """A voxel inside a region ``(D, H, W)``, booleans: the one that is farthest from the border.

    Args:
        region: not empty.
        at_random: draw the voxel by torch's random state instead, with weights exp(distance from the border), much as
            DeepEdit does.
    """
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(region))
    # Beyond the volume nothing belongs to the region.
    distance = ndimage.distance_transform_edt(np.pad(region[box], 1))[1:-1, 1:-1, 1:-1]
    voxels = np.argwhere(distance > 0)
    depth = distance[distance > 0]
    if at_random:
        chosen = int(torch.multinomial(torch.from_numpy(np.exp(depth - depth.max())), 1))
    else:
        deepest = np.flatnonzero(depth == depth.max())
        off_centre = ((voxels[deepest] - voxels.mean(0)) ** 2).sum(1)
        chosen = deepest[off_centre.argmin()]
    x, y, z = (int(n) + side.start for n, side in zip(voxels[chosen], box, strict=True))
    return x, y, z


class AddSimulatedClicksd(MapTransform):
    """Adds to the channels of an image the clicks of a simulated user, one for each label that is wrong somewhere.

    It is a click transform for ``monai.apps.deepedit.interaction.Interaction``, which calls it after each prediction
    of a round. A click lies at random inside the largest component of a label that was segmented otherwise. MONAI's
    ``AddRandomGuidanceDeepEditd`` draws from a random state that no seed reaches here and from Python's, keeps the
    clicks of the case before, and does not batch; here the channels of the image are all that there is to keep.

    Args:
        keys: keys of the images, whose channels behind ``image_channels`` are those of
            :class:`equivariant_nets.interaction.AddClickGuidanced`.
        label_names: the value in the label map of each name, in the order of the channels.
        sigma: standard deviation of the Gaussian at a click, in voxels.
        image_channels: number of channels of the image itself.
        within_content: as of :class:`equivariant_nets.interaction.AddClickGuidanced`; there the user clicks alone.
        pred_key: key of the network's output ``(classes, D, H, W)``.
        label_key: key of the true label map ``(1, D, H, W)``.
        probability_key: key of the probability that the user clicks in this round.

    Raises:
        ValueError: names or values of labels are not legal; on call, as :func:`next_click`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_names: Mapping[str, int],
        sigma: float = 2.0,
        image_channels: int = 1,
        within_content: bool = False,
        pred_key: str = "pred",
        label_key: str = "label",
        probability_key: str = "probability",
    ) -> None:
        super().__init__(keys)
        self.label_names = check_label_names(label_names)
        self.sigma = check_sigma(sigma)
        self.image_channels = image_channels
        self.within_content = within_content
        self.pred_key = pred_key
        self.label_key = label_key
        self.probability_key = probability_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        if float(torch.rand(())) >= float(d[self.probability_key]):
            return d
        pred, label = _checked_maps(d[self.pred_key].argmax(0), d[self.label_key][0], self.label_names)
        keys = [*self.key_iterator(d)]
        within = {key: content_of_image(d[key][: self.image_channels]) for key in keys if self.within_content}
        is_wrong = pred != label
        for content in within.values():
            is_wrong &= np.asarray(content[0].cpu())
        for channel, value in enumerate(self.label_names.values(), self.image_channels):
            wrong = _largest_component((label == value) & is_wrong)
            if wrong.any():
                point = click_in(wrong, at_random=True)
                for key in keys:
                    d[key] = add_click(d[key], channel, point, self.sigma, within.get(key))
        return d


def _checked_maps(pred: Any, label: Any, label_names: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    maps = [m.detach().cpu().numpy() if isinstance(m, Tensor) else np.asarray(m) for m in (pred, label)]
    if maps[0].shape != maps[1].shape or maps[0].ndim != 3:
        raise ValueError(
            f"The shapes of the segmentation and the label map are {maps[0].shape} and {maps[1].shape}; legal are two "
            "maps (D, H, W) on one grid, without a channel axis."
        )
    for what, values in zip(("segmentation", "label map"), map(np.unique, maps), strict=True):
        if unnamed := sorted(set(values.tolist()) - set(label_names.values())):
            raise ValueError(f"The {what} holds {unnamed}, which have no name: label_names is {dict(label_names)}.")
    return maps[0], maps[1]


def _largest_component(region: np.ndarray) -> np.ndarray:
    components, number = ndimage.label(region)
    if not number:
        return region
    return components == 1 + np.bincount(components.ravel())[1:].argmax()
