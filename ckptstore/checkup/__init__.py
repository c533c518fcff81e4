"""Try out a store before a week of training rests on it."""

from ckptstore.checkup.doctor import doctor, examine
from ckptstore.checkup.report import Check, CheckUp, Speed

__all__ = ["Check", "CheckUp", "Speed", "doctor", "examine"]
