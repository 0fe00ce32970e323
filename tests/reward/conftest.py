"""What tests of reward models share."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ser_kedro.launch.table import read_table
from ser_kedro.reward.encode import Encoder


@pytest.fixture
def rewards_of_texts():
    """Return rewards as anybody would compute them, shape ``(n, 2)``."""

    def rewards(folder, table):
        """From the folder and the text alone."""
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        texts = Encoder(tokenizer, 256)
        found = []
        for row in read_table(table).to_pylist():
            for response in (row["chosen"], row["rejected"]):
                text = texts.text(row["prompt"], response)
                ids = tokenizer(text, return_tensors="pt")
                with torch.no_grad():
                    found.append(model(**ids).logits.item())
        return np.array(found).reshape(-1, 2)

    return rewards
