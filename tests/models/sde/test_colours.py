"""Colours of stripes as an embedder: what they tell apart, and what leaves them as they are."""

import hashlib
import json
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
from onnx_models import write_mean_embedder

from jde_ray.models.sde.colours import COLOUR_BINS, LIGHTNESS_BINS, STRIPES, ColourStripes
from jde_ray.models.sde.declaration import COLOURS, DeclarationError, sha256_of
from jde_ray.models.sde.declaration_file import COLOURS_SHARE, read_declaration, read_embedder
from jde_ray.models.sde.network import AppearanceEmbedder

BOX = np.array([[10, 10, 50, 130]], np.float32)
DIM = STRIPES * (LIGHTNESS_BINS + COLOUR_BINS**2)


@pytest.fixture(scope="module")
def embedder():
    return AppearanceEmbedder(read_embedder(COLOURS), open_network=lambda *_: ColourStripes())


def person(top, legs, size=(60, 140)):
    picture = np.full((size[1], size[0], 3), 120, np.uint8)
    middle = size[1] // 2
    picture[:middle], picture[middle:] = top, legs
    return picture


def look(embedder, picture, tlbr=BOX):
    (vector,) = embedder.embed(picture, tlbr)
    return vector


def test_a_vector_has_length_1_and_the_same_crops_the_same_vector(embedder):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (200, 300, 3), np.uint8)
    tlbr = np.array([[0, 0, 40, 120], [100, 50, 180, 190], [0, 0, 40, 120], [5, 5, 6, 6]])
    vectors = embedder.embed(picture, tlbr.astype(np.float32))
    assert vectors.shape == (4, embedder.width) == (4, DIM)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0], rtol=1e-6)
    assert (vectors[0] == vectors[2]).all()
    for row, box in enumerate(tlbr.astype(np.float32)):  # whoever stands beside them
        assert (look(embedder, picture, box[None]) == vectors[row]).all()


def test_clothes_tell_people_apart_and_size_and_side_do_not(embedder):
    red, blue, black = (200, 40, 40), (40, 60, 200), (20, 20, 20)
    first = look(embedder, person(red, black))
    larger = look(embedder, person(red, black, (240, 560)), 4 * BOX)
    assert first @ larger > 0.99
    mixed = person(red, black)
    mixed[:70, :30] = blue
    assert look(embedder, mixed) @ look(embedder, mixed[:, ::-1]) > 0.99
    others = [person(blue, black), person(black, red), person(red, blue), person(black, black)]
    assert all(first @ look(embedder, other) < 0.85 for other in others)


def test_a_little_more_light_changes_little(embedder):
    rng = np.random.default_rng(1)
    clothes = [rng.integers(30, 200, (2, 3)) for _ in range(12)]
    light = [look(embedder, person(*np.clip(1.1 * pair, 0, 255))) for pair in clothes]
    vectors = np.array([look(embedder, person(*pair)) for pair in clothes])
    same = np.array([vector @ other for vector, other in zip(vectors, light, strict=True)])
    different = (vectors @ np.array(light).T)[~np.eye(12, dtype=bool)]
    assert same.min() > np.quantile(different, 0.95)


def test_histograms_are_those_of_a_plain_loop():
    rng = np.random.default_rng(2)
    network = ColourStripes()
    crop = network.resized(rng.integers(0, 256, (90, 33, 3), np.uint8))
    lab = cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    height, width = lab.shape[:2]
    light = np.zeros((STRIPES, LIGHTNESS_BINS))
    colour = np.zeros((STRIPES, COLOUR_BINS, COLOUR_BINS))
    for row in range(height):
        for column in range(width):
            across, down = (column + 0.5) / width * 2 - 1, (row + 0.5) / height * 2 - 1
            weight = np.exp(-(across**2) / (2 * 0.375**2)) * np.exp(-(down**6))
            stripe = row * STRIPES // height
            places = lab[row, column] / (100, 50, 50) + (0, 0.5, 0.5)
            sides = np.clip(places, 0, 1) * (LIGHTNESS_BINS - 1, COLOUR_BINS - 1, COLOUR_BINS - 1)
            below = np.minimum(sides.astype(int), (LIGHTNESS_BINS - 2, *[COLOUR_BINS - 2] * 2))
            share = sides - below
            for step in (0, 1):
                light[stripe, below[0] + step] += weight * abs(1 - step - share[0])
                for other in (0, 1):
                    both = abs(1 - step - share[1]) * abs(1 - other - share[2])
                    colour[stripe, below[1] + step, below[2] + other] += weight * both
    light /= light.sum(axis=1, keepdims=True)
    colour /= colour.sum(axis=(1, 2), keepdims=True)
    expected = np.sqrt(np.concatenate([light, colour.reshape(STRIPES, -1)], axis=1)).ravel()
    (found,) = network([crop])
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_a_crops_histograms_do_not_depend_on_its_neighbours():
    pictures = list(np.random.default_rng(1).integers(0, 256, (37, 48, 16, 3), np.uint8))
    colours = ColourStripes()
    (together,) = colours(pictures)
    alone = np.concatenate([colours([picture])[0] for picture in pictures])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(
        np.linalg.norm(together.reshape(37 * STRIPES, -1), axis=1), 2**0.5, rtol=1e-6
    )


