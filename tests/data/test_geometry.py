"""Frames become squares as the official processor makes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from endoscapes_folder import scene

from calot.data.geometry import CentreCrop, Geometry, ShortSideCrop, Squash
from calot.errors import CalotError


def antialiased(image: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Resize as torchvision does for the official processor: antialiased bilinear on uint8."""
    video = torch.from_numpy(image).permute(2, 0, 1)[None]
    out = torch.nn.functional.interpolate(video, size=(height, width), mode="bilinear", antialias=True)
    return out[0].permute(1, 2, 0).numpy()


def grey_levels_apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


IMAGE = scene(1, 25, height=480, width=854)
GEOMETRIES: list[Geometry] = [Squash(), CentreCrop(), ShortSideCrop()]


def test_squash_is_the_antialiased_resize_of_the_whole_frame() -> None:
    assert grey_levels_apart(Squash()(IMAGE, size=256), antialiased(IMAGE, height=256, width=256)) <= 1


def test_centre_crop_480_keeps_the_height_and_drops_187_columns_a_side() -> None:
    expected = antialiased(np.ascontiguousarray(IMAGE[:, 187:667]), height=256, width=256)
    assert grey_levels_apart(CentreCrop()(IMAGE, size=256), expected) <= 1


def test_short_side_crop_is_the_official_292_to_256() -> None:
    scaled = antialiased(IMAGE, height=292, width=519)  # 292 * 854 // 480
    assert grey_levels_apart(ShortSideCrop()(IMAGE, size=256), scaled[18:274, 132:388]) <= 1


@pytest.mark.parametrize(("size", "short"), [(224, 256), (256, 292), (384, 438)])
def test_short_side_follows_the_official_formula_at_any_size(size: int, short: int) -> None:
    marked = np.zeros((short, short + 2, 3), dtype=np.uint8)
    assert ShortSideCrop()(marked, size=size).shape == (size, size, 3)
    assert int(size * ShortSideCrop().short_side_ratio) == short


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_mask_gets_the_same_view_and_no_new_classes(geometry: Geometry) -> None:
    mask = np.zeros((480, 854), dtype=np.uint8)
    mask[:, 427:] = 4
    mask[:100] = 255
    image = np.repeat(mask[:, :, None], 3, axis=2)
    small = geometry.resize_mask(mask, size=64)
    assert set(np.unique(small)) == {0, 4, 255}
    assert (small != geometry(image, size=64)[:, :, 0]).mean() < 0.05  # only where the image blends at an edge


def test_a_crop_beyond_the_frame_is_refused() -> None:
    with pytest.raises(CalotError, match=r"CentreCrop\.crop=480 does not fit a frame of 240 x 854"):
        CentreCrop()(IMAGE[:240], size=64)
    with pytest.raises(CalotError, match=r"short_side_ratio=0\.9"):
        ShortSideCrop(short_side_ratio=0.9)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_geometries_are_values(geometry: Geometry) -> None:
    assert geometry == type(geometry)()
    assert geometry(IMAGE, size=32).dtype == np.uint8
