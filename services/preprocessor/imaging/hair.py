"""Removal of dark hair.

Three steps on the 224 × 224 square: an oriented black-hat finds what is dark, thin *and* long; components
that are not elongated are dropped; what is left is inpainted. A pigment network, dots and the lesion's border
are dark too, but they seldom stay dark along a straight line, so the opening along the line takes them out;
where a network is so fine that its sides join to lines, its many meshes give it away.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from services.preprocessor.imaging.outcomes import Mask, Pixels
from services.preprocessor.imaging.parameters import ImagingParameters

#: Weight of a 2 × 2 window by its pixels, one bit each: top left, top right, bottom left, bottom right.
_EULER_WEIGHTS = np.asarray([0, 1, 1, 0, 1, 0, -2, -1, 1, -2, 0, -1, 0, -1, -1, 0], dtype=np.float64)


@lru_cache(maxsize=8)
def line_kernels(length: int, orientations: int) -> tuple[Pixels, ...]:
    """Digital lines through the centre, 180°/orientations apart, uint8 [length, length] each, length odd.

    Kernel k + orientations/2 is kernel k turned by 90°, and the set is closed under reflection, so that
    turning or mirroring an image turns or mirrors its response and nothing else.
    """
    radius = length // 2
    quarter: list[Pixels] = []
    for k in range(orientations // 2):
        angle = np.pi * k / orientations
        kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.uint8)
        for step in range(-radius, radius + 1):
            x, y = step, step
            if angle <= np.pi / 4:
                y = int(np.sign(step) * np.floor(abs(step) * np.tan(angle) + 0.5))
            else:
                x = int(np.sign(step) * np.floor(abs(step) / np.tan(angle) + 0.5))
            kernel[radius - y, radius + x] = 1
        quarter.append(kernel)
    turned = [np.ascontiguousarray(np.rot90(kernel)) for kernel in quarter]
    return tuple(quarter + turned)


def hair_response(grey: Pixels, parameters: ImagingParameters) -> Pixels:
    """Darkness of thin straight structures, uint8 [h, w], in grey levels.

    For each orientation a black-hat across the hair (closing minus image, after DullRazor: Lee et al. 1997),
    opened along the hair; the largest response over all orientations counts.
    """
    count = parameters.hair_orientations
    across = line_kernels(parameters.hair_width, count)
    along = line_kernels(parameters.hair_length, count)
    # The outermost pixels go on beyond the frame: a dark corner of the lens or a dark edge is not thin.
    margin = parameters.hair_width // 2 + parameters.hair_length // 2
    framed = cv2.copyMakeBorder(grey, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    response = np.zeros(framed.shape, np.uint8)
    for k in range(count):
        black_hat = cv2.morphologyEx(framed, cv2.MORPH_BLACKHAT, across[(k + count // 2) % count])
        cv2.max(response, cv2.morphologyEx(black_hat, cv2.MORPH_OPEN, along[k]), response)
    return np.ascontiguousarray(response[margin:-margin, margin:-margin])


def enclosed_meshes(labels: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int64]:
    """Number of holes in each 8-connected component.

    One minus the Euler number, which follows from the 2 × 2 windows alone (Gray, "Local properties of binary
    images in two dimensions", 1971): (windows with one pixel − windows with three − 2 × diagonal ones) / 4.

    Args:
        labels: int32 [h, w], 0 outside all components.
        count: of labels, the outside included.

    Returns:
        int64 [count]; the first is meaningless.
    """
    framed = np.pad(labels, 1)
    # The pixels of one window touch each other, so they are of one component. Most windows hold none.
    largest = cv2.dilate(framed.astype(np.float32), np.ones((2, 2), np.uint8), anchor=(0, 0))[:-1, :-1]
    rows, columns = np.nonzero(largest)
    corners = (
        framed[rows, columns],
        framed[rows, columns + 1],
        framed[rows + 1, columns],
        framed[rows + 1, columns + 1],
    )
    pattern = sum((corner > 0).astype(np.uint8) << bit for bit, corner in enumerate(corners))
    windows = np.bincount(largest[rows, columns].astype(np.int64), _EULER_WEIGHTS[pattern], count)
    return np.asarray(1 - np.rint(windows / 4), dtype=np.int64)


def hair_mask(rgb: Pixels, parameters: ImagingParameters) -> Mask:
    """Where hair lies, bool [h, w]; all False when the share would exceed the cap."""
    response = hair_response(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8), parameters)
    nothing = np.zeros(response.shape, np.bool_)
    candidates = (response >= parameters.hair_contrast_low).astype(np.uint8)
    if not candidates.any():
        return nothing
    count, found, stats, _ = cv2.connectedComponentsWithStats(candidates, connectivity=8)
    labels = np.asarray(found, dtype=np.int32)
    strong = np.bincount(labels[response >= parameters.hair_contrast_high], minlength=count) > 0
    extent = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    keep = strong & (extent >= parameters.hair_extent)
    keep[0] = False
    if not keep.any():  # as for most photographs; what follows costs as much as all before
        return nothing
    depth = cv2.distanceTransform(candidates, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inside = np.nonzero(labels)
    mean_depth = np.bincount(labels[inside], depth[inside], count) / stats[:, cv2.CC_STAT_AREA]
    keep &= mean_depth <= parameters.hair_mean_depth
    if not keep.any():
        return nothing
    # Networks count towards the cap: between so much texture, a hair cannot be told for sure.
    if _with_flanks(keep[labels]).mean() > parameters.hair_share_cap:
        return nothing
    return _with_flanks((keep & (enclosed_meshes(labels, count) < parameters.network_meshes))[labels])


def _with_flanks(core: Mask) -> Mask:
    """The soft flanks of a hair are half its colour: one pixel more on every side takes them in."""
    return np.asarray(cv2.dilate(core.astype(np.uint8), np.ones((3, 3), np.uint8)), dtype=np.bool_)


def without_hair(rgb: Pixels, parameters: ImagingParameters) -> tuple[Pixels, float]:
    """Return a copy without hair, uint8 [h, w, 3], and the share of pixels that were inpainted, 0–1.

    Inpainting: Telea, "An image inpainting technique based on the fast marching method" (2004).
    """
    hair = hair_mask(rgb, parameters)
    if not hair.any():
        return rgb.copy(), 0.0
    painted = cv2.inpaint(rgb, hair.astype(np.uint8), parameters.inpaint_radius, cv2.INPAINT_TELEA)
    return np.asarray(painted, dtype=np.uint8), float(hair.mean())
