"""How often the bootstrap draws subjects, by default; the command line reads it before numpy is loaded."""

from __future__ import annotations

RESAMPLES = 1000
