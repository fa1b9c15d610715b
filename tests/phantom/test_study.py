"""The harder phantom: each field does what it says, and at its default nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg

from calot.data.endoscapes.reader import read_endoscapes
from calot.data.verify import verify
from calot.errors import CalotError
from calot.phantom import PRETRAINING_SEED, RECIPES, PhantomSpec, generate, recipe_named, simulate_labels
from calot.phantom.anatomy import ARTERY, LEFT, SCALE, TOP, TRIANGLE, build
from calot.phantom.dynamics import State, exposed, latent_of
from calot.phantom.ignored import IGNORE, with_ignored
from calot.phantom.labels import PREVALENCE, label_video, stream
from calot.phantom.layout import Variety
from calot.phantom.motion import make_track
from calot.phantom.plan import plan_videos
from calot.phantom.recipes import STUDY_SEED, TUNING_SEED
from calot.phantom.render import Renderer
from calot.phantom.spec import HARDER, HEIGHT, TRUTH, WIDTH
from calot.phantom.staging import BLACK, OUTSIDE, Staging, draw_staging
from calot.phantom.strands import ALL_CUT, CLEARED, cut_at
from calot.phantom.turning import Turning, last_seen, turned

PLAIN_SPEC = PhantomSpec(videos=3, seed=4, mean_frames=18, min_frames=18, max_frames=18)
ONE = PhantomSpec(videos=3, seed=1)
NEUTRAL = {name: getattr(PhantomSpec(), name) for name in HARDER}


def _tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def _renderer(*, staging: Staging, share: float = 0.95, spec: PhantomSpec = ONE) -> Renderer:
    labels = label_video(plan_videos(replace(spec, mean_frames=60))[0], spec=spec)
    exposure = np.full_like(labels.state.exposure, share)
    rng = stream(spec, video=labels.plan.video, purpose=2)
    marker = np.zeros(labels.plan.frames, bool)
    renderer = Renderer(labels.state, rng=rng, exposure=exposure, marker=marker, staging=staging)
    renderer.track.present[:] = False
    renderer.track.blood[:] = 0.0
    renderer.track.gauze[:] = False
    return renderer


@pytest.fixture(scope="module")
def plain() -> Renderer:
    return _renderer(staging=Staging())


def test_fields_at_their_defaults_write_the_same_bytes_and_are_not_described(tmp_path):
    for name, fields in (("bare", {}), ("neutral", NEUTRAL)):
        generate(tmp_path / name, replace(PLAIN_SPEC, **fields))
    assert _tree(tmp_path / "bare") == _tree(tmp_path / "neutral")
    about = json.loads((tmp_path / "bare" / "phantom.json").read_text())
    assert not HARDER & set(about["spec"])
    assert "special" not in about["counts"]
    assert not (tmp_path / "bare" / TRUTH).exists()


@pytest.mark.parametrize("name", sorted(HARDER))
def test_a_field_off_its_default_is_described_and_read_back(name):
    spec = replace(PhantomSpec(), **{name: 1 if name in ("strands", "window_masks") else 0.5})
    described = spec.to_dict()
    assert {key for key in described if key in HARDER} == {name}
    assert PhantomSpec(**described | {"split_shares": tuple(described["split_shares"])}) == spec


@pytest.mark.parametrize(("name", "value"), [("black_share", 1.5), ("turn_seconds", -1.0), ("strands", -2)])
def test_a_share_over_one_or_a_negative_amount_is_named(name, value):
    with pytest.raises(CalotError, match=f"{name}={value}"):
        PhantomSpec(**{name: value})


def test_a_recipe_takes_changes_and_an_unknown_one_is_named():
    assert recipe_named("phantom-study", seed=5, videos=None).seed == 5
    assert recipe_named("phantom-study").videos == 220
    with pytest.raises(CalotError, match=r"recipe='study'.*phantom-study"):
        recipe_named("study")


def test_the_seeds_that_are_spoken_for_differ_from_the_demos_and_from_each_other():
    taken = (STUDY_SEED, PRETRAINING_SEED, TUNING_SEED, 0, 1, 42)
    assert len(set(taken)) == len(taken)


def test_what_was_last_seen_stays_until_it_is_seen_again():
    values = np.array([[10.0], [11.0], [12.0], [13.0], [14.0]])
    assert last_seen(values, at=np.array([0, 1, 0, 0, 1], bool))[:, 0].tolist() == [10, 11, 11, 11, 14]


def test_a_criterion_is_judged_by_its_worse_side_and_a_frame_shows_the_side_in_view():
    n = 4
    state = State(q=np.full((n, 3), 1.0), exposure=exposed(np.full((n, 4), 1.0)), view=np.zeros(n))
    adds = np.zeros((2, n, 3))
    adds[1] = -3.0  # the back is closed
    found = turned(state, turning=Turning(side=np.array([0, 0, 1, 0]), adds=adds))
    assert latent_of(found.exposure)[:, 0] == pytest.approx([1, 1, -2, 1])
    assert found.q[:, 0].tolist() == [-2, -2, -2, -2]
    assert not found.met.any()


def test_every_window_of_eight_frames_of_the_study_shows_both_sides():
    spec = recipe_named("phantom-study", seed=TUNING_SEED, videos=30)
    for labels in simulate_labels(spec):
        side = labels.state.side
        for key in labels.plan.keyframes[labels.plan.keyframes >= 7]:
            assert set(side[key - 7 : key + 1].tolist()) == {0, 1}


def test_the_study_keeps_the_real_prevalence_in_every_split():
    videos = simulate_labels(recipe_named("phantom-study", seed=TUNING_SEED))
    for split in ("train", "val", "test"):
        labels = np.concatenate([v.majority for v in videos if v.plan.split == split])
        assert labels.mean(axis=0) == pytest.approx(PREVALENCE[split], abs=0.01)


def test_one_frame_of_the_state_does_not_settle_the_labels_and_the_judged_one_nearly_does():
    videos = simulate_labels(recipe_named("phantom-study", seed=TUNING_SEED))
    labels, shown, judged = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (v.majority[:, 2], v.state.exposure[v.plan.keyframes, 3] > 0.5, v.state.q[v.plan.keyframes, 2] > 0)
                for v in videos
            ),
            strict=True,
        )
    )
    assert labels[judged].mean() > 0.75
    assert labels[shown].mean() < 0.6


def test_strands_are_cut_one_by_one_and_the_window_is_wide_before():
    renderer = _renderer(staging=Staging(variety=Variety(strands=4)))
    cuts = cut_at(4)
    assert CLEARED < cuts[0] < cuts[-1] < ALL_CUT
    steps = [CLEARED + 0.06, *(cut + 0.06 for cut in cuts)]
    areas = []
    for share in steps:
        renderer.exposure[0] = share
        areas.append(int((renderer.frame(0, with_mask=True).mask == TRIANGLE).sum()))
    assert areas == sorted(areas)
    assert len(set(areas)) == len(areas)
    assert areas[0] > 0.4 * areas[-1]


def test_a_narrower_artery_covers_less_of_the_mask(plain):
    thin = _renderer(staging=Staging(variety=Variety(artery=0.5)))
    whole, narrow = (int((r.frame(0, with_mask=True).mask == ARTERY).sum()) for r in (plain, thin))
    assert 0.3 * whole < narrow < 0.75 * whole


def test_a_wider_anatomy_spreads_the_patients():
    def necks(spread: float) -> np.ndarray:
        return np.array([build(np.random.default_rng(s), variety=Variety(anatomy=spread)).neck for s in range(6)]).std(
            axis=0
        )

    assert np.all(necks(2.5) > 1.05 * necks(1.0))


def test_a_mirrored_operation_is_the_same_one_in_a_mirror(plain):
    mirrored = _renderer(staging=Staging(mirrored=True))
    there, here = (r.frame(2, with_mask=True) for r in (plain, mirrored))
    assert np.array_equal(there.rgb[:, ::-1], here.rgb)
    assert np.array_equal(there.mask[:, ::-1], here.mask)


def test_a_posed_camera_puts_a_point_where_the_picture_shows_it():
    pose = np.array(((1.08, -0.3), (0.25, 0.97)))
    renderer = _renderer(staging=Staging(pose=pose, roll=0.25))
    renderer.track.pull[:] = 0.0
    for point in ((1.0, 0.5), (0.8, 0.3)):
        x, y = renderer._to_screen(point, 1)
        maps = [cv2.resize(look, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for look in renderer._maps(1)]
        found = [(maps[i][round(y), round(x)] + 0.5) / SCALE + (LEFT, TOP)[i] for i in (0, 1)]
        assert found == pytest.approx(point, abs=0.006)


def test_zoom_spreads_within_a_video():
    labels = label_video(plan_videos(PhantomSpec(videos=3, seed=1, mean_frames=200))[0], spec=PhantomSpec(videos=3))
    near, wide = (
        np.mean(
            [np.log(make_track(labels.state, rng=np.random.default_rng(s), zoom_spread=z).zoom).std() for s in range(9)]
        )
        for z in (1.0, 2.0)
    )
    assert wide > 1.5 * near


def test_black_and_outside_frames_show_no_structure(plain):
    shows = np.zeros(len(plain.track.zoom), np.int8)
    shows[1], shows[2] = BLACK, OUTSIDE
    renderer = _renderer(staging=Staging(shows=shows))
    black, outside = (renderer.frame(i, with_mask=True) for i in (1, 2))
    assert not black.rgb.any()
    assert outside.rgb.mean() > 20
    assert not black.mask.any()
    assert not outside.mask.any()
    assert np.array_equal(renderer.frame(0, with_mask=False).rgb, plain.frame(0, with_mask=False).rgb)


def test_clips_are_metal_on_tubes_that_are_laid_open_and_nowhere_else(plain):
    clipped = np.ones(len(plain.track.zoom), bool)
    for share, drawn in ((0.95, True), (0.0, False)):
        bare, metal = (_renderer(staging=s, share=share) for s in (Staging(), Staging(clipped=clipped)))
        a, b = (r.frame(0, with_mask=True) for r in (bare, metal))
        changed = np.abs(a.rgb.astype(int) - b.rgb).max(axis=2) > 12
        assert changed.any() == drawn
        assert changed.sum() < 6000
        assert np.array_equal(a.mask, b.mask)


def test_ignored_pixels_lie_on_rims_alone():
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 20:40], mask[10:50, 55:70] = TRIANGLE, 6
    found = with_ignored(mask)
    assert found[30, 30] == TRIANGLE
    assert found[30, 62] == 6
    assert found[30, 20] == found[30, 55] == IGNORE
    assert np.all((found == mask) | (found == IGNORE))
    assert not (found[:, :10] == IGNORE).any()


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("study") / "made"
    changes = {"seed": TUNING_SEED, "videos": 4, "mean_frames": 24.0}
    spec = replace(
        recipe_named("phantom-study", **changes),
        min_frames=23,
        max_frames=28,
        black_share=0.1,
        outside_share=0.1,
        ignored_share=1.0,
    )
    generate(out, spec)
    return out


def test_a_study_folder_says_what_is_special_and_holds_it(study):
    special = json.loads((study / "phantom.json").read_text())["counts"]["special"]
    pictures = [simplejpeg.decode_jpeg(p.read_bytes()) for p in study.glob("*/*.jpg")]
    assert sum(picture.mean() < 1 for picture in pictures) == special["black_frames"] > 0
    assert special["outside_frames"] > 0


def test_a_study_folders_masks_hold_undecided_pixels_and_its_truth_none(study):
    masks = [cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in (study / "semseg").glob("*.png")]
    truth = [cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in (study / TRUTH).glob("*.png")]
    assert any((mask == IGNORE).any() for mask in masks)
    assert not any((mask == IGNORE).any() for mask in truth)
    assert len(truth) > 3 * len(masks)


def test_the_reader_and_the_check_accept_a_study_folder(study):
    assert read_endoscapes(study).dataset == "phantom"
    checked = verify(study, workers=1)
    assert checked.passed, checked.text()
    assert any("were drawn" in note.message for note in checked.notes)


def test_a_black_keyframe_beyond_those_that_were_drawn_is_found(study, tmp_path):
    folder = shutil.copytree(study, tmp_path / "copy")
    black = simplejpeg.encode_jpeg(np.zeros((HEIGHT, WIDTH, 3), np.uint8), colorspace="RGB")
    for mask in (folder / "semseg").glob("*.png"):  # every keyframe has one
        next(folder.glob(f"*/{mask.stem}.jpg")).write_bytes(black)
    checked = verify(folder, workers=1)
    assert {finding.check for finding in checked.findings} == {"black"}


def test_the_staging_of_equal_specs_is_equal(study):
    about = json.loads((study / "phantom.json").read_text())["spec"]
    spec = PhantomSpec(**about | {"split_shares": tuple(about["split_shares"])})
    assert spec.window_masks == RECIPES["phantom-study"].window_masks
    staging = [draw_staging(plan, spec=spec) for plan in plan_videos(spec)]
    again = [draw_staging(plan, spec=spec) for plan in plan_videos(spec)]
    assert all(np.array_equal(a.shows, b.shows) for a, b in zip(staging, again, strict=True))
