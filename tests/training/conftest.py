"""What tests of reward models share."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
)

from ser_kedro.models.encode import Encoder
from ser_kedro.store.tables import read_table


@pytest.fixture
def break_off(monkeypatch):
    """Break a training off at its nth step; what is returned lists all steps."""
    from ser_kedro.training.run import Progress

    def at(count):
        on_step_end, steps = Progress.on_step_end, []

        def end(self, args, state, *rest, **more):
            steps.append(state.global_step)
            if len(steps) == count:
                raise KeyboardInterrupt
            on_step_end(self, args, state, *rest, **more)

        monkeypatch.setattr(Progress, "on_step_end", end)
        return steps

    return at


@pytest.fixture
def make_bert(project):
    """Make a folder with a tiny BERT that spells words; seeds and sizes are fixed."""

    def make(name="bert", **changes):
        folder = project / "data" / "store" / name
        letters = "abcdefghijklmnopqrstuvwxyz"
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", "?", ",", "."]
        tokens = [*special, *letters, *(f"##{letter}" for letter in letters)]
        tokenizer = BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokens),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            **changes,
        )
        BertForMaskedLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


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
