"""Plumbing that no chapter teaches: budgets, claims, corpora, plots, records of long runs, training, widgets."""

from seq2seq.kit.claims import ClaimError, claim
from seq2seq.kit.torch_setup import device, seed_everything
from seq2seq.kit.training import History, train

__all__ = ["ClaimError", "History", "claim", "device", "seed_everything", "train"]
