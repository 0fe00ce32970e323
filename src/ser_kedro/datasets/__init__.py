"""Kedro datasets: preference files, and references into the store."""

from ser_kedro.datasets.preference_dataset import PreferenceDataset
from ser_kedro.datasets.reference_dataset import ReferenceDataset

__all__ = ["PreferenceDataset", "ReferenceDataset"]
