import pytest
import torch

from geomprobe.hooks.masks import padding_mask

REAL = torch.tensor([[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    "given",
    [
        {"input_ids": REAL, "attention_mask": REAL},
        {"batch": {"input_ids": REAL, "attention_mask": REAL}},
        {"src": REAL, "src_key_padding_mask": REAL == 0},
        {"src": REAL, "key_padding_mask": REAL == 0},
        {"x": REAL, "attention_mask": REAL.bool()},
        {"x": REAL, "attention_mask": REAL.half()},
    ],
)
def test_conventions_of_libraries_are_known(given):
    assert padding_mask("auto", given, 2).tolist() == REAL.bool().tolist()


@pytest.mark.parametrize(
    "given",
    [
        {"x": REAL},
        {"x": REAL, "attention_mask": None},
        {"x": REAL, "attention_mask": torch.zeros(3, 3, dtype=torch.long)},
        {"x": REAL, "attention_mask": torch.zeros(2, 1, 3, 3, dtype=torch.long)},
        {"x": REAL, "attention_mask": torch.zeros(2, 3)},
    ],
)
def test_what_is_no_padding_mask_is_not_taken_for_one(given):
    assert padding_mask("auto", given, 2) is None


def test_a_mask_can_be_named_computed_or_switched_off():
    given = {"tokens": torch.tensor([[5, 0, 0], [6, 7, 0]]), "valid": REAL, "attention_mask": REAL}
    assert padding_mask("valid", given, 2).tolist() == REAL.bool().tolist()
    computed = padding_mask(lambda given: given["tokens"] != 0, given, 2)
    assert computed.tolist() == [[True, False, False], [True, True, False]]
    assert padding_mask(None, given, 2) is None


def test_a_mask_that_is_not_there_or_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"no argument 'mask' as a mask, but \['x'\]"):
        padding_mask("mask", {"x": REAL}, 2)
    with pytest.raises(ValueError, match=r"shape \(2, positions\), got \(3,\)"):
        padding_mask(lambda given: torch.ones(3), {"x": REAL}, 2)
    with pytest.raises(ValueError, match=r"shape \(2, positions\), got list"):
        padding_mask("x", {"x": [1, 2]}, 2)


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.float32])
def test_a_causal_mask_of_as_many_tokens_as_samples_tells_no_padding(dtype):
    causal = torch.ones(5, 5).tril()
    for mask in (causal, 1 - causal):
        assert padding_mask("auto", {"attention_mask": mask.to(dtype)}, 5) is None
    lengths = torch.ones(5, 5).tril()
    lengths[4] = lengths[1]  # Of a batch of sequences, no two of which need differ.
    assert padding_mask("auto", {"attention_mask": lengths.to(dtype)}, 5).sum() == 12


def test_a_mask_that_is_added_to_scores_tells_padding():
    real = torch.tensor([[1, 1, 0], [1, 0, 0]])
    for hidden in (-torch.inf, torch.finfo(torch.float32).min):
        added = torch.zeros(2, 3).masked_fill(real == 0, hidden)
        for name in ("attention_mask", "src_key_padding_mask"):
            assert padding_mask("auto", {name: added}, 2).tolist() == (real != 0).tolist()
    assert padding_mask("auto", {"src_key_padding_mask": torch.zeros(2, 3)}, 2) is None


def test_with_a_cache_of_the_past_the_last_positions_count():
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    given = {"input_ids": torch.ones(2, 1), "attention_mask": mask, "past_key_values": object()}
    assert padding_mask("auto", given, 2).tolist() == [[True], [True]]
    assert padding_mask("auto", {**given, "past_key_values": None}, 2).shape == (2, 4)
