"""Datasets of rows by name, such as those of Hugging Face."""

import pytest
import torch
from PIL import Image
from torch import nn

import geomprobe as gp
from geomprobe.sampling import iterate_batches


class Rows:
    """What such a dataset is to its user: a length, and a mapping at each number."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


TOKENS = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]


def test_rows_of_numbers_become_batches_in_their_order():
    rows = [{"input_ids": ids, "label": number % 2} for number, ids in enumerate(TOKENS)]
    first, second = iterate_batches(Rows(rows), batch_size=3)
    assert first.inputs["input_ids"].tolist() == TOKENS[:3]
    assert first.targets.tolist() == [0, 1, 0]
    assert second.inputs["input_ids"].tolist() == TOKENS[3:]
    assert second.ids.tolist() == [3]


def test_images_and_tensors_in_rows():
    rows = [
        {"pixel_values": Image.new("L", (2, 3), 255), "extra": torch.ones(2), "labels": 1}
        for _ in range(2)
    ]
    [batch] = iterate_batches(Rows(rows))
    assert torch.equal(batch.inputs["pixel_values"], torch.ones(2, 1, 3, 2))
    assert batch.inputs["extra"].shape == (2, 2)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "a film", "label": 1}], "'text' holds what is neither numbers nor an image"),
        ([{"input_ids": [1, 2]}, {"input_ids": [1]}], r"shapes \(1,\) and \(2,\): pad"),
    ],
)
def test_rows_that_cannot_be_stacked_say_which_column_and_what_to_do(rows, said):
    with pytest.raises(ValueError, match=said):
        list(iterate_batches(Rows(rows)))


def test_a_model_gets_the_columns_by_name():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(16, 4), nn.Linear(4, 2)

        def forward(self, input_ids, attention_mask):
            return self.head((self.table(input_ids) * attention_mask[..., None]).mean(dim=1))

    rows = [
        {"input_ids": ids, "attention_mask": [1, 1, 0], "label": number % 2}
        for number, ids in enumerate(TOKENS * 3)
    ]
    report = gp.audit(
        Classifier(), Rows(rows), layers="head", analyzers="persistent_homology", progress=False
    )
    assert report.layers[0]["points"] == 12
    assert not report.partial
