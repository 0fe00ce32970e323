"""Kedro datasets: preference files, references into the store, Pydantic models."""

from ser_kedro.datasets.preference_dataset import PreferenceDataset
from ser_kedro.datasets.pydantic_json_dataset import PydanticJSONDataset
from ser_kedro.datasets.reference_dataset import ReferenceDataset

__all__ = ["PreferenceDataset", "PydanticJSONDataset", "ReferenceDataset"]
