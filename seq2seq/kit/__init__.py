"""Plumbing that no chapter teaches: budgets, claims, corpora, plots, records of long runs, training, widgets."""

from seq2seq.kit.claims import ClaimError, claim
from seq2seq.kit.torch_setup import device, seed_everything
from seq2seq.kit.training import History, device_of, train

__all__ = ["ClaimError", "History", "claim", "device", "device_of", "seed_everything", "train"]
