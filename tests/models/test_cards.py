"""Model cards: heads, texts and files agree, and names resolve through them."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from jde_ray.models import cards
from jde_ray.models.cards import JOINT, REID, read_card, read_head
from jde_ray.models.jde import int8, weights
from jde_ray.models.reid import weights as reid

HEAD = yaml.safe_dump(read_head(JOINT.folder / "small.md"), sort_keys=False)


@pytest.fixture(params=JOINT.cards(), ids=JOINT.names())
def card(request):
    return request.param


@pytest.mark.parametrize(
    ("shelf", "name"), [(JOINT, "small"), (REID, "reid-small"), (REID, "reid-open")]
)
def test_every_network_has_a_card_whose_files_are_there(shelf, name):
    known = shelf.cards()
    assert name in [one.name for one in known]
    assert not [name for one in known for name in one.damaged()]
    named = {name for one in known for name in one.files}
    shipped = {path.name for path in shelf.folder.iterdir() if path.suffix != ".md"}
    assert named == shipped


@pytest.mark.parametrize(
    ("card", "files"),
    [(card, files) for shelf, files in ((JOINT, weights), (REID, reid)) for card in shelf.cards()],
    ids=lambda one: getattr(one, "name", ""),
)
def test_a_head_says_what_the_network_is(card, files):
    model = files.load(card.weights)
    assert card.parameters == sum(values.numel() for values in model.parameters())
    assert card.size == model.config.size
    assert weights.sha256(card.weights) == card.sha256
    licence = files.metadata(card.weights)["licence"].lower().replace(" ", "-")
    assert licence.startswith(card.licence)
    assert card.is_commercial == ("non-commercial" not in licence)


def test_its_quantised_file_is_found_beside_it(card):
    assert card.int8_file == (f"{card.name}{cards.INT8_SUFFIX}" if int8.find(card.name) else "")


@pytest.mark.parametrize("card", REID.cards(), ids=REID.names())
def test_a_text_repeats_the_head_of_a_re_identification_network(card):
    text = _facts_in_text(card)
    titles = re.search(r"\| left out \| (.*) \|", text)[1].split(" | ")
    line = re.search(r"\| \*\*mean\*\* \| (.*) \|", text)[1].replace("*", "").split(" | ")
    whole = dict(zip(titles, line, strict=True))
    assert card.scores == {name: float(whole[name]) for name in card.scores}


def _facts_in_text(card):
    """The text of a card, whose digest, parameters, size and licence are those of its head."""
    text = card.path.read_text().split("---\n", 2)[2]
    (digest,) = re.findall(r"sha256 `([0-9a-f]+)\.\.\.`", text)
    assert card.sha256.startswith(digest)
    assert f"{card.parameters / 1e6:.2f} M parameters" in text
    assert "x".join(map(str, card.size)) in text
    assert card.licence in text.lower().replace(" ", "-")
    return text


def test_a_text_repeats_its_head(card):
    """Also speed, and the line of scores over all unseen sequences."""
    text = _facts_in_text(card)
    unseen = text.split("## Scores on sequences left out")[1]
    titles = re.search(r"\| left out \| (.*) \|", unseen)[1].split(" | ")
    line = (
        re.search(r"\| \*\*(?:all|these) four\*\* \| (.*) \|", unseen)[1]
        .replace("*", "")
        .split(" | ")
    )
    whole = dict(zip(titles, line, strict=False))
    assert card.scores == {name: float(whole[name]) for name in card.scores}
    assert f"{card.per_second:.1f}" in unseen


@pytest.mark.parametrize("card", [*JOINT.cards(), *REID.cards()], ids=lambda card: card.name)
def test_a_head_has_the_keys_of_model_hubs(card):
    head = read_head(card.path)
    assert {"license", "library_name", "pipeline_tag", "datasets", "metrics"} <= head.keys()
    (result,) = head["model-index"][0]["results"]
    assert set(result) == {"task", "dataset", "metrics"}
    assert [one["type"] for one in result["metrics"]] == head["metrics"]


def test_a_damaged_file_is_named(card, tmp_path, monkeypatch):
    (tmp_path / f"{card.name}.safetensors").write_bytes(b"cut")
    assert replace(card, path=tmp_path / card.path.name).damaged() == list(card.files)


def test_names_resolve_through_the_index(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "JOINT", replace(JOINT, folder=tmp_path))
    (tmp_path / "tiny.safetensors").write_bytes(b"")
    assert weights.resolve("tiny") == tmp_path / "tiny.safetensors"
    text = r"weights: tinny is neither a file nor a shipped model \(shipped: tiny\); did you mean"
    with pytest.raises(weights.CheckpointError, match=text):
        weights.resolve("tinny")
    for name in ("../tiny", "tiny.safetensors", ""):
        assert cards.JOINT.find(name) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# Model card", "has no YAML head"),
        ("---\nlicense: mit\n", "has no head that can be read"),
        ("---\n[1, 2]\n---\n", "has no YAML head"),
        ("---\n{a: [}\n---\n", "has no head that can be read"),
        (f"---\n{HEAD.replace('commercial:', 'comercial:')}---\n", "lacks 'commercial'"),
        (f"---\n{HEAD.replace('576x320', '576')}---\n", "has another form"),
        (f"---\n{HEAD.replace('class: cpu', 'class: fast')}---\n", "expected cpu | gpu"),
        (f"---\n{HEAD.replace('name: small', 'name: large')}---\n", "is of large, expected small"),
    ],
)
def test_a_head_without_a_fact_is_one_line(tmp_path, text, message):
    path = tmp_path / "small.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^card: [^\n]*$") as caught:
        read_card(path)
    assert message in str(caught.value)


def test_the_index_needs_no_torch():
    code = "import sys; from jde_ray.models.cards import JOINT; JOINT.cards(); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