def test_it_may_stand_beside_a_detector(tmp_path):
    text = "detector: {file: a.onnx, layout: fastestdet, size: 32x32}\nembedder: EMBEDDER\n"
    for number, name in enumerate((COLOURS, "colour")):
        (tmp_path / f"{number}.yaml").write_text(text.replace("EMBEDDER", name))
    assert read_declaration(tmp_path / "0.yaml").embedder == read_embedder(COLOURS)
    with pytest.raises(DeclarationError, match="embedder: got colour, expected colours, "):
        read_declaration(tmp_path / "1.yaml")


def test_its_fingerprint_needs_no_file_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digest = sha256_of({"reid": read_embedder(COLOURS)})
    assert (
        digest == "feaa79e474bc9510aca6a0310408cdea71c3d982ee4b0303da12f04fd6be8148"
    )  # with other histograms, raise the version in SETTINGS
    assert read_embedder(COLOURS).is_colours


def test_they_stand_beside_a_network(embedder, tmp_path):
    """Each part keeps its own vectors; cosines are weighed by the squares of the shares."""
    pytest.importorskip("onnxruntime")
    file = write_mean_embedder(tmp_path / "look.onnx")
    (tmp_path / "half.yaml").write_text("file: look.onnx\ncolours: 0.5\n")
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (200, 300, 3), np.uint8)
    tlbr = np.array([[0, 0, 40, 120], [100, 50, 180, 190], [5, 5, 6, 6]], np.float32)
    colours = embedder.embed(picture, tlbr)
    for declared, share in ((f"{file}+colours", COLOURS_SHARE), (tmp_path / "half.yaml", 0.5)):
        both = AppearanceEmbedder(read_embedder(declared))
        plain = replace(read_embedder(declared), colours=0.0)
        alone = AppearanceEmbedder(plain).embed(picture, tlbr)
        vectors = both.embed(picture, tlbr)
        assert vectors.shape == (3, both.width) == (3, alone.shape[1] + DIM)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0], rtol=1e-6)
        wanted = (1 - share**2) * alone @ alone.T + share**2 * colours @ colours.T
        np.testing.assert_allclose(vectors @ vectors.T, wanted, atol=1e-6)
        assert sha256_of({"reid": read_embedder(declared)}) != sha256_of({"reid": plain})


def test_without_them_a_fingerprint_is_that_of_earlier_versions(tmp_path):
    plain = read_embedder(write_mean_embedder(tmp_path / "look.onnx"))
    facts = {**asdict(plain), "file": hashlib.sha256(plain.file.read_bytes()).hexdigest()}
    del facts["colours"]
    text = json.dumps({"reid": facts}, sort_keys=True)
    assert sha256_of({"reid": plain}) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("colours+colours", "beside themselves"),
        ("nothing+colours", "nothing is neither a file nor a shipped model"),
        ("look.yaml", "colours: got 1.0, expected from 0 to below 1"),
    ],
)
def test_what_cannot_stand_beside_them_is_refused(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "look.yaml").write_text("file: look.onnx\ncolours: 1\n")
    with pytest.raises(DeclarationError, match=rf"^reid: [^\n]*{message}[^\n]*$"):
        read_embedder(name)


def test_a_detector_has_none(tmp_path):
    path = tmp_path / "pair.yaml"
    path.write_text("detector: {file: d.onnx, layout: fastestdet, colours: 0.5}\n")
    with pytest.raises(DeclarationError, match=r"colours: got 0\.5, expected it of the embedder"):
        read_declaration(path)
