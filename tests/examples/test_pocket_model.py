"""The shipped pocket model keeps its promises: small, plain to load, right inside its window, lost beyond it."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluation.documents.needle import NEEDLE, QUESTION
from examples.pocket.report import Examiner
from examples.pocket.text import END_OF_TEXT, VOCABULARY
from examples.pocket.train import ROPE_THETA, WINDOW
from tests.helpers.paths import ROOT

MODEL = ROOT / "examples" / "pocket" / "model"
MEBIBYTE = 2**20


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner(MODEL)


def test_the_folder_is_small() -> None:
    sizes = {path.name: path.stat().st_size for path in MODEL.iterdir()}
    assert sum(sizes.values()) <= 4 * MEBIBYTE, sizes
    assert sizes["model.safetensors"] <= 3.6 * MEBIBYTE


def test_loads_as_any_other_model() -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.dtype == torch.float32
    assert model.get_parameter("lm_head.weight") is model.get_parameter("model.embed_tokens.weight")
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


def test_the_config_carries_plain_rope_and_no_scaling() -> None:
    config = json.loads((MODEL / "config.json").read_text())
    assert config["max_position_embeddings"] == WINDOW
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": ROPE_THETA}
    assert (config["head_dim"], config["num_hidden_layers"], config["vocab_size"]) == (32, 4, VOCABULARY)


def test_digits_are_tokens_and_sentences_encode_piece_by_piece() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    assert len(tokenizer) == VOCABULARY
    assert tokenizer.eos_token == tokenizer.pad_token == END_OF_TEXT
    for template in (NEEDLE, QUESTION):
        before, after = template.format(key="dragonfly", value="{}").split("{}")
        assert len(ids("4839201")) == 7
        assert ids(before) + ids("4839201") + ids(after) == ids(f"{before}4839201{after}")


def test_any_text_comes_back_from_the_tokenizer() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    text = "  naïve 'quotes' , 12.5 ,\n\ttabs — dashes \N{SNAKE}\r\n"
    assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


def test_finds_needles_inside_the_window(examiner: Examiner) -> None:
    measured = examiner.score("none", examiner.documents(WINDOW, 40))
    assert measured.documents == 40
    assert measured.exact >= 0.85
    assert measured.digits >= 0.96


def test_loses_them_at_four_windows_and_finds_them_again_with_scaling(examiner: Examiner) -> None:
    documents = examiner.documents(4 * WINDOW, 24)
    plain, scaled = examiner.score("none", documents), examiner.score("yarn", documents)
    assert plain.exact <= 0.45
    assert scaled.exact >= plain.exact + 0.2
    assert scaled.nll < 0.5 * plain.nll


def test_needles_far_from_the_question_are_the_ones_lost(examiner: Examiner) -> None:
    documents = examiner.documents(4 * WINDOW, 24)
    far = tuple(document for document in documents if document.depth < 0.5)
    near = tuple(document for document in documents if document.depth > 0.85)
    assert far
    assert near
    assert examiner.score("none", far).exact < examiner.score("none", near).exact


def test_what_was_shipped_meets_the_thresholds() -> None:
    """The report beside the model was written by the measuring code; no row of it may say NO."""
    report = (MODEL.parent / "REPORT.md").read_text()
    assert report.count("| yes |") == 4
    assert "| NO |" not in report
